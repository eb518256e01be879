package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/access"
	"interdict/internal/agent/appeal"
	"interdict/internal/agent/notify/desktop"
	"interdict/internal/agent/notify/session"
	"interdict/internal/agent/wording"
	"interdict/internal/bypass"
	"interdict/internal/event"
	"interdict/internal/fault"
	"interdict/internal/fleet"
)

func refusedOf(uid uint32, app, host, program string) appeal.Standing {
	return appeal.Standing{
		Refusal: appeal.Refusal{ID: strconv.Itoa(int(uid)) + app + host, UID: uid, Event: event.Event{
			EventID: event.IDBlocked, Action: event.ActionBlocked, AppID: strings.ToLower(app), AppName: app,
			Destination: event.Destination{Host: host}, Process: event.Process{Path: "/usr/bin/" + program},
		}},
		CanRequest: true,
	}
}

func warnedOf(uid uint32, app, host, program string) appeal.Standing {
	s := refusedOf(uid, app, host, program)
	s.Event.Action, s.CanRequest, s.CanContinue = event.ActionWarned, false, true
	return s
}

// house is a Notifier in a synctest bubble, with helpers that write down what
// they are told.
type house struct {
	*Notifier
	settings fleet.Settings
	mu       sync.Mutex // Guards said: time alone orders nothing.
	said     []string
	helpers  map[uint32]*fakeHelper
	// acts are the calls of Continue and Request, failing what they say.
	acts    []string
	failing error
	// lost are users without a session, hangs those whose session does not
	// answer. A helper that is mute takes no message.
	lost, hangs map[uint32]bool
	mute        bool
}

// fakeHelper is a helper whose reports the test makes.
type fakeHelper struct {
	h      *house
	name   string
	heard  func(desktop.Report)
	ended  chan struct{}
	closed bool
}

func (f *fakeHelper) say(format string, args ...any) error {
	f.h.mu.Lock()
	defer f.h.mu.Unlock()
	f.h.said = append(f.h.said, f.name+" "+fmt.Sprintf(format, args...))
	return nil
}

func (f *fakeHelper) Show(m desktop.Message) error {
	if f.h.mute {
		return errors.New("the helper is mute")
	}
	var actions []string
	for _, a := range m.Actions {
		actions = append(actions, a.Name)
	}
	return f.say("%s: %s %v", m.Key, m.Title, actions)
}
func (f *fakeHelper) Open(p desktop.Page) error { return f.say("open %s for %s", p.URL, p.Key) }
func (f *fakeHelper) Withdraw(key string) error { return f.say("withdraw %s", key) }
func (f *fakeHelper) Ended() <-chan struct{}    { return f.ended }
func (f *fakeHelper) Close() {
	if f.closed {
		return
	}
	f.closed = true
	_ = f.say("end")
	go func() {
		f.heard(desktop.Report{})
		close(f.ended)
	}()
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{settings: fleet.Defaults(), helpers: make(map[uint32]*fakeHelper), lost: make(map[uint32]bool), hangs: make(map[uint32]bool)}
	h.Notifier = New(Config{
		Settings: func() fleet.Settings { return h.settings },
		Session: func(ctx context.Context, uid uint32) (session.Session, error) {
			if h.hangs[uid] {
				<-ctx.Done()
				return session.Session{}, ctx.Err()
			}
			if h.lost[uid] {
				return session.Session{}, session.ErrNone
			}
			return session.Session{UID: uid, Language: wording.English}, nil
		},
		Start: func(_ context.Context, s session.Session, heard func(desktop.Report)) (Helper, error) {
			f := &fakeHelper{h: h, name: strconv.Itoa(int(s.UID)), heard: heard, ended: make(chan struct{})}
			h.helpers[s.UID] = f
			return f, nil
		},
		Continue: func(_ context.Context, id string, uid uint32, reason string) (bypass.Bypass, error) {
			h.acts = append(h.acts, fmt.Sprintf("%d continues %s %q", uid, id, reason))
			return bypass.Bypass{Name: "Tunes", Until: time.Now().Add(time.Hour)}, h.failing
		},
		Request: func(_ context.Context, id string, uid uint32, reason string) (access.Request, error) {
			h.acts = append(h.acts, fmt.Sprintf("%d requests %s %q", uid, id, reason))
			return access.Request{AppName: "Tunes"}, h.failing
		},
		URL: func(id string) string { return "http://why/" + id }, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = h.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return h
}

// saw checks what the helpers were told since it was last called.
func (h *house) saw(t *testing.T, when string, want ...string) {
	t.Helper()
	synctest.Wait()
	if diff := cmp.Diff(want, h.take()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

// take returns what was said since it was last called.
func (h *house) take() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	said := h.said
	h.said = nil
	return said
}

func TestEachUserIsToldOfAnAppAndAProgramOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.lost[3] = true
		for _, s := range []appeal.Standing{
			refusedOf(1, "Tunes", "", "curl"), refusedOf(1, "Tunes", "", "curl"), refusedOf(1, "Tunes", "", "wget"),
			refusedOf(2, "Tunes", "", "curl"), refusedOf(1, "", "plain.example", "curl"), refusedOf(3, "Tunes", "", "curl"),
		} {
			h.Refused(s)
			synctest.Wait()
		}
		h.saw(t, "at first",
			"1 1: Tunes is blocked [default why request]", "1 2: Tunes is blocked [default why request]",
			"2 3: Tunes is blocked [default why request]", "1 4: plain.example is blocked [default why request]")
		elapse(quiet)
		h.Refused(refusedOf(1, "Tunes", "", "curl"))
		h.saw(t, "after a while", "1 5: Tunes is blocked [default why request]")
		h.settings.Notifications = fleet.Off
		h.Refused(refusedOf(1, "Box", "", "curl"))
		h.Answered(t.Context(), access.Request{UID: 1, AppName: "Tunes", State: access.StateDenied}, "")
		h.saw(t, "with notifications off")
	})
}

func TestWhatButtonsDo(t *testing.T) {
	for _, test := range []struct {
		name    string
		refusal appeal.Standing
		demand  fleet.Demand
		failing error
		action  string
		acts    []string
		said    []string
	}{
		{"a click asks why", refusedOf(1, "Tunes", "", "curl"), "", nil, "default", nil, []string{"1 open http://why/1Tunes for 1"}},
		{"why", refusedOf(1, "Tunes", "", "curl"), "", nil, "why", nil, []string{"1 open http://why/1Tunes for 1"}},
		{
			"request", refusedOf(1, "Tunes", "", "curl"), "", nil, "request",
			[]string{`1 requests 1Tunes ""`},
			[]string{"1 1: Access to Tunes requested []"},
		},
		{
			"continue", warnedOf(1, "Tunes", "", "curl"), "", nil, "continue",
			[]string{`1 continues 1Tunes ""`},
			[]string{"1 1: You may go on []"},
		},
		{"continue needs a reason", warnedOf(1, "Tunes", "", "curl"), fleet.Required, nil, "continue", nil, []string{"1 open http://why/1Tunes for 1"}},
		{"request needs a reason", refusedOf(1, "Tunes", "", "curl"), fleet.Required, nil, "request", nil, []string{"1 open http://why/1Tunes for 1"}},
		{
			"continue fails", warnedOf(1, "Tunes", "", "curl"), "", fault.New(fault.TooMany, "too many"), "continue",
			[]string{`1 continues 1Tunes ""`},
			[]string{"1 open http://why/1Tunes for 1"},
		},
		{"a button that was not there", refusedOf(1, "Tunes", "", "curl"), "", nil, "continue", nil, nil},
		{"nonsense", refusedOf(1, "Tunes", "", "curl"), "", nil, "rm -rf /", nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t)
				h.settings.BypassReason, h.failing = test.demand, test.failing
				h.Refused(test.refusal)
				synctest.Wait()
				h.take()
				h.helpers[1].heard(desktop.Report{Key: "1", What: desktop.Shown})
				h.helpers[1].heard(desktop.Report{Key: "1", What: desktop.Invoked, Action: test.action})
				// Whatever it is, it is done once.
				h.helpers[1].heard(desktop.Report{Key: "1", What: desktop.Invoked, Action: test.action})
				h.saw(t, "told", test.said...)
				if diff := cmp.Diff(test.acts, h.acts); diff != "" {
					t.Errorf("acts (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestAHelperSpeaksForItsOwnUserAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.Refused(warnedOf(1, "Tunes", "", "curl"))
		synctest.Wait()
		h.Refused(warnedOf(2, "Tunes", "", "curl"))
		synctest.Wait()
		// The second user's process claims what the first was shown.
		h.helpers[2].heard(desktop.Report{Key: "1", What: desktop.Invoked, Action: actionContinue})
		h.helpers[2].heard(desktop.Report{Key: "1", What: desktop.Closed})
		h.helpers[2].heard(desktop.Report{Key: "nobody's", What: "exploded"})
		synctest.Wait()
		if len(h.acts) != 0 {
			t.Errorf("it did %v", h.acts)
		}
		h.helpers[1].heard(desktop.Report{Key: "1", What: desktop.Invoked, Action: actionContinue})
		synctest.Wait()
		if diff := cmp.Diff([]string{`1 continues 1Tunes ""`}, h.acts); diff != "" {
			t.Errorf("the first user's own (-want +got):\n%s", diff)
		}
	})
}

func TestAHelperLivesWhileSomethingIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		tell := func() {
			h.Refused(refusedOf(1, "Tunes", "", "curl"))
			synctest.Wait()
			h.take()
		}
		tell()
		h.helpers[1].heard(desktop.Report{Key: "1", What: desktop.Closed})
		h.saw(t, "when it was closed", "1 end")
		elapse(quiet)
		tell()
		elapse(openFor + time.Minute)
		h.saw(t, "when nobody answered", "1 withdraw 2", "1 end")
		tell()
		h.helpers[1].heard(desktop.Report{})
		synctest.Wait()
		elapse(quiet)
		h.Refused(refusedOf(1, "Tunes", "", "curl"))
		h.saw(t, "when it died a new one", "1 4: Tunes is blocked [default why request]")
		h.Answered(t.Context(), access.Request{UID: 2, AppName: "Tunes", State: access.StateDenied}, "")
		synctest.Wait()
		h.helpers[2].heard(desktop.Report{Key: "5", What: desktop.Shown})
		h.saw(t, "after a message without buttons", "2 5: Access to Tunes denied []", "2 end")
	})
}

func TestWhatIsOpenIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		for i := range maxOpen + 1 {
			h.Refused(refusedOf(1, "App"+strconv.Itoa(i), "", "curl"))
			synctest.Wait()
		}
		if said := h.take(); said[maxOpen] != "1 withdraw 1" {
			t.Errorf("the oldest does not make room: %q", said)
		}
		for uid := range uint32(2 * maxWorkers) {
			h.Refused(refusedOf(uid+10, "Tunes", "", "curl"))
			synctest.Wait()
		}
		if n := len(h.helpers); n != maxWorkers {
			t.Errorf("%d helpers run, want %d", n, maxWorkers)
		}
	})
}

func TestADesktopThatHangsHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.hangs[1] = true
		// It is given far more than fits on its way.
		for i := range 2 * waiting {
			h.Refused(refusedOf(1, "App"+strconv.Itoa(i), "", "curl"))
			synctest.Wait()
		}
		h.Refused(refusedOf(2, "Tunes", "", "curl"))
		h.saw(t, "the other user at once", "2 1: Tunes is blocked [default why request]")
	})
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	n := New(Config{
		Settings: fleet.Defaults, Now: time.Now, URL: func(string) string { return "" }, Log: slog.New(slog.DiscardHandler),
		Session: func(context.Context, uint32) (session.Session, error) { return session.Session{}, errors.New("unused") },
	})
	n.Refused(refusedOf(2, "Tunes", "", "curl"))
	for i := range 2 * maxTold {
		n.Refused(refusedOf(1, "App"+strconv.Itoa(i), "", "curl"))
	}
	if len(n.told[1]) > maxTold {
		t.Errorf("%d messages to one user are remembered, want at most %d", len(n.told[1]), maxTold)
	}
	if n.due(2, recipient{"2Tunes", "/usr/bin/curl"}) {
		t.Error("what one user was told made room for what another was")
	}
	for uid := range uint32(2 * maxUsers) {
		n.Refused(refusedOf(uid, "Tunes", "", "curl"))
	}
	if len(n.told) > maxUsers {
		t.Errorf("%d users are remembered, want at most %d", len(n.told), maxUsers)
	}
}

func TestOnlyWhatWasDeliveredCountsAsTold(t *testing.T) {
	for _, test := range []struct {
		name string
		// before and after are done around the first attempt.
		before, after func(h *house)
		// told is whether the user was told by it.
		told bool
	}{
		{"it was shown", nil, func(h *house) { h.helpers[1].heard(desktop.Report{Key: "1", What: desktop.Shown}) }, true},
		{"it is on its way", nil, nil, true},
		{"there is no session", func(h *house) { h.lost[1] = true }, func(h *house) { h.lost[1] = false }, false},
		{"the session hangs", func(h *house) { h.hangs[1] = true }, func(h *house) {
			elapse(sendTimeout)
			h.hangs[1] = false
		}, false},
		{"it cannot be sent", func(h *house) { h.mute = true }, func(h *house) { h.mute = false }, false},
		{"the desktop refuses it", nil, func(h *house) { h.helpers[1].heard(desktop.Report{Key: "1", What: desktop.Failed}) }, false},
		{"the helper dies before", nil, func(h *house) { h.helpers[1].heard(desktop.Report{}) }, false},
		{"the helper dies afterwards", nil, func(h *house) {
			h.helpers[1].heard(desktop.Report{Key: "1", What: desktop.Shown})
			h.helpers[1].heard(desktop.Report{})
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t)
				attempt := func() bool {
					h.Refused(refusedOf(1, "Tunes", "", "curl"))
					synctest.Wait()
					said := h.take()
					return len(said) > 0 && strings.Contains(said[len(said)-1], "Tunes is blocked")
				}
				if test.before != nil {
					test.before(h)
				}
				attempt()
				if test.after != nil {
					test.after(h)
				}
				synctest.Wait()
				h.take()
				if attempt() {
					t.Error("it is tried again at once")
				}
				elapse(again)
				if got := attempt(); got == test.told {
					t.Errorf("tried again soon: %v, want %v", got, !test.told)
				}
				elapse(quiet)
				if !attempt() {
					t.Error("the user is not told after a while")
				}
			})
		})
	}
}

func TestTheTextOfARefusal(t *testing.T) {
	const url = "http://why/1"
	for _, test := range []struct {
		name     string
		refusal  appeal.Standing
		language wording.Language
		settings fleet.Settings
		title    string
		body     string
	}{
		{
			"blocked", refusedOf(1, "Tunes", "a.example", "curl"), wording.English,
			fleet.Settings{},
			"Tunes is blocked",
			"curl tried to connect to a.example. Your organisation does not allow Tunes on this device. Questions? Ask your IT support.",
		},
		{
			"blocked, in German", refusedOf(1, "Tunes", "a.example", "curl"), wording.German,
			fleet.Settings{SupportContact: "help@corp.example", SupportURL: "https://help.corp.example/"},
			"Tunes ist gesperrt",
			"curl wollte sich mit a.example verbinden. Ihre Organisation erlaubt Tunes auf diesem Gerät nicht. Fragen beantwortet: help@corp.example.",
		},
		{
			"a host of no app", refusedOf(1, "", "a.example", "curl"), wording.English,
			fleet.Settings{},
			"a.example is blocked",
			"curl tried to connect to a.example. Your organisation does not allow connections to a.example from this device. Questions? Ask your IT support.",
		},
		{
			"warned", warnedOf(1, "Tunes", "a.example", "curl"), wording.German,
			fleet.Settings{},
			"Tunes: Möchten Sie fortfahren?",
			"curl wollte sich mit a.example verbinden. Ihre Organisation rät von Tunes ab. Sie dürfen fortfahren, wenn Sie es brauchen. Fragen beantwortet: Ihre IT-Abteilung.",
		},
		{
			"the administrator's words", refusedOf(1, "Tunes", "a.example", "curl"), wording.German,
			fleet.Settings{NotificationText: "{app} ({host}): {reason} -> {contact}", SupportContact: "4711"},
			"Tunes ist gesperrt",
			"Tunes (a.example): Ihre Organisation erlaubt Tunes auf diesem Gerät nicht. -> 4711",
		},
	} {
		got := refused(wording.For(test.language), &test.refusal, &test.settings, url)
		if got.Title != test.title || got.Body != test.body || got.Link != url || got.Help.URL != test.settings.SupportURL {
			t.Errorf("%s: got %q, %q", test.name, got.Title, got.Body)
		}
	}
	nameless := refusedOf(1, "Tunes", "a.example", "")
	nameless.Event.Process.Path = ""
	if got := refused(wording.For(wording.English), &nameless, &fleet.Settings{}, ""); !strings.HasPrefix(got.Body, "A program tried") || len(got.Actions) != 1 {
		t.Errorf("without program and page got %+v", got)
	}
}

func TestTheTextOfAnAnswer(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		request access.Request
		want    string
	}{
		{access.Request{AppName: "Tunes", State: access.StateApproved, Until: now.Add(2 * time.Hour)}, "Zugriff auf Tunes genehmigt: Sie können Tunes bis 14:00 Uhr nutzen."},
		{access.Request{AppID: "tunes", State: access.StateApproved, Note: "Viel Spaß"}, "Zugriff auf tunes genehmigt: Sie können tunes von jetzt an nutzen. Der Administrator schreibt: Viel Spaß"},
		{access.Request{Host: "a.example", State: access.StateDenied}, "Zugriff auf a.example abgelehnt: Ihr Antrag wurde nicht genehmigt."},
		{access.Request{AppName: "Tunes", State: access.StateRevoked}, "Zugriff auf Tunes beendet: Die Genehmigung wurde zurückgenommen."},
	} {
		m := answered(wording.For(wording.German), &test.request, "", now)
		if got := m.Title + ": " + m.Body; got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

// elapse lets time pass, in a synctest bubble.
func elapse(d time.Duration) { <-time.After(d) }
