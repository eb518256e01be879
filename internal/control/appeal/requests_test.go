package appeal_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"

	"interdict/internal/access"
	"interdict/internal/bundle"
	"interdict/internal/cloudapp"
	"interdict/internal/control"
	"interdict/internal/control/appeal"
	"interdict/internal/control/controltest"
	"interdict/internal/control/indicators"
	"interdict/internal/control/observation"
	"interdict/internal/control/page"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/store"
)

// wish is a request as an agent sends it.
func wish(s *controltest.Server, user string) access.Request {
	return access.Request{
		ID: ulid.Make().String(), Device: "somebody else", UID: 1000, User: user, AppID: "itunes", AppName: "what the device calls it",
		Host: "init.itunes.apple.com", Process: "/usr/bin/curl", Reason: "for the report", AskedAt: s.Clock.Now(),
		// Whatever a device claims was decided.
		State: access.StateApproved, DecidedBy: "me", Until: s.Clock.Now().Add(time.Hour), Indicators: []string{"x"},
	}
}

func ask(tb testing.TB, d *controltest.Device, r access.Request) access.Request {
	tb.Helper()
	kept, err := d.Appeals.Ask(tb.Context(), d.ID, "192.0.2.7", r)
	if err != nil {
		tb.Fatalf("asking: %v", err)
	}
	return kept
}

func approve(tb testing.TB, s *controltest.Server, id string, a appeal.Approval) appeal.RequestView {
	tb.Helper()
	v, _, err := s.Appeals.Approve(tb.Context(), controltest.Admin(), id, a)
	if err != nil {
		tb.Fatalf("approving: %v", err)
	}
	return v
}

// actions returns what the audit log has, newest first.
func actions(tb testing.TB, s *controltest.Server, prefix string) (all []control.AuditEntry) {
	tb.Helper()
	log, err := s.Observations.AuditLog(tb.Context(), observation.AuditQuery{Query: page.Query{Limit: 1000}})
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range log.Items {
		if strings.HasPrefix(e.Action, prefix) {
			all = append(all, e)
		}
	}
	return all
}

// allows returns the allow indicators that a device was told, by their values.
func allows(d *controltest.Device) map[string]indicator.Indicator {
	d.Fetch()
	all := make(map[string]indicator.Indicator)
	for _, r := range d.Have.Set.All() {
		if r.Kind == bundle.KindIndicator && r.Indicator.Action == indicator.ActionAllow {
			all[r.Indicator.Value] = r.Indicator
		}
	}
	return all
}

func TestARequestIsKeptOnceAndDecidesNothing(t *testing.T) {
	for _, e := range controltest.Engines(postgres) {
		t.Run(e.Name, func(t *testing.T) {
			s := controltest.Start(t, e.Config(t), controltest.NewClock())
			d, other := s.NewDevice("d"), s.NewDevice("other")
			sent := wish(s, "ada")
			got := ask(t, d, sent)
			want := sent
			want.Device, want.AppName, want.State, want.DecidedBy, want.Until, want.Indicators = d.ID, "iTunes", access.StatePending, "", time.Time{}, nil
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want, ask(t, d, sent)); diff != "" {
				t.Errorf("sent again (-want +got):\n%s", diff)
			}
			_, err := s.Appeals.Ask(t.Context(), other.ID, "", sent)
			controltest.WantFault(t, err, fault.Conflict)
			log := actions(t, s, "access.")
			if len(log) != 1 || log[0].Action != "access.request" || log[0].ActorKind != "device" || log[0].ActorID != string(d.ID) || log[0].Source != "192.0.2.7" {
				t.Errorf("the audit log has %+v, want one request by the device", log)
			}
			of, err := s.Appeals.Of(t.Context(), other.ID)
			if err != nil || len(of) != 0 {
				t.Errorf("the other device got %v (%v), want nothing", of, err)
			}
		})
	}
}

func TestRequestsThatCannotBeKeptAreRefused(t *testing.T) {
	s := controltest.OnSQLite(t)
	d := s.NewDevice("d")
	for _, tt := range []struct {
		name, field string
		spoil       func(*access.Request)
	}{
		{"an id that is none", "id", func(r *access.Request) { r.ID = "1" }},
		{"a reason that is too long", "reason", func(r *access.Request) { r.Reason = strings.Repeat("a", access.MaxText+1) }},
		{"a reason with an escape", "reason", func(r *access.Request) { r.Reason = "\x1b[2J" }},
		{"a user with a line break", "user", func(r *access.Request) { r.User = "a\nb" }},
		{"an app that is too long", "app_id", func(r *access.Request) { r.AppID = strings.Repeat("a", 129) }},
		{"a host that is none", "host", func(r *access.Request) { r.Host = "a b" }},
		{"neither app nor host", "host", func(r *access.Request) { r.AppID, r.Host = "", "" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := wish(s, "ada")
			tt.spoil(&r)
			_, err := s.Appeals.Ask(t.Context(), d.ID, "", r)
			controltest.WantFault(t, err, fault.Invalid)
			if f, ok := err.(*fault.Error); !ok || len(f.Fields) != 1 || f.Fields[0].Name != tt.field { //nolint:errorlint // it is not wrapped
				t.Errorf("got %v, want a fault of %s alone", err, tt.field)
			}
		})
	}
	if _, err := s.Appeals.Ask(t.Context(), "stranger", "", wish(s, "ada")); fault.CodeOf(err) != fault.Unauthorized {
		t.Errorf("a device that is not enrolled got %v", err)
	}
	fromTheFuture := wish(s, "ada")
	fromTheFuture.AskedAt = s.Clock.Now().Add(time.Hour)
	if got := ask(t, d, fromTheFuture).AskedAt; !got.Before(fromTheFuture.AskedAt) {
		t.Errorf("it was asked at %s, which has not come", got)
	}
}

func TestADeviceHasSoManyRequestsPending(t *testing.T) {
	s := controltest.OnSQLite(t)
	d := s.NewDevice("d")
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		_, err = s.Appeals.Ask(t.Context(), d.ID, "", wish(s, "ada"))
	}
	controltest.WantFault(t, err, fault.TooMany)
	ask(t, s.NewDevice("other"), wish(s, "ada"))
	list, err := s.Appeals.Requests(t.Context(), appeal.RequestQuery{Query: page.Query{Limit: 1000}})
	if err != nil || list.Pending != n || len(list.Items) != n {
		t.Errorf("%d are pending, %d listed (%v), want %d", list.Pending, len(list.Items), err, n)
	}
}

func TestApprovingAllowsTheAppToTheUser(t *testing.T) {
	for _, e := range controltest.Engines(postgres) {
		t.Run(e.Name, func(t *testing.T) {
			s := controltest.Start(t, e.Config(t), controltest.NewClock())
			d, other := s.NewDevice("d"), s.NewDevice("other")
			s.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagUnsanctioned})
			session := d.Open()
			controltest.Next(t, session, bundle.MessageHello)
			r := ask(t, d, wish(s, "ada"))
			v := approve(t, s, r.ID, appeal.Approval{Note: "until tonight"})
			if left := v.Until.Sub(s.Clock.Now()); v.State != access.StateApproved || v.DecidedBy != "root" || left <= 7*time.Hour || left > 8*time.Hour {
				t.Errorf("got %+v, want an approval for eight hours", v)
			}
			app, err := s.App(t.Context(), "itunes")
			if err != nil {
				t.Fatal(err)
			}
			got := allows(d)
			for _, domain := range app.Domains {
				i, ok := got[domain.Name]
				if ok == domain.Shared {
					t.Errorf("%s, shared %v, is allowed: %v", domain.Name, domain.Shared, ok)
				}
				if ok && (!cmp.Equal(i.Scope.IncludeUsers, []string{"ada"}) || !i.ExpiresAt.Equal(v.Until.Truncate(time.Second)) || i.AppID != "itunes") {
					t.Errorf("got %+v, want iTunes for ada until %s", i, v.Until)
				}
			}
			if len(got) == 0 || len(allows(other)) != 0 {
				t.Errorf("%d are allowed on the device and %d elsewhere, want some and none", len(got), len(allows(other)))
			}
			nudged(t, session.Messages())
			of, err := s.Appeals.Of(t.Context(), d.ID)
			if err != nil || len(of) != 1 || of[0].State != access.StateApproved || of[0].Note != "until tonight" || !of[0].Until.Equal(v.Until) {
				t.Errorf("the device is told %+v (%v), want the approval", of, err)
			}
			if log := actions(t, s, ""); log[0].Action != "access.approve" || log[0].Target != r.ID || log[0].Revision == 0 || log[1].Action != "access.request" {
				t.Errorf("the audit log has %+v, want one entry for the approval", log[:2])
			}
			_, _, err = s.Appeals.Approve(t.Context(), controltest.Admin(), r.ID, appeal.Approval{})
			controltest.WantFault(t, err, fault.Conflict)
		})
	}
}

// nudged waits until the device was told of both, a new bundle and a request
// that was decided.
func nudged(t *testing.T, messages <-chan bundle.Message) {
	t.Helper()
	want := map[bundle.MessageType]bool{bundle.MessageNudge: true, bundle.MessageRequests: true}
	for len(want) > 0 {
		select {
		case m := <-messages:
			delete(want, m.Type)
		case <-time.After(10 * time.Second):
			t.Fatalf("the device was not told of %v", want)
		}
	}
}

func TestWhomAnApprovalReaches(t *testing.T) {
	for _, tt := range []struct {
		name  string
		user  string
		reach appeal.Reach
		// users are those it is for, nil for everybody, and elsewhere is whether
		// other devices have it.
		users     []string
		elsewhere bool
		fault     fault.Code
	}{
		{"the user on the device", "ada", "", []string{"ada"}, false, ""},
		{"a user without a name", "", appeal.ReachUser, []string{"#1000"}, false, ""},
		{"a user whose name looks like a number", "#0", appeal.ReachUser, []string{"#1000"}, false, ""},
		{"everybody on the device", "ada", appeal.ReachDevice, nil, false, ""},
		{"the user everywhere", "ada", appeal.ReachUserEverywhere, []string{"ada"}, true, ""},
		{"a user without a name everywhere", "", appeal.ReachUserEverywhere, nil, false, fault.Invalid},
		{"nobody in particular", "ada", "somebody", nil, false, fault.Invalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := controltest.OnSQLite(t)
			d, other := s.NewDevice("d"), s.NewDevice("other")
			r := ask(t, d, wish(s, tt.user))
			_, _, err := s.Appeals.Approve(t.Context(), controltest.Admin(), r.ID, appeal.Approval{Reach: tt.reach})
			controltest.WantFault(t, err, tt.fault)
			if tt.fault != "" {
				return
			}
			i, ok := allows(d)["itunes.apple.com"]
			if diff := cmp.Diff(tt.users, i.Scope.IncludeUsers); !ok || diff != "" {
				t.Errorf("on the device: %v (-want +got):\n%s", ok, diff)
			}
			if _, ok := allows(other)["itunes.apple.com"]; ok != tt.elsewhere {
				t.Errorf("elsewhere: %v, want %v", ok, tt.elsewhere)
			}
		})
	}
}

func TestWhatAnApprovalIsAbout(t *testing.T) {
	for _, tt := range []struct {
		name, app, host string
		value           string
		kind            indicator.Type
	}{
		{"a host of no app", "", "Files.Example.COM", "files.example.com", indicator.TypeDomain},
		{"an address", "", "2001:DB8::1", "2001:db8::1", indicator.TypeIP},
		{"a host of an app that is gone", "no-such-app", "files.example.com", "files.example.com", indicator.TypeDomain},
		{"a host that is none of the app's", "itunes", "files.example.com", "files.example.com", indicator.TypeDomain},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := controltest.OnSQLite(t)
			d := s.NewDevice("d")
			r := wish(s, "ada")
			r.AppID, r.Host = tt.app, tt.host
			approve(t, s, ask(t, d, r).ID, appeal.Approval{})
			if i, ok := allows(d)[tt.value]; !ok || i.Type != tt.kind {
				t.Errorf("got %+v, want %s %s", i, tt.kind, tt.value)
			}
		})
	}
	t.Run("a host of the app that is blocked by itself", func(t *testing.T) {
		s := controltest.OnSQLite(t)
		d := s.NewDevice("d")
		if _, _, err := s.Indicators.Create(t.Context(), controltest.Admin(), indicators.NewIndicator{
			Type: indicator.TypeDomain, Value: "init.itunes.apple.com", Action: indicator.ActionBlock,
		}); err != nil {
			t.Fatal(err)
		}
		approve(t, s, ask(t, d, wish(s, "ada")).ID, appeal.Approval{})
		if got := allows(d); got["init.itunes.apple.com"].ID == "" || got["itunes.apple.com"].ID == "" {
			t.Errorf("got %v, want both the host and the app", got)
		}
	})
	t.Run("an app that is gone and no host", func(t *testing.T) {
		s := controltest.OnSQLite(t)
		r := wish(s, "ada")
		r.AppID, r.Host = "no-such-app", ""
		_, _, err := s.Appeals.Approve(t.Context(), controltest.Admin(), ask(t, s.NewDevice("d"), r).ID, appeal.Approval{})
		controltest.WantFault(t, err, fault.Conflict)
	})
}

func TestAUserHearsWhereverTheDeviceIsConnected(t *testing.T) {
	c, clk := store.Config{URL: postgres.URL(t)}, controltest.NewClock()
	one, two := controltest.Start(t, c, clk), controltest.Start(t, c, clk)
	d := one.NewDevice("d")
	r := ask(t, d, wish(one, "ada"))
	d.Server = two
	session := d.Open()
	controltest.Next(t, session, bundle.MessageHello)
	// Who is nudged by what the other server did is listening to it.
	one.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagUnsanctioned})
	controltest.Next(t, session, bundle.MessageNudge)
	if _, err := one.Appeals.Deny(t.Context(), controltest.Admin(), r.ID, appeal.Note{}); err != nil {
		t.Fatal(err)
	}
	controltest.Next(t, session, bundle.MessageRequests)
	if all, err := two.Appeals.Of(t.Context(), d.ID); err != nil || len(all) != 1 || all[0].State != access.StateDenied {
		t.Errorf("the device is told %+v (%v), want that it was denied", all, err)
	}
}

func TestHowLongAnApprovalLasts(t *testing.T) {
	s := controltest.OnSQLite(t)
	d := s.NewDevice("d")
	now := s.Clock.Now()
	for _, tt := range []struct {
		name     string
		approval appeal.Approval
		want     time.Duration
	}{
		{"for a while", appeal.Approval{For: "30m"}, 30 * time.Minute},
		{"until a time", appeal.Approval{Until: now.Add(48 * time.Hour)}, 48 * time.Hour},
		{"for nothing", appeal.Approval{For: "0s"}, 0},
		{"for no length", appeal.Approval{For: "long"}, 0},
		{"for too long", appeal.Approval{For: "2161h"}, 0},
		{"until the past", appeal.Approval{Until: now.Add(-time.Hour)}, 0},
		{"until too late", appeal.Approval{Until: now.Add(91 * 24 * time.Hour)}, 0},
		{"both", appeal.Approval{For: "1h", Until: now.Add(time.Hour)}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, _, err := s.Appeals.Approve(t.Context(), controltest.Admin(), ask(t, d, wish(s, "ada")).ID, tt.approval)
			if tt.want == 0 {
				controltest.WantFault(t, err, fault.Invalid)
				return
			}
			if got := v.Until.Sub(now).Round(time.Second); err != nil || got != tt.want {
				t.Errorf("got %s (%v), want %s", got, err, tt.want)
			}
		})
	}
}

func TestDenyingAndRevoking(t *testing.T) {
	s := controltest.OnSQLite(t)
	d := s.NewDevice("d")
	session := d.Open()
	controltest.Next(t, session, bundle.MessageHello)
	admin := controltest.Admin()

	denied := ask(t, d, wish(s, "ada"))
	v, err := s.Appeals.Deny(t.Context(), admin, denied.ID, appeal.Note{Note: "use the other one"})
	if err != nil || v.State != access.StateDenied || v.Note != "use the other one" || v.DeviceName != "d" {
		t.Errorf("got %+v (%v), want it denied", v, err)
	}
	controltest.Next(t, session, bundle.MessageRequests)
	_, _, err = s.Appeals.Revoke(t.Context(), admin, denied.ID, appeal.Note{})
	controltest.WantFault(t, err, fault.Conflict)
	_, err = s.Appeals.Deny(t.Context(), admin, denied.ID, appeal.Note{})
	controltest.WantFault(t, err, fault.Conflict)
	_, err = s.Appeals.Deny(t.Context(), admin, "\x00", appeal.Note{})
	controltest.WantFault(t, err, fault.NotFound)

	approved := approve(t, s, ask(t, d, wish(s, "ada")).ID, appeal.Approval{})
	if len(allows(d)) == 0 {
		t.Fatal("nothing is allowed")
	}
	// One of them is gone already.
	if _, err = s.Indicators.Delete(t.Context(), admin, approved.Indicators[0]); err != nil {
		t.Fatal(err)
	}
	v, _, err = s.Appeals.Revoke(t.Context(), admin, approved.ID, appeal.Note{Note: "not any more"})
	if err != nil || v.State != access.StateRevoked || v.Note != "not any more" || v.Until.After(s.Clock.Now()) {
		t.Errorf("got %+v (%v), want it revoked", v, err)
	}
	if got := allows(d); len(got) != 0 {
		t.Errorf("%v are still allowed", got)
	}
	ended := approve(t, s, ask(t, d, wish(s, "ada")).ID, appeal.Approval{})
	s.Clock.Advance(9 * time.Hour)
	_, _, err = s.Appeals.Revoke(t.Context(), admin, ended.ID, appeal.Note{})
	controltest.WantFault(t, err, fault.Conflict)
	if got := len(actions(t, s, "access.")); got != 7 {
		t.Errorf("the audit log has %d entries about requests, want 7", got)
	}
}

func TestWithoutCustomIndicatorsNothingIsApproved(t *testing.T) {
	s := controltest.OnSQLite(t)
	r := ask(t, s.NewDevice("d"), wish(s, "ada"))
	if _, _, err := s.SetFeature(t.Context(), controltest.Admin(), fleet.FeatureCustomIndicators, control.FeatureUpdate{}); err != nil {
		t.Fatal(err)
	}
	_, _, err := s.Appeals.Approve(t.Context(), controltest.Admin(), r.ID, appeal.Approval{})
	controltest.WantFault(t, err, fault.Disabled)
}

func TestRequestsAreListed(t *testing.T) {
	s := controltest.OnSQLite(t)
	d, other := s.NewDevice("d"), s.NewDevice("other")
	first, second := ask(t, d, wish(s, "ada")), ask(t, other, wish(s, "ben"))
	approve(t, s, first.ID, appeal.Approval{})
	for _, tt := range []struct {
		name string
		q    appeal.RequestQuery
		want []string
	}{
		{"all", appeal.RequestQuery{}, []string{second.ID, first.ID}},
		{"pending", appeal.RequestQuery{State: access.StatePending}, []string{second.ID}},
		{"by the names of device and app", appeal.RequestQuery{Device: "d", App: "iTunes"}, []string{first.ID}},
		{"by user", appeal.RequestQuery{User: "ben"}, []string{second.ID}},
		{"about another app", appeal.RequestQuery{App: "dropbox"}, nil},
	} {
		p, err := s.Appeals.Requests(t.Context(), tt.q)
		var got []string
		for _, r := range p.Items {
			got = append(got, r.ID)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || err != nil || p.Pending != 1 {
			t.Errorf("%s: %d pending, %v (-want +got):\n%s", tt.name, p.Pending, err, diff)
		}
	}
	p, err := s.Appeals.Requests(t.Context(), appeal.RequestQuery{Query: page.Query{Limit: 1}})
	if err != nil {
		t.Fatal(err)
	}
	p, err = s.Appeals.Requests(t.Context(), appeal.RequestQuery{Query: page.Query{Limit: 1, Cursor: p.Next}})
	if err != nil || len(p.Items) != 1 || p.Items[0].ID != first.ID || p.Next != "" {
		t.Errorf("the second page is %+v (%v), want the first request", p, err)
	}
	_, err = s.Appeals.Requests(t.Context(), appeal.RequestQuery{Device: "nobody"})
	controltest.WantFault(t, err, fault.NotFound)
}

func TestNobodyWaitsForTheAnswerOfADeviceThatIsGone(t *testing.T) {
	for _, e := range controltest.Engines(postgres) {
		t.Run(e.Name, func(t *testing.T) {
			s := controltest.Start(t, e.Config(t), controltest.NewClock())
			d, other := s.NewDevice("d"), s.NewDevice("other")
			denied, pending, stays := ask(t, d, wish(s, "ada")), ask(t, d, wish(s, "ada")), ask(t, other, wish(s, "ben"))
			if _, err := s.Appeals.Deny(t.Context(), controltest.Admin(), denied.ID, appeal.Note{}); err != nil {
				t.Fatal(err)
			}
			if err := s.Unenroll(t.Context(), d.ID, ""); err != nil {
				t.Fatal(err)
			}
			_, _, err := s.Appeals.Approve(t.Context(), controltest.Admin(), pending.ID, appeal.Approval{})
			controltest.WantFault(t, err, fault.Conflict)
			if err := s.Appeals.Forget(t.Context()); err != nil {
				t.Fatal(err)
			}
			for id, want := range map[string]fault.Code{denied.ID: "", pending.ID: fault.NotFound, stays.ID: ""} {
				_, err := s.Appeals.Request(t.Context(), id)
				controltest.WantFault(t, err, want)
			}
		})
	}
}

func TestOldRequestsAreForgotten(t *testing.T) {
	s := controltest.Start(t, store.Config{Dir: t.TempDir()}, controltest.NewClock())
	r := ask(t, s.NewDevice("d"), wish(s, "ada"))
	s.Clock.Advance(89 * 24 * time.Hour)
	if err := s.Appeals.Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Appeals.Request(t.Context(), r.ID); err != nil {
		t.Errorf("after 89 days: %v", err)
	}
	s.Clock.Advance(2 * 24 * time.Hour)
	if err := s.Appeals.Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := s.Appeals.Request(t.Context(), r.ID)
	controltest.WantFault(t, err, fault.NotFound)
}
