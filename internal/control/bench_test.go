package control_test

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"interdict/internal/bundle"
	"interdict/internal/cloudapp"
	"interdict/internal/control"
	"interdict/internal/control/controltest"
	"interdict/internal/control/edit"
	"interdict/internal/control/groups"
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

// ruleFleet fills a store with 10,000 devices in 500 groups, nine in ten of
// them by rules, and 200 policies for such groups. Nobody is in the first
// group, and its policy goes before the others'.
func ruleFleet(tb testing.TB, c store.Config) {
	tb.Helper()
	st, err := store.Open(tb.Context(), c)
	if err != nil {
		tb.Fatal(err)
	}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	_, err = st.Change(tb.Context(), func(tx *store.Tx) error {
		var faults []error
		for i := range 10_000 {
			faults = append(faults, tx.Devices().Put(labelledDevice(i, at)))
		}
		for i := range 500 {
			faults = append(faults, putRuleGroup(tx, i, at))
		}
		for i := range 200 {
			faults = append(faults, tx.Policies().Put(rulePolicy(i, at)))
		}
		return errors.Join(faults...)
	})
	if err = errors.Join(err, st.Close()); err != nil {
		tb.Fatal(err)
	}
}

// editedRings is how many devices there are to one that the edited rule is for.
const editedRings = 3

func labelledDevice(i int, at time.Time) fleet.Device {
	return fleet.Device{
		ID: deviceID(i), Name: fmt.Sprintf("d%05d", i), Hostname: "host", AgentVersion: "1", EnrolledAt: at, Version: 1,
		Labels: map[string]string{
			"edited": strconv.Itoa(i % editedRings), "site": fmt.Sprintf("s%d", i%19), "ring": strconv.Itoa(i % 7), fmt.Sprintf("l%d", i%37): "",
		},
	}
}

func rulePolicy(i int, at time.Time) fleet.Policy {
	scope := indicator.Scope{Include: []string{groupID(0)}}
	if i > 0 {
		scope = indicator.Scope{Include: []string{groupID(i), groupID(i * 2)}, Exclude: []string{groupID(i + 250)}}
	}
	return fleet.Policy{
		ID: fmt.Sprintf("01JNXC8VAA%016d", i), Name: fmt.Sprintf("policy %d", i), Assigned: true, Priority: -i, Version: 1,
		Settings:   fleet.Settings{NetworkProtection: fleet.Modes()[i%3], SupportContact: fmt.Sprintf("desk %d", i)},
		Assignment: scope, CreatedAt: at, UpdatedAt: at,
	}
}

func groupID(i int) string { return fmt.Sprintf("01JNXC8V7Z%016d", i) }

func putRuleGroup(tx *store.Tx, i int, at time.Time) error {
	g := fleet.Group{ID: groupID(i), Name: fmt.Sprintf("group %d", i), Version: 1, CreatedAt: at}
	switch {
	case i == 0:
	case i%10 == 0:
		for n := range 20 {
			g.Members = append(g.Members, deviceID((i*20+n)%10_000))
		}
	case i%3 == 0:
		g.Rule = fmt.Sprintf(`labels.site == "s%d" && version < "1.%d"`, i%19, i%15)
	case i%3 == 1:
		g.Rule = fmt.Sprintf(`"l%d" in labels || name.startsWith("d%02d")`, i%37, i%100)
	default:
		g.Rule = fmt.Sprintf(`labels.ring in ["%d", "%d"]`, i%10, i%7)
	}
	return errors.Join(tx.Groups().Put(g), tx.Join(g.ID, g.Members...))
}

// BenchmarkRuleToNudges measures from the edit of one group's rule until every
// one of the devices that join the group or leave it, about a third of 10,000
// connected ones, has its nudge waiting.
func BenchmarkRuleToNudges(b *testing.B) {
	c := store.Config{Dir: b.TempDir()}
	ruleFleet(b, c)
	s := controltest.Start(b, c, controltest.NewClock())
	edited := groupID(0)
	var sessions []*presence.Session
	for i := range 10_000 {
		d := controltest.Device{Server: s, ID: deviceID(i)}
		session := d.Open()
		controltest.Next(b, session, bundle.MessageHello)
		if i%editedRings == 0 {
			sessions = append(sessions, session)
		}
	}
	rules := [2]string{`labels.edited == "0"`, `labels.edited == "none"`}
	b.ResetTimer()
	for i := range b.N {
		n := groups.NewGroup{Name: "group 0", Rule: rules[i%2]}
		if _, _, err := s.Groups.Update(b.Context(), controltest.Admin(), edited, edit.AnyVersion, n); err != nil {
			b.Fatal(err)
		}
		for _, session := range sessions {
			controltest.Next(b, session, bundle.MessageNudge)
		}
	}
	b.ReportMetric(float64(len(sessions)), "nudges/op")
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
