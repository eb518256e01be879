package appeal_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"

	"interdict/internal/bundle"
	"interdict/internal/bypass"
	"interdict/internal/control/appeal"
	"interdict/internal/control/controltest"
	"interdict/internal/control/page"
	"interdict/internal/event"
	"interdict/internal/fault"
)

// goOn reports that a user goes on past a warning for an hour, by a clock that
// is ahead of the server's.
func goOn(d *controltest.Device, user, app string, ahead time.Duration) bypass.Bypass {
	at := d.Clock.Now().Add(ahead).UTC()
	uid := uint32(1000)
	e := event.Event{
		ID: ulid.Make().String(), Time: at, EventID: event.IDBypassed, Action: event.ActionBypassed, AppID: app, IndicatorID: "01ABC",
		Destination: event.Destination{Host: "files.example"}, Process: event.Process{Path: "/usr/bin/curl"},
		User: event.User{Name: user, UID: &uid}, Count: 1, FirstSeen: at, LastSeen: at, Until: at.Add(time.Hour), Reason: "I must",
	}
	d.Observe(e)
	return bypass.Bypass{User: user, Subject: subjectOf(app), Since: at, Until: e.Until}
}

func subjectOf(app string) string {
	if app == "" {
		return "01ABC"
	}
	return app
}

func bypasses(tb testing.TB, s *controltest.Server, q appeal.BypassQuery) []string {
	tb.Helper()
	p, err := s.Appeals.Bypasses(tb.Context(), q)
	if err != nil {
		tb.Fatal(err)
	}
	var who []string
	for _, b := range p.Items {
		who = append(who, b.DeviceName+" "+b.User+" "+b.Subject)
	}
	return who
}

// revocations returns those that a device was told.
func revocations(d *controltest.Device) (all []bypass.Revocation) {
	d.Fetch()
	for _, r := range d.Have.Set.All() {
		if r.Kind == bundle.KindRevocation {
			all = append(all, r.Revocation)
		}
	}
	return all
}

func TestWhoGoesOnPastWarnings(t *testing.T) {
	for _, e := range controltest.Engines(postgres) {
		t.Run(e.Name, func(t *testing.T) {
			s := controltest.Start(t, e.Config(t), controltest.NewClock())
			d, other := s.NewDevice("d"), s.NewDevice("other")
			goOn(d, "ada", "itunes", -2*time.Hour)
			goOn(d, "ada", "itunes", 0)
			goOn(other, "ben", "dropbox", 0)
			goOn(other, "eve", "", 0)
			for _, tt := range []struct {
				name string
				q    appeal.BypassQuery
				want []string
			}{
				{"all that count", appeal.BypassQuery{}, []string{"other eve 01ABC", "other ben dropbox", "d ada itunes"}},
				{"of a device", appeal.BypassQuery{Device: "d"}, []string{"d ada itunes"}},
				{"of an app by its name", appeal.BypassQuery{App: "iTunes"}, []string{"d ada itunes"}},
				{"of a user", appeal.BypassQuery{User: "ben"}, []string{"other ben dropbox"}},
				{"of a user who does not", appeal.BypassQuery{User: "bob"}, nil},
			} {
				if diff := cmp.Diff(tt.want, bypasses(t, s, tt.q)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", tt.name, diff)
				}
			}
			first, err := s.Appeals.Bypasses(t.Context(), appeal.BypassQuery{Query: page.Query{Limit: 2}})
			if err != nil {
				t.Fatal(err)
			}
			rest := bypasses(t, s, appeal.BypassQuery{Query: page.Query{Limit: 2, Cursor: first.Next}})
			if diff := cmp.Diff([]string{"d ada itunes"}, rest); diff != "" {
				t.Errorf("the second page (-want +got):\n%s", diff)
			}
			s.Clock.Advance(2 * time.Hour)
			if got := bypasses(t, s, appeal.BypassQuery{}); len(got) != 0 {
				t.Errorf("two hours later %v still count", got)
			}
		})
	}
}

func TestRevokingEndsBypasses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		revoke appeal.Revocation
		left   []string
	}{
		{"of an app", appeal.Revocation{App: "iTunes"}, []string{"other eve 01ABC", "d ben dropbox"}},
		{"of an app and a user", appeal.Revocation{App: "itunes", User: "ben"}, []string{"other eve 01ABC", "d ben dropbox", "d ada itunes"}},
		{"of an indicator", appeal.Revocation{App: "01ABC"}, []string{"d ben dropbox", "other ben itunes", "d ada itunes"}},
		{"on a device", appeal.Revocation{App: "itunes", Device: "d"}, []string{"other eve 01ABC", "d ben dropbox", "other ben itunes"}},
		{"all of a user", appeal.Revocation{All: true, User: "ben"}, []string{"other eve 01ABC", "d ada itunes"}},
		{"all", appeal.Revocation{All: true}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := controltest.OnSQLite(t)
			d, other := s.NewDevice("d"), s.NewDevice("other")
			held := map[string]bypass.Bypass{
				"d ada itunes": goOn(d, "ada", "itunes", 0), "other ben itunes": goOn(other, "ben", "itunes", 0),
				"d ben dropbox": goOn(d, "ben", "dropbox", 0), "other eve 01ABC": goOn(other, "eve", "", 0),
			}
			done, err := s.Appeals.RevokeBypasses(t.Context(), controltest.Admin(), tt.revoke)
			if err != nil || done.Bypasses != 4-len(tt.left) {
				t.Errorf("got %+v (%v), want %d ended", done, err, 4-len(tt.left))
			}
			if diff := cmp.Diff(tt.left, bypasses(t, s, appeal.BypassQuery{})); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
			// What the devices were told ends the same.
			for who, b := range held {
				device := d
				if who[0] == 'o' {
					device = other
				}
				want := false
				for _, l := range tt.left {
					want = want || l == who
				}
				if got := b.Active(s.Clock.Now(), revocations(device)); got != want {
					t.Errorf("%s counts on the device: %v, want %v", who, got, want)
				}
			}
			if log := actions(t, s, ""); log[0].Action != "bypass.revoke" || log[0].Actor != "root" {
				t.Errorf("the audit log has %+v, want the revocation", log[0])
			}
		})
	}
}

func TestABypassFromAClockThatIsAheadEndsToo(t *testing.T) {
	s := controltest.OnSQLite(t)
	ahead, right := s.NewDevice("ahead"), s.NewDevice("right")
	b := goOn(ahead, "ada", "itunes", 20*time.Minute)
	goOn(right, "ben", "itunes", 0)
	s.Clock.Advance(time.Minute)
	if _, err := s.Appeals.RevokeBypasses(t.Context(), controltest.Admin(), appeal.Revocation{App: "itunes"}); err != nil {
		t.Fatal(err)
	}
	if got := bypasses(t, s, appeal.BypassQuery{}); len(got) != 0 {
		t.Errorf("%v still count", got)
	}
	if b.Active(s.Clock.Now().Add(20*time.Minute), revocations(ahead)) {
		t.Errorf("on the device it still counts")
	}
	s.Clock.Advance(time.Second)
	// Elsewhere users are not kept from going on again.
	again := goOn(right, "ben", "itunes", 0)
	if !again.Active(s.Clock.Now(), revocations(right)) {
		t.Errorf("a bypass after the revocation does not count")
	}
}

func TestRevocationsAreReplacedAndForgotten(t *testing.T) {
	s := controltest.OnSQLite(t)
	d := s.NewDevice("d")
	revoke := func(r appeal.Revocation) {
		if _, err := s.Appeals.RevokeBypasses(t.Context(), controltest.Admin(), r); err != nil {
			t.Fatal(err)
		}
		s.Clock.Advance(time.Second)
	}
	revoke(appeal.Revocation{App: "itunes"})
	revoke(appeal.Revocation{App: "itunes"})
	revoke(appeal.Revocation{App: "itunes", User: "ada"})
	if got := revocations(d); len(got) != 2 {
		t.Errorf("the device has %v, want two", got)
	}
	s.Clock.Advance(bypass.MaxAge)
	if err := s.Appeals.Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := revocations(d); len(got) != 0 {
		t.Errorf("the device has %v after %s, want none", got, bypass.MaxAge)
	}
}

func TestRevocationsThatMeanNothingAreRefused(t *testing.T) {
	s := controltest.OnSQLite(t)
	for _, tt := range []struct {
		name string
		r    appeal.Revocation
		want fault.Code
	}{
		{"of nothing", appeal.Revocation{User: "ada"}, fault.Invalid},
		{"of an app and of all", appeal.Revocation{App: "itunes", All: true}, fault.Invalid},
		{"of an app that is not known", appeal.Revocation{App: "itune"}, fault.NotFound},
		{"on a device that is not known", appeal.Revocation{All: true, Device: "nobody"}, fault.NotFound},
		{"of a user with an escape", appeal.Revocation{All: true, User: "\x1b"}, fault.Invalid},
	} {
		_, err := s.Appeals.RevokeBypasses(t.Context(), controltest.Admin(), tt.r)
		if got := fault.CodeOf(err); got != tt.want {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
}
