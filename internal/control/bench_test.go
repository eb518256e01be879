package control_test

import (
	"fmt"
	"testing"
	"time"

	"interdict/internal/bundle"
	"interdict/internal/cloudapp"
	"interdict/internal/control"
	"interdict/internal/control/controltest"
	"interdict/internal/control/presence"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/store"
)

// fill makes a large fleet without the detour of enrolling it.
func fill(tb testing.TB, c store.Config, devices, indicators int) {
	tb.Helper()
	st, err := store.Open(tb.Context(), c)
	if err != nil {
		tb.Fatal(err)
	}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	_, err = st.Change(tb.Context(), func(tx *store.Tx) error {
		for i := range devices {
			if err = tx.Devices().Put(fleet.Device{ID: deviceID(i), Name: fmt.Sprint(i), Hostname: "host", AgentVersion: "1", EnrolledAt: at, Version: 1}); err != nil {
				return err
			}
		}
		for i := range indicators {
			err = tx.Indicators().Put(indicator.Indicator{
				ID: fmt.Sprintf("01JNXC8V7Y%016d", i), Type: indicator.TypeDomain, Value: fmt.Sprintf("host-%d.bad.example", i),
				Action: indicator.ActionBlock, Source: indicator.SourceCustom, CreatedAt: at,
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	if err := st.Close(); err != nil {
		tb.Fatal(err)
	}
}

func deviceID(i int) fleet.DeviceID { return fleet.DeviceID(fmt.Sprintf("01JNXC8V80%016d", i)) }

// BenchmarkTagToNudges measures from TagApps until every one of 10,000
// connected devices, with 100,000 indicators, has its nudge waiting.
func BenchmarkTagToNudges(b *testing.B) {
	c := store.Config{Dir: b.TempDir()}
	fill(b, c, 10_000, 100_000)
	s := controltest.Start(b, c, controltest.NewClock())
	sessions := make([]*presence.Session, 10_000)
	for i := range sessions {
		d := controltest.Device{Server: s, ID: deviceID(i)}
		sessions[i] = d.Open()
		controltest.Next(b, sessions[i], bundle.MessageHello)
	}
	b.ResetTimer()
	for i := range b.N {
		tag := cloudapp.TagUnsanctioned
		if i%2 == 1 {
			tag = cloudapp.TagNone
		}
		s.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: tag})
		b.StopTimer()
		for _, session := range sessions {
			controltest.Next(b, session, bundle.MessageNudge)
		}
		b.StartTimer()
	}
}

// BenchmarkAcknowledge measures durable acknowledgements by many devices at
// the same time.
func BenchmarkAcknowledge(b *testing.B) {
	c := store.Config{Dir: b.TempDir()}
	fill(b, c, 1000, 0)
	s := controltest.Start(b, c, controltest.NewClock())
	b.SetParallelism(100)
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if err := s.Applied(b.Context(), deviceID(i%1000), fleet.Applied{Version: 1, Digest: "d"}); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkPolicyStatus measures the counts of a policy that 10,000 devices have
// to enforce.
func BenchmarkPolicyStatus(b *testing.B) {
	c := store.Config{Dir: b.TempDir()}
	fill(b, c, 10_000, 0)
	s := controltest.Start(b, c, controltest.NewClock())
	s.NewPolicy("standard", fleet.ModeBlock)
	b.ResetTimer()
	for range b.N {
		status, err := s.PolicyStatus(b.Context(), "standard")
		if err != nil || status.Counts.Offline != 10_000 {
			b.Fatalf("got %+v (%v), want all devices offline", status.Counts, err)
		}
	}
}

// BenchmarkReconnect measures the reconnecting of a device that says the same of
// itself as before. Nothing of it waits for the store.
func BenchmarkReconnect(b *testing.B) {
	c := store.Config{Dir: b.TempDir()}
	fill(b, c, 10_000, 0)
	s := controltest.Start(b, c, controltest.NewClock())
	before := s.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagSanctioned})
	b.ResetTimer()
	for i := range b.N {
		session, err := s.Connect(b.Context(), deviceID(i%10_000), bundle.Facts{Hostname: "host", AgentVersion: "1"})
		if err != nil {
			b.Fatal(err)
		}
		session.Close()
	}
	b.StopTimer()
	if after := s.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagNone}); after.Revision != before.Revision+1 {
		b.Errorf("it made %d changes", after.Revision-before.Revision-1)
	}
}
