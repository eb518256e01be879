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
	"interdict/internal/event"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/store"
)

func onSQLite(t *testing.T) *server {
	t.Helper()
	return start(t, store.Config{Dir: t.TempDir()}, newClock())
}

func TestInputThatBreaksARuleIsRefusedWithTheField(t *testing.T) {
	s := onSQLite(t)
	ctx := t.Context()
	s.group(control.NewGroup{Name: "lab"})
	tag := func(apps []string, tag cloudapp.Tag, scope indicator.Scope) error {
		_, err := s.TagApps(ctx, admin(), control.TagRequest{Apps: apps, Tag: tag, Scope: scope})
		return err
	}
	create := func(n control.NewIndicator) error {
		_, _, err := s.CreateIndicator(ctx, admin(), n)
		return err
	}
	policy := func(n control.NewPolicy) error {
		_, _, err := s.CreatePolicy(ctx, admin(), n)
		return err
	}
	group := func(n control.NewGroup) error {
		_, _, err := s.CreateGroup(ctx, admin(), n)
		return err
	}
	token := func(n control.NewToken) error {
		_, _, err := s.CreateToken(ctx, admin(), n)
		return err
	}
	admits, secret := s.token(control.NewToken{})
	enroll := func(r bundle.EnrollRequest) error {
		r.Secret = secret
		_, err := s.Enroll(ctx, r, "")
		return err
	}
	page := func(q control.PageQuery) error {
		_, err := s.Apps(ctx, control.AppQuery{PageQuery: q})
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
		{"no domain", "value", "", create(control.NewIndicator{Type: indicator.TypeDomain, Value: "not a name", Action: block})},
		{"a domain above the server", "value", "interdict.example.net", create(control.NewIndicator{Type: indicator.TypeDomain, Value: "example.net", Action: block})},
		{"the server's address", "value", "192.0.2.1", create(control.NewIndicator{Type: indicator.TypeCIDR, Value: "192.0.2.0/24", Action: block})},
		{"an indicator of the past", "expires_at", "future", create(control.NewIndicator{Type: indicator.TypeIP, Value: "198.51.100.1", Action: block, ExpiresAt: s.clock.Now().Add(-time.Hour)})},
		{"a mode that is none", "settings.network_protection", "audit", policy(control.NewPolicy{Name: "p", Settings: fleet.Settings{NetworkProtection: "strict"}})},
		{"a policy without a name", "name", "required", policy(control.NewPolicy{})},
		{"a name that is taken", "name", "another", group(control.NewGroup{Name: "lab"})},
		{"a label that is none", "match_labels", "keys", group(control.NewGroup{Name: "g", Match: map[string]string{"a b": ""}})},
		{"a member that is none", "members", "ghost", group(control.NewGroup{Name: "g", Members: []string{"ghost"}})},
		{"a token of the past", "expires_at", "future", token(control.NewToken{Name: "t", ExpiresAt: s.clock.Now().Add(-time.Hour)})},
		{"a token for nobody", "uses", "between", token(control.NewToken{Name: "t", Uses: -1})},
		{"an enrolment without a name", "name", "required", enroll(bundle.EnrollRequest{CSR: request(t)})},
		{"an enrolment without a request", "csr", "PKCS", enroll(bundle.EnrollRequest{Name: "m"})},
		{"a page that is too long", "limit", "1000", page(control.PageQuery{Limit: 1001})},
		{"a cursor that is none", "cursor", "returned", page(control.PageQuery{Cursor: "%"})},
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
	log, err := s.AuditLog(ctx, control.AuditQuery{})
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
	s := onSQLite(t)
	if _, err := s.TagApps(t.Context(), admin(), control.TagRequest{Apps: []string{"itunes", "nothing"}, Tag: cloudapp.TagUnsanctioned}); err == nil {
		t.Fatal("an unknown app was tagged")
	}
	if a, err := s.App(t.Context(), "itunes"); err != nil || a.Tagging.Tag != cloudapp.TagNone {
		t.Errorf("app %+v (%v), want it untagged", a, err)
	}
	r := control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagUnsanctioned}
	first, second := s.tag(r), s.tag(r)
	if first != second {
		t.Errorf("tagging twice made revisions %d and %d", first.Revision, second.Revision)
	}
	found, err := s.Apps(t.Context(), control.AppQuery{Tag: cloudapp.TagUnsanctioned})
	if err != nil || len(found.Items) != 1 || found.Items[0].Tagging.By != "root" {
		t.Errorf("unsanctioned apps %+v (%v), want iTunes, tagged by root", found.Items, err)
	}
	r.Tag = cloudapp.TagMonitored
	s.tag(r)
	log, err := s.AuditLog(t.Context(), control.AuditQuery{Target: "itunes"})
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
	s := onSQLite(t)
	d := s.newDevice("d")
	s.tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagUnsanctioned})
	for _, name := range []fleet.Feature{fleet.FeatureAppEnforcement, fleet.FeatureCustomIndicators} {
		if v, _, err := s.SetFeature(t.Context(), admin(), name, control.FeatureUpdate{}); err != nil || v.Enabled {
			t.Fatalf("turning %s off: %+v, %v", name, v, err)
		}
	}
	d.apply()
	if _, ok := d.record(bundle.KindIndicator, "itunes:itunes.apple.com"); ok {
		t.Error("the bundle has an indicator although app enforcement is off")
	}
	_, _, err := s.CreateIndicator(t.Context(), admin(), control.NewIndicator{Type: indicator.TypeIP, Value: "198.51.100.1", Action: indicator.ActionBlock})
	wantFault(t, err, fault.Disabled)
	_, _, err = s.SetFeature(t.Context(), admin(), "teleport", control.FeatureUpdate{Enabled: true})
	wantFault(t, err, fault.NotFound)
}

func TestIndicatorsCanBeListedAndDeleted(t *testing.T) {
	s := onSQLite(t)
	s.tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagMonitored})
	n := control.NewIndicator{Type: indicator.TypeDomain, Value: "bad.example", Action: indicator.ActionBlock, Description: "phishing"}
	i, _, err := s.CreateIndicator(t.Context(), admin(), n)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = s.CreateIndicator(t.Context(), admin(), n)
	wantFault(t, err, fault.Conflict)
	all, err := s.Indicators(t.Context(), control.IndicatorQuery{Search: "PHISH"})
	if err != nil || len(all.Items) != 1 || all.Items[0].ID != i.ID {
		t.Errorf("found %+v (%v), want the custom one", all.Items, err)
	}
	all, err = s.Indicators(t.Context(), control.IndicatorQuery{Source: indicator.SourceCatalog, App: "itunes"})
	if err != nil || len(all.Items) == 0 || all.Items[0].Action != indicator.ActionWarn {
		t.Errorf("found %+v (%v), want the warnings for iTunes", all.Items, err)
	}
	_, err = s.DeleteIndicator(t.Context(), admin(), all.Items[0].ID)
	wantFault(t, err, fault.Conflict)
	if _, err = s.DeleteIndicator(t.Context(), admin(), i.ID); err != nil {
		t.Errorf("deleting: %v", err)
	}
	_, err = s.DeleteIndicator(t.Context(), admin(), i.ID)
	wantFault(t, err, fault.NotFound)
}

func TestAnImportIsOneChangeAndTellsWhatItRefused(t *testing.T) {
	s := onSQLite(t)
	ctx := t.Context()
	row := func(value string) control.NewIndicator {
		return control.NewIndicator{Type: indicator.TypeDomain, Value: value, Action: indicator.ActionBlock}
	}
	rows := []control.NewIndicator{row("a.example"), row("not a name"), row("b.example"), row("A.example."), row("com")}
	done, err := s.ImportIndicators(ctx, admin(), rows)
	if err != nil || done.Added != 2 || done.Existing != 1 || done.Revision == 0 {
		t.Fatalf("got %+v, %v", done, err)
	}
	if len(done.Refused) != 2 || done.Refused[0].Row != 1 || done.Refused[1].Row != 4 || done.Refused[0].Faults[0].Name != "value" {
		t.Errorf("got refused %+v, want rows 1 and 4 for their value", done.Refused)
	}
	again, err := s.ImportIndicators(ctx, admin(), rows[:1])
	if err != nil || again.Added != 0 || again.Existing != 1 {
		t.Errorf("importing again: got %+v, %v", again, err)
	}
	none, err := s.ImportIndicators(ctx, admin(), rows[1:2])
	if err != nil || none.Revision != 0 || len(none.Refused) != 1 {
		t.Errorf("importing nothing but faults: got %+v, %v", none, err)
	}
	_, err = s.ImportIndicators(ctx, admin(), nil)
	wantFault(t, err, fault.Invalid)
	_, err = s.ImportIndicators(ctx, admin(), make([]control.NewIndicator, control.MaxImport+1))
	wantFault(t, err, fault.Invalid)
}

func TestPagesFollowEachOtherWithoutGapsOrRepeats(t *testing.T) {
	s := onSQLite(t)
	want, err := s.Apps(t.Context(), control.AppQuery{PageQuery: control.PageQuery{Limit: 1000}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	q := control.AppQuery{PageQuery: control.PageQuery{Limit: 7}}
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
	s := onSQLite(t)
	ctx := t.Context()
	id := s.policy("p", fleet.ModeAudit)
	n := control.NewPolicy{Name: "p", Settings: fleet.Settings{NetworkProtection: fleet.ModeBlock}}
	p, _, err := s.UpdatePolicy(ctx, admin(), "p", 2, n)
	if err != nil || p.Version != 3 || !p.Assigned {
		t.Fatalf("got %+v (%v), want version 3, still assigned", p, err)
	}
	_, _, err = s.UpdatePolicy(ctx, admin(), id, 2, n)
	wantFault(t, err, fault.Stale)
	_, err = s.DeletePolicy(ctx, admin(), id, control.PolicyDeletion{Version: 2})
	wantFault(t, err, fault.Stale)
	_, err = s.DeletePolicy(ctx, admin(), id, control.PolicyDeletion{})
	wantFault(t, err, fault.Conflict)
	if _, err = s.DeletePolicy(ctx, admin(), id, control.PolicyDeletion{Assigned: true}); err != nil {
		t.Errorf("deleting: %v", err)
	}
	_, err = s.Policy(ctx, id)
	wantFault(t, err, fault.NotFound)
}

func TestGroupsChangeTheirMembers(t *testing.T) {
	s := onSQLite(t)
	s.newDevice("a")
	s.newDevice("b")
	s.group(control.NewGroup{Name: "lab", Members: []string{"a"}})
	v, _, err := s.UpdateGroup(t.Context(), admin(), "lab", 1, control.NewGroup{Name: "lab2", Members: []string{"b"}})
	if err != nil || v.Devices != 1 || len(v.Members) != 1 || v.Version != 2 {
		t.Fatalf("got %+v (%v), want one member and version 2", v, err)
	}
	in, err := s.Devices(t.Context(), control.DeviceQuery{Group: "lab2"})
	if err != nil || len(in.Items) != 1 || in.Items[0].Name != "b" {
		t.Errorf("in the group: %+v (%v), want b", in.Items, err)
	}
	if _, err := s.DeleteGroup(t.Context(), admin(), "lab2", 2); err != nil {
		t.Errorf("deleting: %v", err)
	}
	if d, err := s.Device(t.Context(), "b"); err != nil || len(d.Groups) != 0 {
		t.Errorf("device %+v (%v), want it in no group", d, err)
	}
}

func TestADeletedDeviceIsRefused(t *testing.T) {
	s := onSQLite(t)
	d := s.newDevice("d")
	session := d.connect()
	next(t, session, bundle.MessageHello)
	if _, err := s.DeleteDevice(t.Context(), admin(), "d", control.AnyVersion); err != nil {
		t.Fatal(err)
	}
	if _, open := <-session.Messages(); open {
		t.Error("the session of a deleted device is open")
	}
	_, err := s.Bundle(t.Context(), d.id, 0, "")
	wantFault(t, err, fault.Unauthorized)
	_, err = s.Connect(t.Context(), d.id, control.Facts{})
	wantFault(t, err, fault.Unauthorized)
	wantFault(t, s.Applied(t.Context(), d.id, fleet.Applied{}), fault.Unauthorized)
	_, err = s.Ingest(t.Context(), d.id, ulid.Make().String(), nil)
	wantFault(t, err, fault.Unauthorized)
	_, err = s.Renew(t.Context(), d.id, bundle.RenewRequest{CSR: request(t)})
	wantFault(t, err, fault.Unauthorized)
}

func TestADeviceAheadOfTheServerKeepsWhatItHas(t *testing.T) {
	s := onSQLite(t)
	d := s.newDevice("d")
	_, err := s.Bundle(t.Context(), d.id, 1_000_000, "another")
	wantFault(t, err, fault.Unavailable)
}

func TestBatchesThatAreNoneAreRefused(t *testing.T) {
	s := onSQLite(t)
	d := s.newDevice("d")
	_, err := s.Ingest(t.Context(), d.id, "key", nil)
	wantFault(t, err, fault.Invalid)
	_, err = s.Ingest(t.Context(), d.id, ulid.Make().String(), make([]event.Event, bundle.MaxEventBatch+1))
	wantFault(t, err, fault.Invalid)
}

func TestEventsThatCannotBeKeptAreRejectedAlone(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			s := start(t, e.config(t), newClock())
			d := s.newDevice("d")
			var batch []event.Event
			for _, spoil := range []func(*event.Event){
				func(*event.Event) {},
				func(e *event.Event) { e.ID = strings.Repeat("!", 26) },
				func(e *event.Event) { e.Count = 1 << 60 },
				func(e *event.Event) { e.LastSeen = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) },
				func(e *event.Event) { e.User.Name = "\xff" },
				func(e *event.Event) { e.Destination.Host = "a\x00b" },
			} {
				e := blocked(1)
				spoil(&e)
				batch = append(batch, e)
			}
			r, err := s.Ingest(t.Context(), d.id, ulid.Make().String(), batch)
			if err != nil || r.Stored != 1 || r.Rejected != 5 || !strings.HasPrefix(r.Fault, "event 1: id:") {
				t.Errorf("receipt %+v (%v), want 1 stored, 5 rejected and why", r, err)
			}
			_, err = s.Events(t.Context(), control.EventQuery{User: "\x00"})
			wantFault(t, err, fault.Invalid)
			_, err = s.AuditLog(t.Context(), control.AuditQuery{Target: "\xff"})
			wantFault(t, err, fault.Invalid)
			_, err = s.Alert(t.Context(), "\x00")
			wantFault(t, err, fault.NotFound)
		})
	}
}

func TestAStrangerLearnsNothingFromEnrolment(t *testing.T) {
	s := onSQLite(t)
	_, err := s.Enroll(t.Context(), bundle.EnrollRequest{Secret: "guess", Name: " ", CSR: []byte("none")}, "")
	wantFault(t, err, fault.Unauthorized)
}

func TestAnAcknowledgementThatCannotBeKeptHarmsNobody(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			s := start(t, e.config(t), newClock())
			hostile, good := s.newDevice("hostile"), s.newDevice("good")
			for _, a := range []fleet.Applied{
				{Mode: "chaos"}, {Digest: "a\x00b"}, {Digest: strings.Repeat("a", 256)}, {Version: 1 << 63},
			} {
				wantFault(t, s.Applied(t.Context(), hostile.id, a), fault.Invalid)
			}
			if err := s.Applied(t.Context(), good.id, fleet.Applied{Version: 1, Digest: "d"}); err != nil {
				t.Errorf("acknowledging: %v", err)
			}
		})
	}
}

func TestRefusalsFillTheAuditLogWithinBounds(t *testing.T) {
	s := onSQLite(t)
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
	attempt.Actor = admin()
	refuse(1)
	s.clock.advance(time.Hour)
	attempt.Actor = control.Actor{Kind: control.ActorUnknown}
	refuse(1)
	log, err := s.AuditLog(t.Context(), control.AuditQuery{Action: "GET /", PageQuery: control.PageQuery{Limit: 1000}})
	if err != nil || len(log.Items) != 102 {
		t.Fatalf("%d entries (%v), want 100 of strangers, one of an administrator and one an hour later", len(log.Items), err)
	}
	if newest := log.Items[0].Refused; newest != "no (900 more like it before were not written down)" {
		t.Errorf("newest entry %q, want it to say how many were left out", newest)
	}
}

func TestSyncWaitsForTheAcknowledgement(t *testing.T) {
	s := onSQLite(t)
	d := s.newDevice("d")
	_, err := s.SyncDevice(t.Context(), admin(), "d")
	wantFault(t, err, fault.Unavailable)
	session := d.connect()
	next(t, session, bundle.MessageHello)

	answered := make(chan error)
	go func() {
		v, failed := s.SyncDevice(t.Context(), admin(), "d")
		if failed == nil && v.Applied.Digest != v.Desired {
			failed = errors.New("it returned before the device was up to date")
		}
		answered <- failed
	}()
	next(t, session, bundle.MessageSync)
	d.apply()
	if err = <-answered; err != nil {
		t.Errorf("syncing: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = s.SyncDevice(ctx, admin(), "d")
	wantFault(t, err, fault.Unavailable)
}

func TestNudgesNobodyTakesAreJoined(t *testing.T) {
	s := onSQLite(t)
	d := s.newDevice("d")
	session := d.connect()
	var last control.Change
	for range 20 {
		s.tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagUnsanctioned})
		last = s.tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagNone})
	}
	next(t, session, bundle.MessageHello)
	if m := next(t, session, bundle.MessageNudge); m.Version != last.Revision {
		t.Errorf("nudge to version %d, want the newest, %d", m.Version, last.Revision)
	}
	silent(t, session)
}

func TestANewSessionEndsTheOlderOne(t *testing.T) {
	s := onSQLite(t)
	d := s.newDevice("d")
	older := d.connect()
	next(t, older, bundle.MessageHello)
	newer := d.connect()
	next(t, newer, bundle.MessageHello)
	if _, open := <-older.Messages(); open {
		t.Error("the older session is open")
	}
	older.Close()
	if v, err := s.Device(t.Context(), "d"); err != nil || !v.Online || v.Hostname != "host" {
		t.Errorf("device %+v (%v), want it online with its host name", v, err)
	}
	newer.Close()
	if v, err := s.Device(t.Context(), "d"); err != nil || v.Online || v.LastSeen.IsZero() {
		t.Errorf("device %+v (%v), want it offline, seen just now", v, err)
	}
}

func TestAPITokens(t *testing.T) {
	s := onSQLite(t)
	secret := control.NewAPISecret()
	for range 2 {
		if err := s.EnsureAPIToken(t.Context(), "first", secret, control.RoleAdministrator); err != nil {
			t.Fatal(err)
		}
	}
	a, err := s.AuthenticateToken(t.Context(), secret)
	if err != nil || a.Name != "first" || !a.Role.Allows(control.RoleOperator) {
		t.Errorf("got %+v (%v), want the administrator", a, err)
	}
	_, err = s.AuthenticateToken(t.Context(), secret+"x")
	wantFault(t, err, fault.Unauthorized)
	wantFault(t, s.EnsureAPIToken(t.Context(), "weak", "1234", control.RoleViewer), fault.Invalid)
	if control.RoleViewer.Allows(control.RoleOperator) || control.Role("").Allows("") {
		t.Error("a role allows too much")
	}
	attempt := control.Attempt{Actor: control.Actor{Kind: control.ActorUnknown}, Action: "GET /x", Reason: "no\x00token"}
	if err = s.Refused(t.Context(), attempt); err != nil {
		t.Errorf("noting a refusal: %v", err)
	}
	log, err := s.AuditLog(t.Context(), control.AuditQuery{Action: "GET /x"})
	if err != nil || len(log.Items) != 1 || log.Items[0].Refused != "no token" {
		t.Errorf("audit log %+v (%v), want the refusal", log, err)
	}
}

func TestAServerThatMovedTakesItsNewNameOutOfBundles(t *testing.T) {
	c, clk := store.Config{Dir: t.TempDir()}, newClock()
	s := start(t, c, clk)
	d := s.newDevice("d")
	i, _, err := s.CreateIndicator(t.Context(), admin(), control.NewIndicator{
		Type: indicator.TypeDomain, Value: "moved.example", Action: indicator.ActionBlock,
	})
	if err != nil {
		t.Fatal(err)
	}
	d.apply()
	s.end()

	d.server = startAt(t, c, clk, "https://interdict.moved.example:8443")
	if d.fetch() == 0 {
		t.Fatal("there is no new bundle although the server moved")
	}
	if _, ok := d.record(bundle.KindIndicator, i.ID); ok {
		t.Error("the bundle cuts agents off from the server's new name")
	}
}
