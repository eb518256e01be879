package control_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/bundle"
	"interdict/internal/control"
	"interdict/internal/control/controltest"
	"interdict/internal/control/edit"
	"interdict/internal/control/groups"
	"interdict/internal/control/observation"
	"interdict/internal/control/page"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/store"
)

func TestPolicyStatusTellsEveryState(t *testing.T) {
	for _, e := range controltest.Engines(postgres) {
		t.Run(e.Name, func(t *testing.T) {
			s := controltest.Start(t, e.Config(t), controltest.NewClock())
			s.NewGroup(groups.NewGroup{Name: "rivals", Rule: `name == "torn"`})
			done, torn, away := s.NewDevice("done"), s.NewDevice("torn"), s.NewDevice("away")
			broken, busy := s.NewDevice("broken"), s.NewDevice("busy")
			for _, d := range []*controltest.Device{done, torn, broken, busy} {
				controltest.Next(t, d.Open(), bundle.MessageHello)
			}
			id := s.NewPolicy("main", fleet.ModeBlock)
			s.NewPolicy("rival", fleet.ModeAudit, "rivals")
			s.Clock.Advance(time.Second)
			for _, d := range []*controltest.Device{done, torn} {
				d.Apply()
			}
			if err := s.Applied(t.Context(), broken.ID, fleet.Applied{Error: "no\x1b nftables"}); err != nil {
				t.Fatal(err)
			}
			_ = away

			status, err := s.PolicyStatus(t.Context(), "main")
			if err != nil {
				t.Fatal(err)
			}
			if want := (fleet.StateCounts{Total: 5, Applied: 1, Pending: 1, Offline: 1, Failed: 1, Conflict: 1}); status.Counts != want {
				t.Errorf("counts %+v, want %+v", status.Counts, want)
			}
			if len(status.Settings) != 1 || status.Settings[0].Value != "block" || status.Settings[0].Counts != status.Counts {
				t.Errorf("settings %+v, want the one that the policy makes", status.Settings)
			}
			if len(status.Conflicts) != 1 {
				t.Fatalf("conflicts %+v, want one", status.Conflicts)
			}
			if c := status.Conflicts[0]; c.PolicyName != "main" || c.Value != "block" || c.OverruledName != "rival" || c.OverruledValue != "audit" || c.Devices != 1 {
				t.Errorf("conflict %+v, want both sides with their names", c)
			}

			shown, err := s.PolicyView(t.Context(), "rival")
			if diff := cmp.Diff(status.Conflicts, shown.Conflicts); diff != "" || err != nil {
				t.Errorf("the other policy shows (%v) (-status +view):\n%s", err, diff)
			}
			policies, err := s.Policies(t.Context(), page.Query{})
			if err != nil || len(policies.Items) != 2 || !cmp.Equal(policies.Items[0].Conflicts, status.Conflicts) {
				t.Errorf("got %+v (%v), want the conflict with both", policies.Items, err)
			}

			list, err := s.PolicyDevices(t.Context(), id, control.PolicyDeviceQuery{States: []fleet.SettingState{fleet.SettingFailed, fleet.SettingConflict}})
			if err != nil || len(list.Items) != 2 || list.Items[0].Name != "broken" || list.Items[1].Name != "torn" {
				t.Fatalf("got %+v (%v), want the broken and the torn one", list.Items, err)
			}
			if v := list.Items[0].Settings[0]; v.Text != "no  nftables" || v.PolicyName != "main" {
				t.Errorf("got %+v, want the reason, fit to be shown", v)
			}
			if v := list.Items[1].Settings[0].Conflicts; len(v) != 1 || v[0].OverruledName != "rival" {
				t.Errorf("got conflicts %+v, want them with names", v)
			}
			all, err := s.PolicyDevices(t.Context(), id, control.PolicyDeviceQuery{Query: page.Query{Limit: 2}})
			if err != nil || len(all.Items) != 2 || all.Next == "" {
				t.Errorf("got %d devices and %q (%v), want a page of 2", len(all.Items), all.Next, err)
			}
			_, err = s.PolicyDevices(t.Context(), id, control.PolicyDeviceQuery{States: []fleet.SettingState{"idle"}})
			controltest.WantFault(t, err, fault.Invalid)
		})
	}
}

func TestPolicyStatusSaysHowLongTheNewestChangeTook(t *testing.T) {
	s := controltest.OnSQLite(t)
	id := s.NewPolicy("p", fleet.ModeAudit)
	quick, slow := s.NewDevice("quick"), s.NewDevice("slow")
	quick.Apply()
	slow.Apply()
	_, change, err := s.UpdatePolicy(t.Context(), controltest.Admin(), id, edit.AnyVersion, control.NewPolicy{Name: "p", Settings: fleet.Settings{NetworkProtection: fleet.ModeBlock}})
	if err != nil {
		t.Fatal(err)
	}
	quick.Apply()
	s.Clock.Advance(600 * time.Millisecond)
	slow.Apply()
	s.Clock.Advance(time.Hour)
	// That it says the same again is no news.
	quick.Apply()
	status, err := s.PolicyStatus(t.Context(), id)
	if err != nil || status.Counts.Applied != 2 || status.Revision != change.Revision {
		t.Fatalf("got %+v (%v), want revision %d on both", status, err, change.Revision)
	}
	if status.Took < 0.6 || status.Took > 0.7 {
		t.Errorf("it took %v s, want 0.6", status.Took)
	}
}

func TestADeviceShowsItsSettingsWithTheirOrigin(t *testing.T) {
	s := controltest.OnSQLite(t)
	s.NewPolicy("p", fleet.ModeAudit)
	d := s.NewDevice("d")
	d.Apply()
	first, applied := d.Have.Version, s.Clock.Now()
	s.Clock.Advance(time.Hour)
	s.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: "unsanctioned"})
	d.Apply()
	report := fleet.Applied{
		Version: d.Have.Version, Digest: d.Have.Digest,
		Settings: []fleet.SettingReport{
			{Setting: fleet.SettingAppControl, Value: "block", Channel: fleet.ChannelFile, State: fleet.SettingApplied},
			{Setting: fleet.SettingGatewayMode, Value: "off", Channel: fleet.ChannelDefault, State: fleet.SettingNotApplicable, Text: strings.Repeat("x", 1000)},
			{Setting: "of_tomorrow", Value: "on", Channel: fleet.ChannelServer, State: fleet.SettingApplied},
			{Setting: fleet.SettingFailMode, Value: "open", Channel: "rumour", State: fleet.SettingApplied},
		},
	}
	for range 100 {
		report.Health = append(report.Health, fleet.HealthItem{Code: "clock", Since: s.Clock.Now(), Text: "it is\nwrong"})
	}
	if err := s.Applied(t.Context(), d.ID, report); err != nil {
		t.Fatal(err)
	}
	v, err := s.Device(t.Context(), "d")
	if err != nil || len(v.Settings) != len(fleet.Definitions()) {
		t.Fatalf("got %+v (%v), want every setting", v.Settings, err)
	}
	byName := make(map[string]control.SettingView)
	for _, one := range v.Settings {
		byName[one.Setting] = one
	}
	if got := byName[fleet.SettingNetworkProtection]; got.Value != "audit" || got.PolicyName != "p" || got.State != fleet.SettingApplied {
		t.Errorf("got %+v, want it from the policy", got)
	} else if got.Version != first || applied.Sub(got.Since) > time.Second || got.Since.After(applied) {
		t.Errorf("it is held since version %d at %v, want %d just before %v: only a tag changed", got.Version, got.Since, first, applied)
	}
	if got := byName[fleet.SettingAppControl]; got.InForce != "block" || got.Channel != fleet.ChannelFile || got.Policy != "" || got.Version != d.Have.Version {
		t.Errorf("got %+v, want it from a file", got)
	}
	if got := byName[fleet.SettingGatewayMode]; got.State != fleet.SettingNotApplicable || len(got.Text) != 255 {
		t.Errorf("got %+v, want it not applicable, with a text that is cut", got)
	}
	if len(v.Applied.Settings) != 2 || len(v.Applied.Health) != 64 || v.Applied.Health[0].Text != "it is wrong" {
		t.Errorf("%d settings and %d faults were kept, want 2 and 64", len(v.Applied.Settings), len(v.Applied.Health))
	}
}

func TestWhatADeviceSaysOfItselfIsKeptWhenItIsNews(t *testing.T) {
	for _, e := range controltest.Engines(postgres) {
		t.Run(e.Name, func(t *testing.T) {
			s := controltest.Start(t, e.Config(t), controltest.NewClock())
			s.NewGroup(groups.NewGroup{Name: "old", Rule: `version < "2"`})
			s.NewPolicy("p", fleet.ModeBlock, "old")
			d := s.NewDevice("d")
			before, err := s.Observations.AuditLog(t.Context(), observation.AuditQuery{})
			if err != nil {
				t.Fatal(err)
			}
			session := d.Open() // with version 1
			hello := controltest.Next(t, session, bundle.MessageHello)
			nudge := controltest.Next(t, session, bundle.MessageNudge)
			if nudge.Digest == hello.Digest {
				t.Error("the device was nudged for nothing")
			}
			v, err := s.Device(t.Context(), "d")
			if err != nil || v.Hostname != "host" || v.AgentVersion != "1" || v.Version != 1 || v.Effective.Settings.NetworkProtection != fleet.ModeBlock {
				t.Errorf("got %+v (%v), want it in the group, and no new version", v, err)
			}
			after, err := s.Observations.AuditLog(t.Context(), observation.AuditQuery{})
			if err != nil || len(after.Items) != len(before.Items) {
				t.Errorf("%d lines in the audit log (%v), want the %d that were there", len(after.Items), err, len(before.Items))
			}

			again := d.Open()
			controltest.Next(t, again, bundle.MessageHello)
			id := s.NewGroup(groups.NewGroup{Name: "mark"})
			g, err := s.Groups.Get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			change := s.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: "sanctioned"})
			if change.Revision != nudge.Version+2 {
				t.Errorf("revision %d after %d and group %s, want two more: saying the same again is no change", change.Revision, nudge.Version, g.Name)
			}
		})
	}
}

func TestAScopeIsChangedInPlace(t *testing.T) {
	s := controltest.OnSQLite(t)
	ctx := t.Context()
	s.NewDevice("alice-pc")
	s.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: "unsanctioned"})
	before, err := s.App(ctx, "itunes")
	if err != nil {
		t.Fatal(err)
	}
	other := controltest.Admin()
	other.Name = "somebody else"
	scope := indicator.Profile{
		Scope:   indicator.Scope{Exclude: []string{"device:alice-pc"}},
		People:  indicator.People{IncludeUsers: []string{"bob", "alice", "bob"}},
		Windows: []indicator.Window{{From: "08:00", To: "17:00"}},
	}
	v, _, err := s.ScopeApp(ctx, other, "iTunes", before.Tagging.Edition(), scope)
	if err != nil {
		t.Fatal(err)
	}
	got := v.Tagging
	if got.By != before.Tagging.By || !got.At.Equal(before.Tagging.At) || got.Tag != before.Tagging.Tag {
		t.Errorf("got %+v, want the tag of before, %+v", got, before.Tagging)
	}
	if len(got.Scope.IncludeUsers) != 2 || got.Scope.IncludeUsers[0] != "alice" || len(got.Scope.Windows) != 1 || !strings.HasPrefix(got.Scope.Exclude[0], "device:0") {
		t.Errorf("got scope %+v, want names each once, and the device by its id", got.Scope)
	}
	_, _, err = s.ScopeApp(ctx, other, "itunes", before.Tagging.Edition(), indicator.Profile{})
	controltest.WantFault(t, err, fault.Stale)
	scope.Windows[0].To = "late"
	_, _, err = s.ScopeApp(ctx, other, "itunes", edit.AnyVersion, scope)
	controltest.WantFault(t, err, fault.Invalid)
	_, _, err = s.ScopeApp(ctx, other, "dropbox", edit.AnyVersion, indicator.Profile{})
	controltest.WantFault(t, err, fault.Conflict)
	log, err := s.Observations.AuditLog(ctx, observation.AuditQuery{Action: "app.scope"})
	if err != nil || len(log.Items) != 1 || log.Items[0].Actor != other.Name {
		t.Errorf("audit log %+v (%v), want one line", log.Items, err)
	}
}

func TestPolicyHistory(t *testing.T) {
	s := controltest.OnSQLite(t)
	ctx := t.Context()
	s.NewGroup(groups.NewGroup{Name: "lab"})
	id := s.NewPolicy("p", fleet.ModeAudit, "lab")
	n := control.NewPolicy{Name: "p", Settings: fleet.Settings{NetworkProtection: fleet.ModeBlock, WarnBypassDuration: "60m"}, Platforms: []string{"windows", "linux", "linux"}}
	p, _, err := s.UpdatePolicy(ctx, controltest.Admin(), id, edit.AnyVersion, n)
	if err != nil || p.Settings.WarnBypassDuration != "1h" || len(p.Platforms) != 2 {
		t.Fatalf("got %+v (%v), want it in its canonical form", p, err)
	}
	h, err := s.History.Policy(ctx, "p", page.Query{Limit: 2})
	if err != nil || len(h.Items) != 2 || h.Next == "" {
		t.Fatalf("got %+v (%v), want two versions and that there are more", h, err)
	}
	newest := h.Items[0]
	if newest.Version != 3 || newest.By != "root" || len(newest.Changes) != 3 || newest.Changes[0] != (fleet.Difference{Field: "settings.network_protection", Before: "audit", After: "block"}) {
		t.Errorf("got %+v, want what the update changed", newest)
	}
	if c := h.Items[1].Changes; len(c) != 2 || c[1].After != "lab" {
		t.Errorf("got %+v, want the group by its name", c)
	}
	rest, err := s.History.Policy(ctx, "p", page.Query{Cursor: h.Next})
	if err != nil || len(rest.Items) != 1 || rest.Items[0].Version != 1 {
		t.Errorf("got %+v (%v), want the first version", rest, err)
	}
}

func TestSyncReachesADeviceOfAnotherServer(t *testing.T) {
	c, clk := store.Config{URL: postgres.URL(t)}, controltest.NewClock()
	one, two := controltest.Start(t, c, clk), controltest.Start(t, c, clk)
	d := one.NewDevice("d")
	d.Server = two
	session := d.Open()
	controltest.Next(t, session, bundle.MessageHello)
	answered := make(chan error)
	go func() {
		// Until the other server has written down who is connected to it, the
		// device seems to be away.
		for {
			v, err := one.SyncDevice(t.Context(), controltest.Admin(), "d")
			if fault.CodeOf(err) == fault.Conflict {
				clk.Advance(time.Second)
				continue
			}
			if err == nil && v.State() != fleet.StateApplied {
				err = fmt.Errorf("it is %s", v.State())
			}
			answered <- err
			return
		}
	}()
	for m := range session.Messages() {
		if m.Type == bundle.MessageSync {
			break
		}
	}
	d.Apply()
	clk.Advance(time.Second)
	if err := <-answered; err != nil {
		t.Errorf("syncing: %v", err)
	}
}
