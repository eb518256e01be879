package control_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"

	"interdict/internal/bundle"
	"interdict/internal/cloudapp"
	"interdict/internal/control"
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
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			c := e.config(t)
			s := start(t, c, newClock())
			ctx := t.Context()
			lab := s.group(control.NewGroup{Name: "lab"})
			inside, outside := s.newDevice("inside", "lab"), s.newDevice("outside")
			s.policy("protect", fleet.ModeBlock, "lab")
			inside.apply()
			outside.apply()
			in, out := inside.connect(), outside.connect()
			if m := next(t, in, bundle.MessageHello); m.Digest != inside.have.Digest {
				t.Errorf("hello has digest %s, want %s", m.Digest, inside.have.Digest)
			}
			next(t, out, bundle.MessageHello)

			change := s.tag(control.TagRequest{Apps: []string{"iTunes"}, Tag: cloudapp.TagUnsanctioned, Scope: indicator.Scope{Include: []string{"lab"}}})
			m := next(t, in, bundle.MessageNudge)
			silent(t, out)
			if m.Version != change.Revision {
				t.Errorf("nudge to version %d, want revision %d", m.Version, change.Revision)
			}
			r, err := s.Rollout(ctx, 0)
			if want := (fleet.Rollout{Total: 2, Applied: 1, Pending: 1}); err != nil || r != want {
				t.Errorf("before: rollout %+v (%v), want %+v", r, err, want)
			}

			r, err = s.Rollout(ctx, change.Revision)
			if want := (fleet.Rollout{Total: 1, Pending: 1}); err != nil || r != want {
				t.Errorf("before: rollout of the tag %+v (%v), want %+v: it is not for the device outside", r, err, want)
			}

			inside.apply()
			if inside.have.Digest != m.Digest {
				t.Errorf("the bundle has digest %s, the nudge said %s", inside.have.Digest, m.Digest)
			}
			if outside.fetch() != 0 {
				t.Error("the device outside the group got a new bundle")
			}
			if r, _ := inside.record(bundle.KindSetting, bundle.SettingNetworkProtection); r.Value != "block" {
				t.Errorf("network protection is %+v, want block", r)
			}
			i, ok := inside.record(bundle.KindIndicator, "itunes:itunes.apple.com")
			if !ok || i.Indicator.Action != indicator.ActionBlock || !i.Indicator.GenerateAlert {
				t.Errorf("the indicator is %+v, want a block that raises alerts", i)
			}
			r, err = s.Rollout(ctx, 0)
			if want := (fleet.Rollout{Total: 2, Applied: 2}); err != nil || r != want {
				t.Errorf("after: rollout %+v (%v), want %+v", r, err, want)
			}

			checkIngest(t, s, inside)
			status, err := s.PolicyStatus(ctx, "protect")
			if err != nil || status.Rollout.Total != 1 || len(status.Devices) != 1 || status.Devices[0].State != fleet.StateApplied {
				t.Errorf("policy status %+v (%v), want one device that applied it", status, err)
			}
			if _, err := s.DeleteGroup(ctx, admin(), lab, control.AnyVersion); err == nil {
				t.Error("a group that is in use was deleted")
			}
		})
	}
}

// checkIngest sends a batch twice and looks at what became of it.
func checkIngest(t *testing.T, s *server, d *device) {
	t.Helper()
	bad := blocked(0)
	batch := []event.Event{blocked(1), bad, blocked(2)}
	key := ulid.Make().String()
	for range 2 {
		receipt, err := s.Ingest(t.Context(), d.id, key, batch)
		if err != nil || receipt.Stored != 2 || receipt.Rejected != 1 || receipt.Fault == "" {
			t.Fatalf("receipt %+v (%v), want 2 stored and 1 rejected", receipt, err)
		}
	}
	alerts, err := s.Alerts(t.Context(), control.AlertQuery{App: "itunes"})
	if err != nil || len(alerts.Items) != 1 {
		t.Fatalf("alerts %+v (%v), want one", alerts, err)
	}
	a := alerts.Items[0]
	if a.Count != 3 || a.DeviceID != string(d.id) || a.DeviceName != "inside" {
		t.Errorf("alert %+v, want count 3 on the device whose certificate it was", a)
	}
	one, err := s.Alert(t.Context(), a.ID)
	if diff := cmp.Diff(a, one); err != nil || diff != "" {
		t.Errorf("the alert by its id (%v): %s", err, diff)
	}
	tail, err := s.Events(t.Context(), control.EventQuery{After: "start", PageQuery: control.PageQuery{Limit: 1}})
	if err != nil || len(tail.Items) != 1 || tail.Next == "" || tail.Items[0].Device != string(d.id) {
		t.Fatalf("tail %+v (%v), want one event with the device's id", tail, err)
	}
	tail, err = s.Events(t.Context(), control.EventQuery{After: tail.Next})
	if err != nil || len(tail.Items) != 1 {
		t.Fatalf("tail %+v (%v), want the other event", tail, err)
	}
	tail, err = s.Events(t.Context(), control.EventQuery{After: tail.Next})
	if err != nil || len(tail.Items) != 0 || tail.Next == "" {
		t.Errorf("tail %+v (%v), want nothing more and a cursor", tail, err)
	}
}

func TestTokensThatDoNotAdmit(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			c := e.config(t)
			s := start(t, c, newClock())
			_, expired := s.token(control.NewToken{Name: "short", ExpiresAt: s.clock.Now().Add(time.Minute)})
			revoked, revokedSecret := s.token(control.NewToken{Name: "revoked", Uses: 5})
			if v, err := s.RevokeToken(t.Context(), admin(), revoked.Name); err != nil || v.State != control.TokenRevoked {
				t.Fatalf("revoking: %+v, %v", v, err)
			}
			_, used := s.token(control.NewToken{Name: "once"})
			s.enroll(used, "first", nil)
			s.clock.advance(time.Hour)
			for name, secret := range map[string]string{"unknown": "x", "expired": expired, "revoked": revokedSecret, "exhausted": used} {
				_, err := s.Enroll(t.Context(), bundle.EnrollRequest{Secret: secret, CSR: request(t), Name: name}, "192.0.2.7")
				wantFault(t, err, fault.Unauthorized)
			}
			log, err := s.AuditLog(t.Context(), control.AuditQuery{Action: "device.enroll"})
			if err != nil || len(log.Items) != 5 {
				t.Fatalf("audit log %+v (%v), want one enrolment and four refused", log, err)
			}
			if e := log.Items[0]; e.Refused == "" || e.Source != "192.0.2.7" {
				t.Errorf("newest entry %+v, want why and from where it was refused", e)
			}
		})
	}
}

func TestATokenIsUsedAsOftenAsItMayByConcurrentMachines(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			c := e.config(t)
			s := start(t, c, newClock())
			_, secret := s.token(control.NewToken{Uses: 3})
			results := make(chan error)
			for range 8 {
				csr := request(t)
				go func() {
					_, err := s.Enroll(t.Context(), bundle.EnrollRequest{Secret: secret, CSR: csr, Name: "m"}, "")
					results <- err
				}()
			}
			admitted := 0
			for range 8 {
				if err := <-results; err == nil {
					admitted++
				} else {
					wantFault(t, err, fault.Unauthorized)
				}
			}
			if admitted != 3 {
				t.Errorf("%d machines were admitted, want 3", admitted)
			}
		})
	}
}

func TestVersionsGrowOverARestart(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			c := e.config(t)
			clk := newClock()
			s := start(t, c, clk)
			d := s.newDevice("d")
			s.tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagUnsanctioned})
			d.apply()
			ca := s.CA()
			s.end()

			s = start(t, c, clk)
			d.server = s
			if !s.CA().Equal(ca) {
				t.Error("the authority is another one after the restart")
			}
			if d.fetch() != 0 {
				t.Error("there is a new bundle after a restart without a change")
			}
			if v, err := s.Device(t.Context(), "d"); err != nil || v.Applied.Digest != d.have.Digest {
				t.Errorf("device %+v (%v), want what it acknowledged before the restart", v, err)
			}
			before := d.have.Version
			s.tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagNone})
			if d.fetch() == 0 || d.have.Version <= before {
				t.Errorf("version %d after %d, want a higher one", d.have.Version, before)
			}
			if _, ok := d.record(bundle.KindIndicator, "itunes:itunes.apple.com"); ok {
				t.Error("the indicator is still there without the tag")
			}
		})
	}
}

func TestTwoServersShareADatabase(t *testing.T) {
	c, clk := store.Config{URL: postgres.URL(t)}, newClock()
	one, two := start(t, c, clk), start(t, c, clk)
	if !one.CA().Equal(two.CA()) {
		t.Fatal("the servers have different authorities")
	}
	d := one.newDevice("d")
	d.server = two
	session := d.connect()
	next(t, session, bundle.MessageHello)
	d.apply()
	one.tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagUnsanctioned})
	next(t, session, bundle.MessageNudge)
	d.apply()
	if _, ok := d.record(bundle.KindIndicator, "itunes:itunes.apple.com"); !ok {
		t.Error("the other server's tag is not in the bundle")
	}
	clk.advance(time.Second)
	if r, err := one.Rollout(t.Context(), 0); err != nil || r.Applied != 1 {
		t.Errorf("rollout as the other server sees it: %+v (%v), want it applied", r, err)
	}
	if _, err := one.DeleteDevice(t.Context(), admin(), string(d.id), control.AnyVersion); err != nil {
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

func TestADeviceThatChangesGroupsGetsAHigherVersion(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			c := e.config(t)
			s := start(t, c, newClock())
			s.group(control.NewGroup{Name: "a", Match: map[string]string{"ring": "a"}})
			s.group(control.NewGroup{Name: "b", Match: map[string]string{"ring": "b"}})
			s.policy("pa", fleet.ModeAudit, "a")
			_, secret := s.token(control.NewToken{Uses: 2})
			d := s.enroll(secret, "mover", map[string]string{"ring": "a"})
			s.enroll(secret, "b-device", map[string]string{"ring": "b"})
			// The audience of b is older than that of a.
			s.tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagUnsanctioned, Scope: indicator.Scope{Include: []string{"a"}}})
			d.apply()
			session := d.connect()
			next(t, session, bundle.MessageHello)
			labels := map[string]string{"ring": "b"}
			view, change, err := s.UpdateDevice(t.Context(), admin(), "mover", 1, control.DeviceUpdate{Labels: &labels})
			if err != nil || view.Version != 2 {
				t.Fatalf("moving: %+v, %v", view, err)
			}
			if m := next(t, session, bundle.MessageNudge); m.Version != change.Revision {
				t.Errorf("nudge to version %d, want %d", m.Version, change.Revision)
			}
			d.apply()
			if _, ok := d.record(bundle.KindIndicator, "itunes:itunes.apple.com"); ok {
				t.Error("the device still has the indicator of the group it left")
			}
			if _, _, err := s.UpdateDevice(t.Context(), admin(), "mover", 1, control.DeviceUpdate{}); fault.CodeOf(err) != fault.Stale {
				t.Errorf("editing an old version: %v, want it to be stale", err)
			}
		})
	}
}

func TestExpiredIndicatorsLeaveTheBundle(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			c := e.config(t)
			s := start(t, c, newClock())
			d := s.newDevice("d")
			i, _, err := s.CreateIndicator(t.Context(), admin(), control.NewIndicator{
				Type: indicator.TypeDomain, Value: "Bad.Example.", Action: indicator.ActionBlock, ExpiresAt: s.clock.Now().Add(time.Hour),
			})
			if err != nil || i.Value != "bad.example" {
				t.Fatalf("making an indicator: %+v, %v", i, err)
			}
			d.apply()
			if _, ok := d.record(bundle.KindIndicator, i.ID); !ok {
				t.Fatal("the indicator is not in the bundle")
			}
			session := d.connect()
			next(t, session, bundle.MessageHello)
			s.clock.advance(2 * time.Hour)
			// Any change makes the expiry be looked at again.
			if _, _, err = s.CreateIndicator(t.Context(), admin(), control.NewIndicator{
				Type: indicator.TypeIP, Value: "198.51.100.7", Action: indicator.ActionAudit,
			}); err != nil {
				t.Fatal(err)
			}
			for have := true; have; {
				next(t, session, bundle.MessageNudge)
				d.apply()
				_, have = d.record(bundle.KindIndicator, i.ID)
			}
			_, err = s.Indicator(t.Context(), i.ID)
			wantFault(t, err, fault.NotFound)
		})
	}
}
