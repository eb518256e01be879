package control_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"

	"interdict/internal/bundle"
	"interdict/internal/cloudapp"
	"interdict/internal/control"
	"interdict/internal/control/controltest"
	"interdict/internal/control/edit"
	"interdict/internal/control/enrol"
	"interdict/internal/control/groups"
	"interdict/internal/control/indicators"
	"interdict/internal/control/observation"
	"interdict/internal/control/page"
	"interdict/internal/event"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/store"
)

func blocked(count int) event.Event {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return event.Event{
		ID: ulid.Make().String(), Time: at, Device: "somebody else", EventID: event.IDBlocked, Action: event.ActionBlocked,
		AppID: "itunes", AppName: "iTunes", Severity: "medium", Destination: event.Destination{Host: "init.itunes.apple.com"},
		Count: count, FirstSeen: at, LastSeen: at, Alert: true,
	}
}

func TestStory(t *testing.T) {
	for _, e := range controltest.Engines(postgres) {
		t.Run(e.Name, func(t *testing.T) {
			c := e.Config(t)
			s := controltest.Start(t, c, controltest.NewClock())
			ctx := t.Context()
			lab := s.NewGroup(groups.NewGroup{Name: "lab"})
			inside, outside := s.NewDevice("inside", "lab"), s.NewDevice("outside")
			s.NewPolicy("protect", fleet.ModeBlock, "lab")
			inside.Apply()
			outside.Apply()
			in, out := inside.Open(), outside.Open()
			if m := controltest.Next(t, in, bundle.MessageHello); m.Digest != inside.Have.Digest {
				t.Errorf("hello has digest %s, want %s", m.Digest, inside.Have.Digest)
			}
			controltest.Next(t, out, bundle.MessageHello)

			change := s.Tag(control.TagRequest{Apps: []string{"iTunes"}, Tag: cloudapp.TagUnsanctioned, Scope: inGroup("lab")})
			m := controltest.Next(t, in, bundle.MessageNudge)
			controltest.Silent(t, out)
			if m.Version != change.Revision {
				t.Errorf("nudge to version %d, want revision %d", m.Version, change.Revision)
			}
			r, err := s.Progress(ctx, 0)
			if want := (fleet.Progress{Total: 2, Applied: 1, Pending: 1}); err != nil || r != want {
				t.Errorf("before: progress %+v (%v), want %+v", r, err, want)
			}

			r, err = s.Progress(ctx, change.Revision)
			if want := (fleet.Progress{Total: 1, Pending: 1}); err != nil || r != want {
				t.Errorf("before: progress of the tag %+v (%v), want %+v: it is not for the device outside", r, err, want)
			}

			inside.Apply()
			if inside.Have.Digest != m.Digest {
				t.Errorf("the bundle has digest %s, the nudge said %s", inside.Have.Digest, m.Digest)
			}
			if outside.Fetch() != 0 {
				t.Error("the device outside the group got a new bundle")
			}
			if r, _ := inside.Record(bundle.KindSetting, fleet.SettingNetworkProtection); r.Value != "block" {
				t.Errorf("network protection is %+v, want block", r)
			}
			i, ok := inside.Record(bundle.KindIndicator, "itunes:itunes.apple.com")
			if !ok || i.Indicator.Action != indicator.ActionBlock || !i.Indicator.GenerateAlert {
				t.Errorf("the indicator is %+v, want a block that raises alerts", i)
			}
			r, err = s.Progress(ctx, 0)
			if want := (fleet.Progress{Total: 2, Applied: 2}); err != nil || r != want {
				t.Errorf("after: progress %+v (%v), want %+v", r, err, want)
			}

			checkIngest(t, s, inside)
			status, err := s.PolicyStatus(ctx, "protect")
			if err != nil || status.Counts != (fleet.StateCounts{Total: 1, Applied: 1}) || len(status.Settings) != 1 {
				t.Errorf("policy status %+v (%v), want one device that applied it", status, err)
			}
			if _, err := s.Groups.Delete(ctx, controltest.Admin(), lab, edit.AnyVersion); err == nil {
				t.Error("a group that is in use was deleted")
			}
		})
	}
}

// checkIngest sends a batch twice and looks at what became of it.
func checkIngest(t *testing.T, s *controltest.Server, d *controltest.Device) {
	t.Helper()
	bad := blocked(0)
	batch := []event.Event{blocked(1), bad, blocked(2)}
	key := ulid.Make().String()
	for range 2 {
		receipt, err := s.Observations.Ingest(t.Context(), d.ID, key, batch)
		if err != nil || receipt.Stored != 2 || receipt.Rejected != 1 || receipt.Fault == "" {
			t.Fatalf("receipt %+v (%v), want 2 stored and 1 rejected", receipt, err)
		}
	}
	alerts, err := s.Observations.Alerts(t.Context(), observation.AlertQuery{App: "itunes"})
	if err != nil || len(alerts.Items) != 1 {
		t.Fatalf("alerts %+v (%v), want one", alerts, err)
	}
	a := alerts.Items[0]
	if a.Count != 3 || a.DeviceID != string(d.ID) || a.DeviceName != "inside" {
		t.Errorf("alert %+v, want count 3 on the device whose certificate it was", a)
	}
	one, err := s.Observations.Alert(t.Context(), a.ID)
	if diff := cmp.Diff(a, one); err != nil || diff != "" {
		t.Errorf("the alert by its id (%v): %s", err, diff)
	}
	tail, err := s.Observations.Events(t.Context(), observation.EventQuery{After: "start", Query: page.Query{Limit: 1}})
	if err != nil || len(tail.Items) != 1 || tail.Next == "" || tail.Items[0].Device != string(d.ID) {
		t.Fatalf("tail %+v (%v), want one event with the device's id", tail, err)
	}
	tail, err = s.Observations.Events(t.Context(), observation.EventQuery{After: tail.Next})
	if err != nil || len(tail.Items) != 1 {
		t.Fatalf("tail %+v (%v), want the other event", tail, err)
	}
	tail, err = s.Observations.Events(t.Context(), observation.EventQuery{After: tail.Next})
	if err != nil || len(tail.Items) != 0 || tail.Next == "" {
		t.Errorf("tail %+v (%v), want nothing more and a cursor", tail, err)
	}
}

func TestVersionsGrowOverARestart(t *testing.T) {
	for _, e := range controltest.Engines(postgres) {
		t.Run(e.Name, func(t *testing.T) {
			c := e.Config(t)
			clk := controltest.NewClock()
			s := controltest.Start(t, c, clk)
			d := s.NewDevice("d")
			s.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagUnsanctioned})
			d.Apply()
			ca := s.CA()
			s.End()

			s = controltest.Start(t, c, clk)
			d.Server = s
			if !s.CA().Equal(ca) {
				t.Error("the authority is another one after the restart")
			}
			if d.Fetch() != 0 {
				t.Error("there is a new bundle after a restart without a change")
			}
			if v, err := s.Device(t.Context(), "d"); err != nil || v.Applied.Digest != d.Have.Digest {
				t.Errorf("device %+v (%v), want what it acknowledged before the restart", v, err)
			}
			before := d.Have.Version
			s.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagNone})
			if d.Fetch() == 0 || d.Have.Version <= before {
				t.Errorf("version %d after %d, want a higher one", d.Have.Version, before)
			}
			if _, ok := d.Record(bundle.KindIndicator, "itunes:itunes.apple.com"); ok {
				t.Error("the indicator is still there without the tag")
			}
		})
	}
}

func TestTwoServersShareADatabase(t *testing.T) {
	c, clk := store.Config{URL: postgres.URL(t)}, controltest.NewClock()
	one, two := controltest.Start(t, c, clk), controltest.Start(t, c, clk)
	if !one.CA().Equal(two.CA()) {
		t.Fatal("the servers have different authorities")
	}
	d := one.NewDevice("d")
	d.Server = two
	session := d.Open()
	controltest.Next(t, session, bundle.MessageHello)
	d.Apply()
	one.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagUnsanctioned})
	controltest.Next(t, session, bundle.MessageNudge)
	d.Apply()
	if _, ok := d.Record(bundle.KindIndicator, "itunes:itunes.apple.com"); !ok {
		t.Error("the other server's tag is not in the bundle")
	}
	clk.Advance(time.Second)
	if r, err := one.Progress(t.Context(), 0); err != nil || r.Applied != 1 {
		t.Errorf("progress as the other server sees it: %+v (%v), want it applied", r, err)
	}
	if _, err := one.DeleteDevice(t.Context(), controltest.Admin(), string(d.ID), edit.AnyVersion); err != nil {
		t.Fatalf("deleting: %v", err)
	}
	select {
	case _, open := <-session.Messages():
		if open {
			t.Error("a deleted device got a message")
		}
	case <-time.After(10 * time.Second):
		t.Error("the session of a deleted device is still open")
	}
}

func TestADeviceGoesFromOneServerToAnother(t *testing.T) {
	c, clk := store.Config{URL: postgres.URL(t)}, controltest.NewClock()
	one, two := controltest.Start(t, c, clk), controltest.Start(t, c, clk)
	d := one.NewDevice("d")
	left := d.Open()
	d.Apply()
	clk.Advance(time.Second)
	d.Server = two
	session := d.Open()
	defer session.Close()
	one.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagUnsanctioned})
	controltest.Next(t, session, bundle.MessageHello)
	controltest.Next(t, session, bundle.MessageNudge)
	d.Apply()
	clk.Advance(time.Second)
	// Only now does the first server notice, and writes down what it knows.
	left.Close()
	clk.Advance(time.Second)
	one.End()
	clk.Advance(time.Second)
	three := controltest.Start(t, c, clk)
	for name, s := range map[string]*controltest.Server{"the one it came to": two, "one that knows it from the database": three} {
		if v, err := s.Device(t.Context(), "d"); err != nil || v.State() != fleet.StateApplied || !v.Online {
			t.Errorf("to %s it is %s, online %v (%v), want it applied and online", name, v.State(), v.Online, err)
		}
	}
}

func TestADeviceThatChangesGroupsGetsAHigherVersion(t *testing.T) {
	for _, e := range controltest.Engines(postgres) {
		t.Run(e.Name, func(t *testing.T) {
			c := e.Config(t)
			s := controltest.Start(t, c, controltest.NewClock())
			s.NewGroup(groups.NewGroup{Name: "a", Rule: `labels.ring == "a"`})
			s.NewGroup(groups.NewGroup{Name: "b", Rule: `labels.ring == "b"`})
			s.NewPolicy("pa", fleet.ModeAudit, "a")
			_, secret := s.Token(enrol.NewToken{Uses: 2})
			d := s.Admit(secret, "mover", map[string]string{"ring": "a"})
			s.Admit(secret, "b-device", map[string]string{"ring": "b"})
			// The audience of b is older than that of a.
			s.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagUnsanctioned, Scope: inGroup("a")})
			d.Apply()
			session := d.Open()
			controltest.Next(t, session, bundle.MessageHello)
			labels := map[string]string{"ring": "b"}
			view, change, err := s.UpdateDevice(t.Context(), controltest.Admin(), "mover", 1, control.DeviceUpdate{Labels: &labels})
			if err != nil || view.Version != 2 {
				t.Fatalf("moving: %+v, %v", view, err)
			}
			// What the device says of itself may be written down meanwhile, as
			// a change of its own.
			if m := controltest.Next(t, session, bundle.MessageNudge); m.Version < change.Revision {
				t.Errorf("nudge to version %d, want at least %d", m.Version, change.Revision)
			}
			d.Apply()
			if _, ok := d.Record(bundle.KindIndicator, "itunes:itunes.apple.com"); ok {
				t.Error("the device still has the indicator of the group it left")
			}
			if _, _, err := s.UpdateDevice(t.Context(), controltest.Admin(), "mover", 1, control.DeviceUpdate{}); fault.CodeOf(err) != fault.Stale {
				t.Errorf("editing an old version: %v, want it to be stale", err)
			}
		})
	}
}

func TestExpiredIndicatorsLeaveTheBundle(t *testing.T) {
	for _, e := range controltest.Engines(postgres) {
		t.Run(e.Name, func(t *testing.T) {
			c := e.Config(t)
			s := controltest.Start(t, c, controltest.NewClock())
			d := s.NewDevice("d")
			i, _, err := s.Indicators.Create(t.Context(), controltest.Admin(), indicators.NewIndicator{
				Type: indicator.TypeDomain, Value: "Bad.Example.", Action: indicator.ActionBlock, ExpiresAt: s.Clock.Now().Add(time.Hour),
			})
			if err != nil || i.Value != "bad.example" {
				t.Fatalf("making an indicator: %+v, %v", i, err)
			}
			d.Apply()
			if _, ok := d.Record(bundle.KindIndicator, i.ID); !ok {
				t.Fatal("the indicator is not in the bundle")
			}
			session := d.Open()
			controltest.Next(t, session, bundle.MessageHello)
			s.Clock.Advance(2 * time.Hour)
			// Any change makes the expiry be looked at again.
			if _, _, err = s.Indicators.Create(t.Context(), controltest.Admin(), indicators.NewIndicator{
				Type: indicator.TypeIP, Value: "198.51.100.7", Action: indicator.ActionAudit,
			}); err != nil {
				t.Fatal(err)
			}
			for have := true; have; {
				controltest.Next(t, session, bundle.MessageNudge)
				d.Apply()
				_, have = d.Record(bundle.KindIndicator, i.ID)
			}
			_, err = s.Indicators.Get(t.Context(), i.ID)
			controltest.WantFault(t, err, fault.NotFound)
		})
	}
}

func TestADeviceIsToldWhereverItIsConnected(t *testing.T) {
	c, clk := store.Config{URL: postgres.URL(t)}, controltest.NewClock()
	one, two := controltest.Start(t, c, clk), controltest.Start(t, c, clk)
	d := one.NewDevice("d")
	d.Server = two
	session := d.Open()
	controltest.Next(t, session, bundle.MessageHello)
	message := bundle.Message{Type: "news", Version: 7}
	if one.Tell(d.ID, message) {
		t.Error("the device is connected to the wrong server")
	}
	err := one.Write(t.Context(), func(tx *store.Tx) error { return one.TellElsewhere(tx, d.ID, message) })
	if err != nil {
		t.Fatal(err)
	}
	if got := controltest.Next(t, session, "news"); got.Version != 7 {
		t.Errorf("the device was told %+v, want %+v", got, message)
	}
}

func inGroup(group string) indicator.Profile {
	return indicator.Profile{Scope: indicator.Scope{Include: []string{group}}}
}
