package appeal

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/access"
	"interdict/internal/bypass"
	"interdict/internal/event"
	"interdict/internal/fault"
	"interdict/internal/fleet"
)

// scene is Appeals with a clock that is set by hand, and what they told.
type scene struct {
	t        *testing.T
	a        *Appeals
	cfg      Config
	now      time.Time
	settings fleet.Settings

	mu      sync.Mutex
	told    [][]string
	events  []event.Event
	answers []string
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), settings: fleet.Defaults()}
	s.settings.WarnBypassDuration = "2h"
	s.cfg = Config{
		File: filepath.Join(t.TempDir(), "appeals.json"), Device: "device", Log: slog.New(slog.DiscardHandler),
		Settings: func() fleet.Settings { return s.settings },
		Now:      func() time.Time { return s.now },
		Record:   func(_ context.Context, e event.Event) { s.events = append(s.events, e) },
		Changed: func(_ context.Context, bypasses []bypass.Bypass) {
			subjects := []string{}
			for _, b := range bypasses {
				subjects = append(subjects, strconv.Itoa(int(b.UID))+" "+b.Subject)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.told = append(s.told, subjects)
		},
		Send: func(_ context.Context, r access.Request) (access.Request, error) { return r, nil },
		Answered: func(_ context.Context, r access.Request, id string) {
			s.answers = append(s.answers, string(r.State)+" "+r.AppName+" "+r.Note+" "+id)
		},
	}
	s.a = New(s.cfg)
	return s
}

// restart begins anew with what is on disk.
func (s *scene) restart() { s.a = New(s.cfg) }

// live has the clock of a synctest bubble.
func (s *scene) live() *scene {
	s.cfg.Now = time.Now
	s.restart()
	return s
}

// run runs Appeals until the test ends the returned function.
func (s *scene) run() (stop func()) {
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.a.Run(ctx)
	}()
	return func() {
		cancel()
		<-ended
	}
}

// tells returns what was told since it was last called.
func (s *scene) tells() [][]string {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	told := s.told
	s.told = nil
	return told
}

func refusal(uid uint32, app, host string, action event.Action) event.Event {
	e := event.Event{
		ID: "01JD0000000000000000000000", EventID: event.IDBlocked, Action: action, IndicatorID: "i:" + host, Count: 3,
		Destination: event.Destination{Host: host, Port: 443, Protocol: "tcp"}, Evidence: event.EvidenceTLSSNI,
		Process: event.Process{PID: 7, Path: "/usr/bin/curl"}, User: event.User{Name: "anna", UID: &uid}, PolicyID: "p", BundleVersion: 4,
	}
	if app != "" {
		e.AppID, e.AppName = strings.ToLower(app), app
	}
	return e
}

func (s *scene) refused(e event.Event) string {
	s.t.Helper()
	r, ok := s.a.Refused(e)
	if !ok {
		s.t.Fatalf("the refusal %+v was not taken", e)
	}
	return r.ID
}

func TestRefusalsHaveOneIDForEachUserAndApp(t *testing.T) {
	s := newScene(t)
	first := s.refused(refusal(1, "Box", "a.box.example", event.ActionBlocked))
	if len(first) != 26 {
		t.Errorf("the id %q does not have 128 bits in base32", first)
	}
	address := refusal(1, "", "", event.ActionBlocked)
	address.Destination.IP = netip.MustParseAddr("192.0.2.1")
	same := map[string]event.Event{"another host of the app": refusal(1, "Box", "b.box.example", event.ActionBlocked)}
	other := map[string]event.Event{
		"another user":           refusal(2, "Box", "a.box.example", event.ActionBlocked),
		"a warning":              refusal(1, "Box", "a.box.example", event.ActionWarned),
		"another app":            refusal(1, "Tunes", "a.box.example", event.ActionBlocked),
		"a host without an app":  refusal(1, "", "a.box.example", event.ActionBlocked),
		"another such host":      refusal(1, "", "b.box.example", event.ActionBlocked),
		"an address without app": address,
	}
	for name, e := range same {
		if got := s.refused(e); got != first {
			t.Errorf("%s: got a new id", name)
		}
	}
	seen := map[string]bool{first: true}
	for name, e := range other {
		id := s.refused(e)
		if seen[id] {
			t.Errorf("%s: got an id that was there", name)
		}
		seen[id] = true
	}
	nobody, audited := refusal(1, "Box", "", event.ActionBlocked), refusal(1, "Box", "", event.ActionAudited)
	nobody.User.UID, audited.EventID = nil, event.IDAudited
	for name, e := range map[string]event.Event{"of nobody": nobody, "that was let through": audited} {
		if _, ok := s.a.Refused(e); ok {
			t.Errorf("an event %s was taken for a refusal", name)
		}
	}
	got, _ := s.a.Standing(first)
	if got.Host() != "b.box.example" {
		t.Errorf("the newest refusal was of %s, want b.box.example", got.Host())
	}
}

func TestRefusalsAreForgottenAfterADay(t *testing.T) {
	s := newScene(t)
	id := s.refused(refusal(1, "Box", "box.example", event.ActionBlocked))
	s.now = s.now.Add(23 * time.Hour)
	if again := s.refused(refusal(1, "Box", "box.example", event.ActionBlocked)); again != id {
		t.Error("the id changed within the day")
	}
	s.now = s.now.Add(24*time.Hour - 1)
	if _, ok := s.a.Standing(id); !ok {
		t.Error("forgotten too early: it happened again")
	}
	s.now = s.now.Add(1)
	if _, ok := s.a.Standing(id); ok {
		t.Error("it can still be looked at after a day")
	}
	if again := s.refused(refusal(1, "Box", "box.example", event.ActionBlocked)); again == id {
		t.Error("the id came back")
	}
	s.now = s.now.Add(48 * time.Hour)
	s.a.tidyUp(t.Context())
	if len(s.a.byID) != 0 {
		t.Errorf("%d refusals take up memory for nothing", len(s.a.byID))
	}
}

func TestAUserSeesTheirOwnRefusalsTheNewestFirst(t *testing.T) {
	s := newScene(t)
	first := s.refused(refusal(1, "tunes", "a.example", event.ActionBlocked))
	s.now = s.now.Add(time.Minute)
	second := s.refused(refusal(1, "box", "b.example", event.ActionWarned))
	s.refused(refusal(2, "tunes", "a.example", event.ActionBlocked))
	ids := func(uid uint32) (ids []string) {
		for _, r := range s.a.Of(uid) {
			ids = append(ids, r.ID)
		}
		return ids
	}
	if diff := cmp.Diff([]string{second, first}, ids(1)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	s.now = s.now.Add(time.Minute)
	s.refused(refusal(1, "tunes", "a.example", event.ActionBlocked))
	if diff := cmp.Diff([]string{first, second}, ids(1)); diff != "" {
		t.Errorf("when the first is tried again (-want +got):\n%s", diff)
	}
	if got := ids(3); got != nil {
		t.Errorf("a user who was refused nothing sees %v", got)
	}
	s.now = s.now.Add(24*time.Hour - time.Second)
	if diff := cmp.Diff([]string{first}, ids(1)); diff != "" {
		t.Errorf("a day after the second (-want +got):\n%s", diff)
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	s := newScene(t)
	quiet := s.refused(refusal(1, "Box", "box.example", event.ActionBlocked))
	s.now = s.now.Add(time.Second)
	for i := range 2 * maxRefusals {
		s.now = s.now.Add(time.Millisecond)
		s.refused(refusal(2, "", strconv.Itoa(i)+".example", event.ActionBlocked))
	}
	if _, ok := s.a.Standing(quiet); !ok {
		t.Error("one user pushed out what another was refused")
	}
	if n := len(s.a.byID); n != maxRefusals+1 {
		t.Errorf("%d refusals are remembered, want %d", n, maxRefusals+1)
	}
	for i := range uint32(2 * maxUsers) {
		s.now = s.now.Add(time.Millisecond)
		s.refused(refusal(1000+i, "Box", "box.example", event.ActionBlocked))
	}
	if n := len(s.a.users); n != maxUsers {
		t.Errorf("%d users are remembered, want %d", n, maxUsers)
	}
}

func TestContinue(t *testing.T) {
	long := strings.Repeat("x", access.MaxText+1)
	for _, test := range []struct {
		name   string
		action event.Action
		app    string
		uid    uint32
		id     string
		demand fleet.Demand
		reason string
		want   fault.Code
		noted  string
	}{
		{name: "after a warning", action: event.ActionWarned, app: "Box", uid: 1},
		{name: "of a host without an app", action: event.ActionWarned, uid: 1},
		{name: "with a reason that nobody asked for", action: event.ActionWarned, app: "Box", uid: 1, reason: " for\r\nthe\tmeeting\x00 ", noted: "for the meeting"},
		{name: "with a required reason", action: event.ActionWarned, app: "Box", uid: 1, demand: fleet.Required, reason: "work", noted: "work"},
		{name: "without a required reason", action: event.ActionWarned, app: "Box", uid: 1, demand: fleet.Required, want: fault.Invalid},
		{name: "with nothing to read in a required reason", action: event.ActionWarned, app: "Box", uid: 1, demand: fleet.Required, reason: " \x00\n", want: fault.Invalid},
		{name: "with an endless reason", action: event.ActionWarned, app: "Box", uid: 1, reason: long, want: fault.Invalid},
		{name: "although it is blocked", action: event.ActionBlocked, app: "Box", uid: 1, want: fault.Conflict},
		{name: "as another user", action: event.ActionWarned, app: "Box", uid: 2, want: fault.NotFound},
		{name: "as root", action: event.ActionWarned, app: "Box", uid: 0, want: fault.NotFound},
		{name: "with a guessed id", action: event.ActionWarned, app: "Box", uid: 1, id: "aaaa", want: fault.NotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newScene(t)
			s.settings.BypassReason = test.demand
			id := s.refused(refusal(1, test.app, "box.example", test.action))
			if test.id != "" {
				id = test.id
			}
			b, err := s.a.Continue(t.Context(), id, test.uid, test.reason)
			if got := fault.CodeOf(err); got != test.want {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if err != nil {
				if len(s.events) != 0 || len(s.a.Bypasses()) != 0 {
					t.Error("it was refused and happened all the same")
				}
				return
			}
			subject := strings.ToLower(test.app)
			if subject == "" {
				subject = "i:box.example"
			}
			if b.Subject != subject || b.UID != 1 || b.User != "anna" || !b.Until.Equal(s.now.Add(2*time.Hour)) || b.Reason != test.noted {
				t.Errorf("got %+v", b)
			}
			want := refusal(1, test.app, "box.example", event.ActionBypassed)
			want.EventID, want.ID, want.Count, want.Time, want.Until, want.Reason = event.IDBypassed, "", 0, s.now, b.Until, test.noted
			if diff := cmp.Diff([]event.Event{want}, s.events, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestGoingOnTwiceIsOneBypass(t *testing.T) {
	s := newScene(t)
	id := s.refused(refusal(1, "Box", "box.example", event.ActionWarned))
	first, err := s.a.Continue(t.Context(), id, 1, "")
	if err != nil {
		t.Fatal(err)
	}
	s.now = s.now.Add(time.Hour)
	again, err := s.a.Continue(t.Context(), id, 1, "")
	if err != nil || again != first || len(s.events) != 1 {
		t.Errorf("got %+v, %v and %d events", again, err, len(s.events))
	}
	if st, _ := s.a.Standing(id); st.CanContinue || st.Bypass == nil || st.Bypass.ID != first.ID {
		t.Errorf("the standing does not know: %+v", st)
	}
	s.now = s.now.Add(time.Hour)
	if st, _ := s.a.Standing(id); !st.CanContinue || st.Bypass != nil {
		t.Errorf("it does not end: %+v", st)
	}
}

func TestBypassesAreBounded(t *testing.T) {
	s := newScene(t)
	var err error
	for i := 0; i <= maxBypasses && err == nil; i++ {
		_, err = s.a.Continue(t.Context(), s.refused(refusal(1, "App"+strconv.Itoa(i), "a.example", event.ActionWarned)), 1, "")
	}
	if fault.CodeOf(err) != fault.TooMany || len(s.a.Bypasses()) != maxBypasses {
		t.Errorf("got %v after %d", err, len(s.a.Bypasses()))
	}
}

func TestABypassOutlivesARestartButNotItsTime(t *testing.T) {
	s := newScene(t)
	if _, err := s.a.Continue(t.Context(), s.refused(refusal(1, "Box", "box.example", event.ActionWarned)), 1, ""); err != nil {
		t.Fatal(err)
	}
	s.restart()
	if got := s.a.Bypasses(); len(got) != 1 || got[0].Subject != "box" {
		t.Errorf("after a restart got %+v", got)
	}
	s.now = s.now.Add(-time.Hour)
	s.a.tidyUp(t.Context())
	if got := s.a.Bypasses(); len(got) != 0 {
		t.Errorf("before it began got %+v", got)
	}
	s.now = s.now.Add(3*time.Hour - 1)
	if got := s.a.Bypasses(); len(got) != 1 {
		t.Errorf("a clock that was set back and mended lost it")
	}
	s.now = s.now.Add(1)
	s.a.tidyUp(t.Context())
	s.restart()
	if len(s.a.bypasses) != 0 {
		t.Errorf("after its time got %+v", s.a.bypasses)
	}
}

func TestADamagedFileIsBegunAnew(t *testing.T) {
	s := newScene(t)
	if err := os.WriteFile(s.cfg.File, []byte(`{"bypasses":[{`), 0o600); err != nil {
		t.Fatal(err)
	}
	s.restart()
	if _, err := s.a.Continue(t.Context(), s.refused(refusal(1, "Box", "box.example", event.ActionWarned)), 1, ""); err != nil {
		t.Fatal(err)
	}
	s.restart()
	if len(s.a.Bypasses()) != 1 {
		t.Error("the file does not work any more")
	}
}

func TestTheEnforcerIsToldWhenBypassesBeginAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t).live()
		defer s.run()()
		check := func(when string, want ...[]string) {
			t.Helper()
			if diff := cmp.Diff(want, s.tells()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", when, diff)
			}
		}
		check("at the start", []string{})
		for i, app := range []string{"Box", "Tunes"} {
			if _, err := s.a.Continue(t.Context(), s.refused(refusal(uint32(i+1), app, "a.example", event.ActionWarned)), uint32(i+1), ""); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			elapse(time.Hour)
		}
		check("when they begin, and when the first ends", []string{"1 box"}, []string{"1 box", "2 tunes"}, []string{"2 tunes"})
		s.a.Revoke([]bypass.Revocation{{ID: "r", Subject: "tunes", User: "ben", Before: time.Now()}})
		check("when another user's is revoked", nil...)
		s.a.Revoke([]bypass.Revocation{{ID: "r", Subject: "tunes", Before: time.Now()}})
		check("when it is revoked", []string{})
		if _, err := s.a.Continue(t.Context(), s.refused(refusal(2, "Tunes", "a.example", event.ActionWarned)), 2, ""); err != nil {
			t.Fatal(err)
		}
		check("when it begins after the revocation", []string{"2 tunes"})
		elapse(2 * time.Hour)
		check("when it ends", []string{})
	})
}

// elapse lets time pass, in a synctest bubble.
func elapse(d time.Duration) { <-time.After(d) }

func FuzzTheFileIsRead(f *testing.F) {
	f.Add([]byte(`{"schema":1,"bypasses":[{"id":"b","uid":1,"subject":"box","since":"2026-11-23T11:00:00Z","until":"2026-11-23T13:00:00Z"}],` +
		`"requests":[{"id":"r","uid":1,"app_id":"box","state":"pending","sent_at":"2026-11-23T11:00:00Z"}]}`))
	f.Add([]byte(`{"bypasses":[{"until":"9999-01-01T00:00:00Z"}],"requests":[{}]}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		s := newScene(t)
		if err := os.WriteFile(s.cfg.File, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s.restart()
		s.a.tidyUp(t.Context())
		for _, b := range s.a.Bypasses() {
			if b.Until.Sub(s.now) > bypass.MaxAge {
				t.Errorf("a bypass lasts until %s", b.Until)
			}
		}
		s.a.Requests(t.Context(), nil)
	})
}
