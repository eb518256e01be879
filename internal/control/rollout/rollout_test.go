package rollout_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"

	"interdict/internal/bundle"
	"interdict/internal/cloudapp"
	"interdict/internal/control"
	"interdict/internal/control/controltest"
	"interdict/internal/control/groups"
	"interdict/internal/control/observation"
	"interdict/internal/control/page"
	"interdict/internal/control/rollout"
	"interdict/internal/event"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/staging"
	"interdict/internal/store"
)

// house is a server with a canary, a device in it, and one that is not.
type house struct {
	*controltest.Server

	t            *testing.T
	canary       string
	first, other *controltest.Device
}

// onEach runs a test on every kind of store.
func onEach(t *testing.T, test func(*house)) {
	t.Helper()
	for _, e := range controltest.Engines(postgres) {
		t.Run(e.Name, func(t *testing.T) { test(newHouse(t, controltest.Start(t, e.Config(t), controltest.NewClock()))) })
	}
}

func newHouse(t *testing.T, s *controltest.Server) *house {
	t.Helper()
	h := &house{Server: s, t: t}
	h.canary = s.NewGroup(groups.NewGroup{Name: "pilot"})
	h.first, h.other = s.NewDevice("first", "pilot"), s.NewDevice("other")
	return h
}

func (h *house) begin(t *testing.T, n rollout.NewRollout) rollout.View {
	t.Helper()
	v, _, err := h.Rollouts.Begin(t.Context(), controltest.Admin(), n)
	if err != nil {
		t.Fatalf("starting a trial: %v", err)
	}
	return v
}

// refused reports refused connections to iTunes.
func (h *house) refused(d *controltest.Device, policy string, count int) {
	now := h.Clock.Now()
	d.Observe(event.Event{
		ID: ulid.Make().String(), Time: now, EventID: event.IDBlocked, Action: event.ActionBlocked, AppID: "itunes", AppName: "iTunes",
		IndicatorID: "itunes:itunes.apple.com", PolicyID: policy, Severity: "medium",
		Destination: event.Destination{Host: "itunes.apple.com", Port: 443, Protocol: "tcp"}, Evidence: event.EvidenceTLSSNI,
		Process: event.Process{PID: 7, Path: "/usr/bin/curl"}, User: event.User{Name: "ada"}, Count: count, FirstSeen: now, LastSeen: now,
	})
}

// wantBlocked checks whether a device is told to block iTunes.
func wantBlocked(t *testing.T, d *controltest.Device, want bool) { //nolint:revive // flag-parameter: it is what is compared
	t.Helper()
	d.Fetch()
	if _, got := d.Record(bundle.KindIndicator, "itunes:itunes.apple.com"); got != want {
		t.Errorf("device %s is told to block iTunes: %v, want %v", d.ID, got, want)
	}
}

// wantMode checks the mode that a device is told.
func wantMode(t *testing.T, d *controltest.Device, want fleet.Mode) {
	t.Helper()
	v, err := d.Device(t.Context(), string(d.ID))
	if err != nil || v.Effective.Settings.NetworkProtection != want {
		t.Errorf("device %s has mode %q (%v), want %q", d.ID, v.Effective.Settings.NetworkProtection, err, want)
	}
}

func (h *house) wantState(t *testing.T, id string, want staging.State, by, reason string) {
	t.Helper()
	v, err := h.Rollouts.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if v.State != want || v.ChangedBy != by || !strings.Contains(v.Reason, reason) {
		t.Errorf("the rollout is %s by %q because %q, want %s by %q because %q", v.State, v.ChangedBy, v.Reason, want, by, reason)
	}
}

// tagItunes stages the tag of iTunes.
func tagItunes() rollout.NewRollout {
	return rollout.NewRollout{Canary: "pilot", Tag: &rollout.TagChange{App: "iTunes", Tag: cloudapp.TagUnsanctioned}}
}

// blockPolicy stages that a policy blocks.
func blockPolicy(name string) rollout.NewRollout {
	return rollout.NewRollout{Canary: "pilot", Policy: &rollout.PolicyChange{
		Policy: name, Settings: &fleet.Settings{NetworkProtection: fleet.ModeBlock},
	}}
}

func TestATagGoesToTheCanaryThenToAllThenBack(t *testing.T) {
	onEach(t, func(h *house) {
		t := h.t
		v := h.begin(t, tagItunes())
		if v.State != staging.StateTrial || v.CanaryName != "pilot" || v.Target != (rollout.Target{Kind: "tag", ID: "itunes", Name: "iTunes"}) {
			t.Errorf("the trial is %+v", v)
		}
		if diff := cmp.Diff([]fleet.Difference{{Field: "tag", Before: "none", After: "unsanctioned"}}, v.Changes); diff != "" {
			t.Errorf("what changes (-want +got):\n%s", diff)
		}
		wantBlocked(t, h.first, true)
		wantBlocked(t, h.other, false)
		if a, err := h.App(t.Context(), "itunes"); err != nil || a.Tagging.Tag != cloudapp.TagNone {
			t.Errorf("on trial the tag is %q (%v), want none", a.Tagging.Tag, err)
		}
		if _, _, err := h.Rollouts.Advance(t.Context(), controltest.Admin(), "itunes"); err != nil {
			t.Fatal(err)
		}
		h.wantState(t, v.ID, staging.StateDone, "root", "")
		wantBlocked(t, h.other, true)
		wantBlocked(t, h.first, true)
		if _, _, err := h.Rollouts.Undo(t.Context(), controltest.Admin(), v.ID); err != nil {
			t.Fatal(err)
		}
		h.wantState(t, v.ID, staging.StateUndone, "root", "")
		wantBlocked(t, h.first, false)
		wantBlocked(t, h.other, false)
		_, _, err := h.Rollouts.Undo(t.Context(), controltest.Admin(), v.ID)
		controltest.WantFault(t, err, fault.Conflict)
	})
}

func TestAPolicyGoesToTheCanaryThenToAllThenBack(t *testing.T) {
	onEach(t, func(h *house) {
		t := h.t
		id := h.NewPolicy("office", fleet.ModeAudit)
		v := h.begin(t, blockPolicy("office"))
		wantMode(t, h.first, fleet.ModeBlock)
		wantMode(t, h.other, fleet.ModeAudit)
		if _, _, err := h.Rollouts.Advance(t.Context(), controltest.Admin(), v.ID); err != nil {
			t.Fatal(err)
		}
		wantMode(t, h.other, fleet.ModeBlock)
		p, err := h.Policy(t.Context(), id)
		if err != nil || p.Settings.NetworkProtection != fleet.ModeBlock || p.Version != 3 || !p.Assigned {
			t.Errorf("the policy is %+v (%v)", p, err)
		}
		history, err := h.History.Policy(t.Context(), id, page.Query{})
		if err != nil || len(history.Items) != 3 {
			t.Errorf("the policy's history is %+v (%v)", history.Items, err)
		}
		if _, _, err = h.Rollouts.Undo(t.Context(), controltest.Admin(), "office"); err != nil {
			t.Fatal(err)
		}
		wantMode(t, h.other, fleet.ModeAudit)
		if p, err = h.Policy(t.Context(), id); err != nil || p.Version != 4 {
			t.Errorf("the policy is %+v (%v)", p, err)
		}
	})
}

func TestAnAssignmentIsTriedOutByOneDevice(t *testing.T) {
	h := newHouse(t, controltest.OnSQLite(t))
	p, _, err := h.CreatePolicy(t.Context(), controltest.Admin(), control.NewPolicy{Name: "new", Settings: fleet.Settings{NetworkProtection: fleet.ModeBlock}})
	if err != nil {
		t.Fatal(err)
	}
	v := h.begin(t, rollout.NewRollout{Canary: "device:first", Policy: &rollout.PolicyChange{Policy: p.ID, Version: p.Version, Assignment: &indicator.Scope{}}})
	if v.CanaryName != "device:first" || v.Progress.Total != 1 || len(v.Members) != 1 || v.Members[0].Name != "first" {
		t.Errorf("the trial is %+v", v)
	}
	wantMode(t, h.first, fleet.ModeBlock)
	wantMode(t, h.other, fleet.ModeDisabled)
	if _, _, err = h.Rollouts.Stop(t.Context(), controltest.Admin(), v.ID); err != nil {
		t.Fatal(err)
	}
	wantMode(t, h.first, fleet.ModeDisabled)
	h.wantState(t, v.ID, staging.StateStopped, "root", "")
}

func TestTooManyRefusalsStopATrial(t *testing.T) {
	onEach(t, func(h *house) {
		t := h.t
		id := h.NewPolicy("office", fleet.ModeAudit)
		h.refused(h.first, id, 100)
		h.Clock.Advance(time.Minute)
		tag, policy := tagItunes(), blockPolicy("office")
		tag.StopAt, policy.StopAt = 30, 20
		byTag, byPolicy := h.begin(t, tag), h.begin(t, policy)
		h.refused(h.other, id, 100)
		h.refused(h.first, "another", 12)
		h.refused(h.first, id, 7)
		evaluate(t, h)
		v, err := h.Rollouts.Get(t.Context(), byTag.ID)
		if err != nil || v.State != staging.StateTrial || v.Refused != 19 || v.Members[0].Refused != 19 {
			t.Errorf("the trial of the tag is %+v (%v), want 19 refused", v, err)
		}
		h.refused(h.first, id, 13)
		evaluate(t, h)
		h.wantState(t, byTag.ID, staging.StateStopped, "rollout", "32 connections of the canary were refused since the trial began, and 30 stop it")
		h.wantState(t, byPolicy.ID, staging.StateStopped, "rollout", "32 connections")
		wantMode(t, h.first, fleet.ModeAudit)
		log, err := h.Observations.AuditLog(t.Context(), observation.AuditQuery{Action: "rollout.stop"})
		if err != nil || len(log.Items) != 2 || log.Items[0].ActorKind != "system" || log.Items[0].Source != "rollout" {
			t.Errorf("the audit log has %+v (%v)", log.Items, err)
		}
	})
}

func evaluate(t *testing.T, h *house) {
	t.Helper()
	if err := h.Rollouts.Evaluate(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestAQuietTrialAdvancesInTime(t *testing.T) {
	h := newHouse(t, controltest.OnSQLite(t))
	n := tagItunes()
	n.AdvanceAfter, n.StopAt = "4h", 10
	v := h.begin(t, n)
	h.Clock.Advance(5 * time.Hour)
	evaluate(t, h)
	if now, err := h.Rollouts.Get(t.Context(), v.ID); err != nil || now.State != staging.StateTrial || !strings.Contains(now.Waiting, "no device of the canary pilot has applied") || !now.AdvancesAt.IsZero() {
		t.Errorf("a trial nobody tried is %+v (%v)", now, err)
	}
	h.first.Apply()
	evaluate(t, h)
	h.refused(h.first, "", 9)
	h.Clock.Advance(4*time.Hour - time.Minute)
	evaluate(t, h)
	h.wantState(t, v.ID, staging.StateTrial, "", "")
	h.Clock.Advance(time.Minute)
	evaluate(t, h)
	h.wantState(t, v.ID, staging.StateDone, "rollout", "the trial lasted 4h, with 9 connections refused")
	wantBlocked(t, h.other, true)
	evaluate(t, h)
	h.wantState(t, v.ID, staging.StateDone, "rollout", "")
}

func TestWhatIsOnTrialStaysAsItIs(t *testing.T) {
	h := newHouse(t, controltest.OnSQLite(t))
	admin := controltest.Admin()
	id := h.NewPolicy("office", fleet.ModeAudit)
	tag, policy := h.begin(t, tagItunes()), h.begin(t, blockPolicy("office"))
	for _, test := range []struct {
		name string
		do   func() error
		says string
	}{
		{"tagging the app", func() error {
			_, err := h.TagApps(t.Context(), admin, control.TagRequest{Apps: []string{"dropbox", "itunes"}, Tag: cloudapp.TagSanctioned})
			return err
		}, tag.ID},
		{"changing the policy", func() error {
			_, _, err := h.UpdatePolicy(t.Context(), admin, id, 2, control.NewPolicy{Name: "office"})
			return err
		}, policy.ID},
		{"assigning the policy", func() error {
			_, _, err := h.AssignPolicy(t.Context(), admin, id, 2, indicator.Scope{})
			return err
		}, policy.ID},
		{"deleting the policy", func() error {
			_, err := h.DeletePolicy(t.Context(), admin, id, control.PolicyDeletion{Assigned: true})
			return err
		}, policy.ID},
		{"a second trial of the tag", func() error {
			_, _, err := h.Rollouts.Begin(t.Context(), admin, tagItunes())
			return err
		}, tag.ID},
		{"a second trial of the policy", func() error {
			_, _, err := h.Rollouts.Begin(t.Context(), admin, blockPolicy("office"))
			return err
		}, policy.ID},
	} {
		err := test.do()
		controltest.WantFault(t, err, fault.Conflict)
		if f, ok := errors.AsType[*fault.Error](err); !ok || !strings.Contains(f.Hint, "interdict rollout stop "+test.says) {
			t.Errorf("%s: got %v, want the hint to stop rollout %s", test.name, err, test.says)
		}
	}
	_, err := h.Groups.Delete(t.Context(), admin, "pilot", 0)
	if f, ok := errors.AsType[*fault.Error](err); !ok || len(f.Fields) == 0 || f.Fields[0].Name != "rollout" && f.Fields[len(f.Fields)-1].Name != "rollout" {
		t.Errorf("deleting the canary: got %v, want the rollouts named", err)
	}
}

func TestWhatWasChangedSinceIsNotUndone(t *testing.T) {
	h := newHouse(t, controltest.OnSQLite(t))
	admin := controltest.Admin()
	id := h.NewPolicy("office", fleet.ModeAudit)
	for _, n := range []rollout.NewRollout{tagItunes(), blockPolicy("office")} {
		v := h.begin(t, n)
		if _, _, err := h.Rollouts.Advance(t.Context(), admin, v.ID); err != nil {
			t.Fatal(err)
		}
	}
	h.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagMonitored})
	if _, _, err := h.UpdatePolicy(t.Context(), admin, id, 3, control.NewPolicy{Name: "office", Priority: 5}); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"itunes", "office"} {
		_, _, err := h.Rollouts.Undo(t.Context(), admin, target)
		controltest.WantFault(t, err, fault.Conflict)
		if err == nil || !strings.Contains(err.Error(), "was changed since") {
			t.Errorf("undoing %s: got %v", target, err)
		}
	}
}

func TestWhatCannotBeTriedOut(t *testing.T) {
	h := newHouse(t, controltest.OnSQLite(t))
	h.NewPolicy("office", fleet.ModeBlock)
	with := func(change func(*rollout.NewRollout)) rollout.NewRollout {
		n := tagItunes()
		change(&n)
		return n
	}
	for _, test := range []struct {
		name string
		n    rollout.NewRollout
		want fault.Code
	}{
		{"neither policy nor tag", with(func(n *rollout.NewRollout) { n.Tag = nil }), fault.Invalid},
		{"both", with(func(n *rollout.NewRollout) { n.Policy = &rollout.PolicyChange{} }), fault.Invalid},
		{"an unknown canary", with(func(n *rollout.NewRollout) { n.Canary = "nobody" }), fault.Invalid},
		{"too short a trial", with(func(n *rollout.NewRollout) { n.AdvanceAfter = "1s" }), fault.Invalid},
		{"no length of time", with(func(n *rollout.NewRollout) { n.AdvanceAfter = "soon" }), fault.Invalid},
		{"an unknown app", with(func(n *rollout.NewRollout) { n.Tag.App = "nothing" }), fault.Invalid},
		{"an unknown policy", blockPolicy("nothing"), fault.NotFound},
		{"a policy as it is", blockPolicy("office"), fault.Conflict},
		{"a tag as it is", with(func(n *rollout.NewRollout) { n.Tag.Tag = cloudapp.TagNone }), fault.Conflict},
		{"an old version", rollout.NewRollout{Canary: "pilot", Policy: &rollout.PolicyChange{Policy: "office", Version: 1}}, fault.Stale},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := h.Rollouts.Begin(t.Context(), controltest.Admin(), test.n)
			controltest.WantFault(t, err, test.want)
		})
	}
	_, err := h.Rollouts.Get(t.Context(), "nothing")
	controltest.WantFault(t, err, fault.NotFound)
	_, _, err = h.Rollouts.Advance(t.Context(), controltest.Admin(), "itunes")
	controltest.WantFault(t, err, fault.NotFound)
}

func TestTwoServersEndATrialOnce(t *testing.T) {
	c, clock := store.Config{URL: postgres.URL(t)}, controltest.NewClock()
	h := newHouse(t, controltest.Start(t, c, clock))
	second := controltest.Start(t, c, clock)
	n := tagItunes()
	n.AdvanceAfter = "1h"
	v := h.begin(t, n)
	if _, err := second.Rollouts.Get(t.Context(), v.ID); err != nil {
		t.Fatal(err)
	}
	h.first.Apply()
	evaluate(t, h)
	clock.Advance(2 * time.Hour)
	done := make(chan error, 2)
	for _, s := range []*controltest.Server{h.Server, second} {
		go func() { done <- s.Rollouts.Evaluate(context.WithoutCancel(t.Context())) }()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	log, err := second.Observations.AuditLog(t.Context(), observation.AuditQuery{Action: "rollout.advance"})
	if err != nil || len(log.Items) != 1 {
		t.Errorf("the trial ended %d times (%v), want once", len(log.Items), err)
	}
	list, err := second.Rollouts.List(t.Context(), page.Query{})
	if err != nil || len(list.Items) != 1 || list.Items[0].State != staging.StateDone {
		t.Errorf("the other server lists %+v (%v)", list.Items, err)
	}
}

func TestWhatDevicesReportIsLookedAtAtOnce(t *testing.T) {
	h := newHouse(t, controltest.OnSQLite(t))
	n := tagItunes()
	n.StopAt = 1
	v := h.begin(t, n)
	if err := h.Rollouts.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Rollouts.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	session := h.first.Open()
	controltest.Next(t, session, bundle.MessageHello)
	h.refused(h.first, "", 1)
	// The canary loses the change.
	controltest.Next(t, session, bundle.MessageNudge)
	h.wantState(t, v.ID, staging.StateStopped, "rollout", "1 connection of the canary was refused")
}

func TestWhateverAPolicyRefusesCounts(t *testing.T) {
	h := newHouse(t, controltest.OnSQLite(t))
	mode := h.NewPolicy("mode", fleet.ModeBlock)
	h.NewPolicy("names", "")
	v := h.begin(t, rollout.NewRollout{Canary: "pilot", StopAt: 2, Policy: &rollout.PolicyChange{
		Policy: "names", Settings: &fleet.Settings{BypassProtection: fleet.ProtectionBlock},
	}})
	h.refused(h.other, mode, 8)
	evaluate(t, h)
	h.wantState(t, v.ID, staging.StateTrial, "", "")
	h.refused(h.first, mode, 8)
	evaluate(t, h)
	h.wantState(t, v.ID, staging.StateStopped, "rollout", "8 connections of the canary were refused")
}

func TestATrialWithNobodyToTryIt(t *testing.T) {
	h := newHouse(t, controltest.OnSQLite(t))
	h.NewGroup(groups.NewGroup{Name: "empty"})
	n := tagItunes()
	n.Canary, n.AdvanceAfter = "empty", "1m"
	v := h.begin(t, n)
	h.Clock.Advance(time.Hour)
	evaluate(t, h)
	h.wantState(t, v.ID, staging.StateTrial, "", "")
	if !strings.Contains(v.Waiting, "no device is in the canary empty") {
		t.Errorf("the trial waits because %q", v.Waiting)
	}
	spared := rollout.NewRollout{Canary: "pilot", Tag: &rollout.TagChange{
		App: "dropbox", Tag: cloudapp.TagUnsanctioned, Scope: indicator.Profile{Scope: indicator.Scope{Exclude: []string{"pilot"}}},
	}}
	_, _, err := h.Rollouts.Begin(t.Context(), controltest.Admin(), spared)
	controltest.WantFault(t, err, fault.Conflict)
}
