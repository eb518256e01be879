package control_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

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
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/store"
)

func TestInputThatBreaksARuleIsRefusedWithTheField(t *testing.T) {
	s := controltest.OnSQLite(t)
	ctx := t.Context()
	s.NewGroup(groups.NewGroup{Name: "lab"})
	tag := func(apps []string, tag cloudapp.Tag, scope indicator.Scope) error {
		_, err := s.TagApps(ctx, controltest.Admin(), control.TagRequest{Apps: apps, Tag: tag, Scope: indicator.Profile{Scope: scope}})
		return err
	}
	create := func(n indicators.NewIndicator) error {
		_, _, err := s.Indicators.Create(ctx, controltest.Admin(), n)
		return err
	}
	policy := func(n control.NewPolicy) error {
		_, _, err := s.CreatePolicy(ctx, controltest.Admin(), n)
		return err
	}
	group := func(n groups.NewGroup) error {
		_, _, err := s.Groups.Create(ctx, controltest.Admin(), n)
		return err
	}
	token := func(n enrol.NewToken) error {
		_, _, err := s.Enrolment.CreateToken(ctx, controltest.Admin(), n)
		return err
	}
	admits, secret := s.Token(enrol.NewToken{})
	enroll := func(r bundle.EnrollRequest) error {
		r.Secret = secret
		_, err := s.Enrolment.Enroll(ctx, r, "")
		return err
	}
	listed := func(q page.Query) error {
		_, err := s.Apps(ctx, control.AppQuery{Query: q})
		return err
	}
	block := indicator.ActionBlock
	for _, test := range []struct {
		name, field, rule string
		err               error
	}{
		{"an unknown app", "apps", "dropbox", tag([]string{"itunes", "dropbx"}, cloudapp.TagUnsanctioned, indicator.Scope{})},
		{"no app", "apps", "1 to", tag(nil, cloudapp.TagUnsanctioned, indicator.Scope{})},
		{"too many apps", "apps", "1 to", tag(slices.Repeat([]string{"nothing"}, 1001), cloudapp.TagUnsanctioned, indicator.Scope{})},
		{"an unknown tag", "tag", "must be", tag([]string{"itunes"}, "naughty", indicator.Scope{})},
		{"an unknown group", "scope.include_groups", `"nobody"`, tag([]string{"itunes"}, cloudapp.TagMonitored, indicator.Scope{Include: []string{"nobody"}})},
		{"a group on both sides", "scope.exclude_groups", "also included", tag([]string{"itunes"}, cloudapp.TagMonitored, indicator.Scope{Include: []string{"lab"}, Exclude: []string{"lab"}})},
		{"a scope without a tag", "scope", "empty", tag([]string{"itunes"}, cloudapp.TagNone, indicator.Scope{Include: []string{"lab"}})},
		{"no domain", "value", "", create(indicators.NewIndicator{Type: indicator.TypeDomain, Value: "not a name", Action: block})},
		{"a domain above the server", "value", "interdict.example.net", create(indicators.NewIndicator{Type: indicator.TypeDomain, Value: "example.net", Action: block})},
		{"the server's address", "value", "192.0.2.1", create(indicators.NewIndicator{Type: indicator.TypeCIDR, Value: "192.0.2.0/24", Action: block})},
		{"an indicator of the past", "expires_at", "future", create(indicators.NewIndicator{Type: indicator.TypeIP, Value: "198.51.100.1", Action: block, ExpiresAt: s.Clock.Now().Add(-time.Hour)})},
		{"a mode that is none", "settings.network_protection", "audit", policy(control.NewPolicy{Name: "p", Settings: fleet.Settings{NetworkProtection: "strict"}})},
		{"a policy without a name", "name", "required", policy(control.NewPolicy{})},
		{"a name that is taken", "name", "another", group(groups.NewGroup{Name: "lab"})},
		{"a rule with a mistake", "rule", "line 1, column 1", group(groups.NewGroup{Name: "g", Rule: `ös == "linux"`})},
		{"a rule that is no answer", "rule", "true or false", group(groups.NewGroup{Name: "g", Rule: `labels.ring`})},
		{"a group like a device", "name", "single device", group(groups.NewGroup{Name: "device:d"})},
		{"a member that is none", "members", "ghost", group(groups.NewGroup{Name: "g", Members: []string{"ghost"}})},
		{"a token of the past", "expires_at", "future", token(enrol.NewToken{Name: "t", ExpiresAt: s.Clock.Now().Add(-time.Hour)})},
		{"a token for nobody", "uses", "between", token(enrol.NewToken{Name: "t", Uses: -1})},
		{"an enrolment without a name", "name", "required", enroll(bundle.EnrollRequest{CSR: controltest.Request(t)})},
		{"an enrolment without a request", "csr", "PKCS", enroll(bundle.EnrollRequest{Name: "m"})},
		{"a page that is too long", "limit", "1000", listed(page.Query{Limit: 1001})},
		{"a cursor that is none", "cursor", "returned", listed(page.Query{Cursor: "%"})},
	} {
		var f *fault.Error
		if !errors.As(test.err, &f) {
			t.Errorf("%s: got error %v, want a fault", test.name, test.err)
			continue
		}
		hit := slices.ContainsFunc(f.Fields, func(field fault.Field) bool {
			return field.Name == test.field && strings.Contains(field.Rule, test.rule)
		})
		if !hit {
			t.Errorf("%s: got faults %+v, want field %s with %q", test.name, f.Fields, test.field, test.rule)
		}
	}
	log, err := s.Observations.AuditLog(ctx, observation.AuditQuery{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range log.Items {
		if e.Refused == "" && e.Action != "group.create" && e.Target != admits.ID {
			t.Errorf("a refused change left %+v", e)
		}
	}
}

func TestTaggingIsAllOrNothingAndTwiceIsOnce(t *testing.T) {
	s := controltest.OnSQLite(t)
	if _, err := s.TagApps(t.Context(), controltest.Admin(), control.TagRequest{Apps: []string{"itunes", "nothing"}, Tag: cloudapp.TagUnsanctioned}); err == nil {
		t.Fatal("an unknown app was tagged")
	}
	if a, err := s.App(t.Context(), "itunes"); err != nil || a.Tagging.Tag != cloudapp.TagNone {
		t.Errorf("app %+v (%v), want it untagged", a, err)
	}
	r := control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagUnsanctioned}
	first, second := s.Tag(r), s.Tag(r)
	if first != second {
		t.Errorf("tagging twice made revisions %d and %d", first.Revision, second.Revision)
	}
	found, err := s.Apps(t.Context(), control.AppQuery{Tag: cloudapp.TagUnsanctioned})
	if err != nil || len(found.Items) != 1 || found.Items[0].Tagging.By != "root" {
		t.Errorf("unsanctioned apps %+v (%v), want iTunes, tagged by root", found.Items, err)
	}
	r.Tag = cloudapp.TagMonitored
	s.Tag(r)
	log, err := s.Observations.AuditLog(t.Context(), observation.AuditQuery{Target: "itunes"})
	if err != nil || len(log.Items) != 2 {
		t.Fatalf("audit log %+v (%v), want two entries", log, err)
	}
	e := log.Items[0]
	if !strings.Contains(string(e.Before), "unsanctioned") || !strings.Contains(string(e.After), "monitored") ||
		e.Actor != "root" || e.Source != "192.0.2.9" || e.Revision <= first.Revision {
		t.Errorf("entry %+v lacks who, before, after, from where or the revision", e)
	}
}

func TestFeaturesAreOnUntilTurnedOff(t *testing.T) {
	s := controltest.OnSQLite(t)
	d := s.NewDevice("d")
	s.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagUnsanctioned})
	for _, name := range []fleet.Feature{fleet.FeatureAppEnforcement, fleet.FeatureCustomIndicators} {
		if v, _, err := s.SetFeature(t.Context(), controltest.Admin(), name, control.FeatureUpdate{}); err != nil || v.Enabled {
			t.Fatalf("turning %s off: %+v, %v", name, v, err)
		}
	}
	d.Apply()
	if _, ok := d.Record(bundle.KindIndicator, "itunes:itunes.apple.com"); ok {
		t.Error("the bundle has an indicator although app enforcement is off")
	}
	_, _, err := s.Indicators.Create(t.Context(), controltest.Admin(), indicators.NewIndicator{Type: indicator.TypeIP, Value: "198.51.100.1", Action: indicator.ActionBlock})
	controltest.WantFault(t, err, fault.Disabled)
	_, _, err = s.SetFeature(t.Context(), controltest.Admin(), "teleport", control.FeatureUpdate{Enabled: true})
	controltest.WantFault(t, err, fault.NotFound)
}

func TestPagesFollowEachOtherWithoutGapsOrRepeats(t *testing.T) {
	s := controltest.OnSQLite(t)
	want, err := s.Apps(t.Context(), control.AppQuery{Query: page.Query{Limit: 1000}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	q := control.AppQuery{Query: page.Query{Limit: 7}}
	for {
		page, err := s.Apps(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range page.Items {
			got = append(got, a.ID)
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			break
		}
	}
	if len(got) != len(want.Items) || !slices.IsSorted(got) || len(slices.Compact(got)) != len(want.Items) {
		t.Errorf("pages had %d apps, want each of %d once", len(got), len(want.Items))
	}
}

func TestEditsOfAnOldVersionAreStale(t *testing.T) {
	s := controltest.OnSQLite(t)
	ctx := t.Context()
	id := s.NewPolicy("p", fleet.ModeAudit)
	n := control.NewPolicy{Name: "p", Settings: fleet.Settings{NetworkProtection: fleet.ModeBlock}}
	p, _, err := s.UpdatePolicy(ctx, controltest.Admin(), "p", 2, n)
	if err != nil || p.Version != 3 || !p.Assigned {
		t.Fatalf("got %+v (%v), want version 3, still assigned", p, err)
	}
	_, _, err = s.UpdatePolicy(ctx, controltest.Admin(), id, 2, n)
	controltest.WantFault(t, err, fault.Stale)
	_, err = s.DeletePolicy(ctx, controltest.Admin(), id, control.PolicyDeletion{Version: 2})
	controltest.WantFault(t, err, fault.Stale)
	_, err = s.DeletePolicy(ctx, controltest.Admin(), id, control.PolicyDeletion{})
	controltest.WantFault(t, err, fault.Conflict)
	if _, err = s.DeletePolicy(ctx, controltest.Admin(), id, control.PolicyDeletion{Assigned: true}); err != nil {
		t.Errorf("deleting: %v", err)
	}
	_, err = s.Policy(ctx, id)
	controltest.WantFault(t, err, fault.NotFound)
}

func TestGroupsChangeTheirMembers(t *testing.T) {
	s := controltest.OnSQLite(t)
	s.NewDevice("a")
	s.NewDevice("b")
	s.NewGroup(groups.NewGroup{Name: "lab", Members: []string{"a"}})
	v, _, err := s.Groups.Update(t.Context(), controltest.Admin(), "lab", 1, groups.NewGroup{Name: "lab2", Members: []string{"b"}})
	if err != nil || v.Devices != 1 || len(v.Members) != 1 || v.Version != 2 {
		t.Fatalf("got %+v (%v), want one member and version 2", v, err)
	}
	in, err := s.Devices(t.Context(), control.DeviceQuery{Group: "lab2"})
	if err != nil || len(in.Items) != 1 || in.Items[0].Name != "b" {
		t.Errorf("in the group: %+v (%v), want b", in.Items, err)
	}
	if _, err := s.Groups.Delete(t.Context(), controltest.Admin(), "lab2", 2); err != nil {
		t.Errorf("deleting: %v", err)
	}
	if d, err := s.Device(t.Context(), "b"); err != nil || len(d.Groups) != 0 {
		t.Errorf("device %+v (%v), want it in no group", d, err)
	}
}

func TestADeletedDeviceIsRefused(t *testing.T) {
	s := controltest.OnSQLite(t)
	d := s.NewDevice("d")
	session := d.Open()
	controltest.Next(t, session, bundle.MessageHello)
	if _, err := s.DeleteDevice(t.Context(), controltest.Admin(), "d", edit.AnyVersion); err != nil {
		t.Fatal(err)
	}
	if _, open := <-session.Messages(); open {
		t.Error("the session of a deleted device is open")
	}
	_, err := s.Bundle(t.Context(), d.ID, 0, "")
	controltest.WantFault(t, err, fault.Unauthorized)
	_, err = s.Connect(t.Context(), d.ID, control.Facts{})
	controltest.WantFault(t, err, fault.Unauthorized)
	controltest.WantFault(t, s.Applied(t.Context(), d.ID, fleet.Applied{}), fault.Unauthorized)
	_, err = s.Observations.Ingest(t.Context(), d.ID, ulid.Make().String(), nil)
	controltest.WantFault(t, err, fault.Unauthorized)
	_, err = s.Enrolment.Renew(t.Context(), d.ID, bundle.RenewRequest{CSR: controltest.Request(t)})
	controltest.WantFault(t, err, fault.Unauthorized)
}

func TestADeviceAheadOfTheServerKeepsWhatItHas(t *testing.T) {
	s := controltest.OnSQLite(t)
	d := s.NewDevice("d")
	_, err := s.Bundle(t.Context(), d.ID, 1_000_000, "another")
	controltest.WantFault(t, err, fault.Unavailable)
}

func TestAnAcknowledgementThatCannotBeKeptHarmsNobody(t *testing.T) {
	for _, e := range controltest.Engines(postgres) {
		t.Run(e.Name, func(t *testing.T) {
			s := controltest.Start(t, e.Config(t), controltest.NewClock())
			hostile, good := s.NewDevice("hostile"), s.NewDevice("good")
			for _, a := range []fleet.Applied{
				{Mode: "chaos"}, {Digest: "a\x00b"}, {Digest: strings.Repeat("a", 256)}, {Version: 1 << 63},
			} {
				controltest.WantFault(t, s.Applied(t.Context(), hostile.ID, a), fault.Invalid)
			}
			if err := s.Applied(t.Context(), good.ID, fleet.Applied{Version: 1, Digest: "d"}); err != nil {
				t.Errorf("acknowledging: %v", err)
			}
		})
	}
}

func TestRefusalsFillTheAuditLogWithinBounds(t *testing.T) {
	s := controltest.OnSQLite(t)
	attempt := control.Attempt{Actor: control.Actor{Kind: control.ActorUnknown, Source: "192.0.2.7"}, Action: "GET /", Reason: "no"}
	refuse := func(times int) {
		t.Helper()
		for range times {
			if err := s.Refused(t.Context(), attempt); err != nil {
				t.Fatal(err)
			}
		}
	}
	refuse(1000)
	attempt.Actor = controltest.Admin()
	refuse(1)
	s.Clock.Advance(time.Hour)
	attempt.Actor = control.Actor{Kind: control.ActorUnknown}
	refuse(1)
	log, err := s.Observations.AuditLog(t.Context(), observation.AuditQuery{Action: "GET /", Query: page.Query{Limit: 1000}})
	if err != nil || len(log.Items) != 102 {
		t.Fatalf("%d entries (%v), want 100 of strangers, one of an administrator and one an hour later", len(log.Items), err)
	}
	if newest := log.Items[0].Refused; newest != "no (900 more like it before were not written down)" {
		t.Errorf("newest entry %q, want it to say how many were left out", newest)
	}
}

func TestSyncWaitsForTheAcknowledgement(t *testing.T) {
	s := controltest.OnSQLite(t)
	d := s.NewDevice("d")
	_, err := s.SyncDevice(t.Context(), controltest.Admin(), "d")
	controltest.WantFault(t, err, fault.Conflict)
	session := d.Open()
	controltest.Next(t, session, bundle.MessageHello)

	answered := make(chan error)
	go func() {
		v, failed := s.SyncDevice(t.Context(), controltest.Admin(), "d")
		if failed == nil && v.Applied.Digest != v.Desired {
			failed = errors.New("it returned before the device was up to date")
		}
		answered <- failed
	}()
	controltest.Next(t, session, bundle.MessageSync)
	d.Apply()
	if err = <-answered; err != nil {
		t.Errorf("syncing: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = s.SyncDevice(ctx, controltest.Admin(), "d")
	controltest.WantFault(t, err, fault.Unavailable)
}

func TestNudgesNobodyTakesAreJoined(t *testing.T) {
	s := controltest.OnSQLite(t)
	d := s.NewDevice("d")
	session := d.Open()
	var last control.Change
	for range 20 {
		s.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagUnsanctioned})
		last = s.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagNone})
	}
	controltest.Next(t, session, bundle.MessageHello)
	if m := controltest.Next(t, session, bundle.MessageNudge); m.Version != last.Revision {
		t.Errorf("nudge to version %d, want the newest, %d", m.Version, last.Revision)
	}
	controltest.Silent(t, session)
}

func TestANewSessionEndsTheOlderOne(t *testing.T) {
	s := controltest.OnSQLite(t)
	d := s.NewDevice("d")
	older := d.Open()
	controltest.Next(t, older, bundle.MessageHello)
	newer := d.Open()
	controltest.Next(t, newer, bundle.MessageHello)
	if _, open := <-older.Messages(); open {
		t.Error("the older session is open")
	}
	older.Close()
	if v, err := s.Device(t.Context(), "d"); err != nil || !v.Online {
		t.Errorf("device %+v (%v), want it online", v, err)
	}
	newer.Close()
	if v, err := s.Device(t.Context(), "d"); err != nil || v.Online || v.LastSeen.IsZero() {
		t.Errorf("device %+v (%v), want it offline, seen just now", v, err)
	}
}

func TestAServerThatMovedTakesItsNewNameOutOfBundles(t *testing.T) {
	c, clk := store.Config{Dir: t.TempDir()}, controltest.NewClock()
	s := controltest.Start(t, c, clk)
	d := s.NewDevice("d")
	i, _, err := s.Indicators.Create(t.Context(), controltest.Admin(), indicators.NewIndicator{
		Type: indicator.TypeDomain, Value: "moved.example", Action: indicator.ActionBlock,
	})
	if err != nil {
		t.Fatal(err)
	}
	d.Apply()
	s.End()

	d.Server = controltest.StartAt(t, c, clk, "https://interdict.moved.example:8443")
	if d.Fetch() == 0 {
		t.Fatal("there is no new bundle although the server moved")
	}
	if _, ok := d.Record(bundle.KindIndicator, i.ID); ok {
		t.Error("the bundle cuts agents off from the server's new name")
	}
}
