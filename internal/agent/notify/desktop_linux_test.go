package notify

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/access"
	"interdict/internal/agent/appeal"
	"interdict/internal/agent/notify/desktop"
	"interdict/internal/agent/notify/desktoptest"
	"interdict/internal/agent/notify/session"
	"interdict/internal/bypass"
	"interdict/internal/event"
	"interdict/internal/fleet"
)

// The helper is this program once more, as it is in the agent.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "helper" {
		err := desktop.Serve(context.Background(), desktop.ServeConfig{Orders: os.Stdin, Reports: os.Stdout, Bus: os.Getenv("DBUS_SESSION_BUS_ADDRESS")})
		if err != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// machine is a machine with logind, one user at a desktop, and the agent's
// half of what users see.
type machine struct {
	uid     uint32
	desktop *desktoptest.Service
	appeals *appeal.Appeals
	*Notifier
	events   chan event.Event
	bypasses chan []bypass.Bypass
}

func newMachine(t *testing.T, settings fleet.Settings) *machine {
	t.Helper()
	desktoptest.NeedRoot(t)
	uid := desktoptest.User(t)
	runtimePath := desktoptest.Dir(t, uid)
	bus := desktoptest.Bus(t, uid, runtimePath)
	system := desktoptest.Logind(t, t.TempDir(), desktoptest.Session{
		ID: "c1", UID: uid, Name: "anna", RuntimePath: runtimePath, Type: "wayland", Class: "user", Active: true, Leader: 30,
	})
	log := slog.New(slog.DiscardHandler)
	m := &machine{
		uid: uid, events: make(chan event.Event, 16), bypasses: make(chan []bypass.Bypass, 16),
		desktop: desktoptest.NewService(t, bus, uid, "actions", "body", "body-markup").WithPortal(),
	}
	config := func() fleet.Settings { return settings }
	m.appeals = appeal.New(appeal.Config{
		File: filepath.Join(t.TempDir(), "appeals.json"), Device: "device", Settings: config, Now: time.Now, Log: log,
		Record:   func(_ context.Context, e event.Event) { m.events <- e },
		Changed:  func(_ context.Context, b []bypass.Bypass) { m.bypasses <- b },
		Send:     func(_ context.Context, r access.Request) (access.Request, error) { return r, nil },
		Answered: func(ctx context.Context, r access.Request, id string) { m.Answered(ctx, r, id) },
	})
	m.Notifier = New(Config{
		Settings: config, Now: time.Now, Log: log, URL: func(id string) string { return "http://127.0.0.1:4773/why/" + id },
		Session: session.New(session.Config{
			SystemBus: system, Proc: fstest.MapFS{"30/environ": {Data: []byte("LANG=de_DE.UTF-8\x00")}}, Etc: fstest.MapFS{},
		}).Find,
		Start: func(ctx context.Context, s session.Session, heard func(desktop.Report)) (Helper, error) {
			return desktop.Start(ctx, desktop.Program{Path: "/proc/self/exe", Args: []string{"helper"}}, s, heard)
		},
		Continue: m.appeals.Continue, Request: m.appeals.Request,
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- m.Run(ctx) }()
	go func() { ended <- m.appeals.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		<-ended
	})
	<-m.bypasses
	return m
}

// refuse is a connection to Tunes that was refused.
func (m *machine) refuse(t *testing.T, action event.Action, program string) string {
	t.Helper()
	r, ok := m.appeals.Refused(event.Event{
		EventID: event.IDBlocked, Action: action, AppID: "tunes", AppName: "Tunes", Destination: event.Destination{Host: "a.example"},
		Process: event.Process{Path: "/usr/bin/" + program}, User: event.User{Name: "anna", UID: &m.uid},
	})
	if !ok {
		t.Fatal("the refusal was not taken")
	}
	s, _ := m.appeals.Standing(r.ID)
	m.Refused(s)
	return r.ID
}

func TestOnARealDesktopAUserIsToldInGermanAndGoesOn(t *testing.T) {
	m := newMachine(t, fleet.Defaults())
	m.refuse(t, event.ActionWarned, "curl")
	note := m.desktop.Next()
	if diff := cmp.Diff([]any{
		m.uid, "Tunes: Möchten Sie fortfahren?",
		"curl wollte sich mit a.example verbinden. Ihre Organisation rät von Tunes ab. Sie dürfen fortfahren, wenn Sie es brauchen. Fragen beantwortet: Ihre IT-Abteilung.",
		[]string{"default", "Warum?", "why", "Warum?", "continue", "Fortfahren"},
	}, []any{note.UID, note.Title, note.Body, note.Actions}); diff != "" {
		t.Errorf("the desktop got (-want +got):\n%s", diff)
	}
	m.desktop.Invoke(note.ID, "continue")
	if got := <-m.bypasses; len(got) != 1 || got[0].UID != m.uid || got[0].Subject != "tunes" {
		t.Errorf("the enforcer was told %+v", got)
	}
	if e := <-m.events; e.EventID != event.IDBypassed || *e.User.UID != m.uid || e.Until.IsZero() {
		t.Errorf("the event is %+v", e)
	}
	if note := m.desktop.Next(); note.Title != "Sie dürfen fortfahren" {
		t.Errorf("the desktop got %+v", note)
	}
}

func TestOnARealDesktopTheWhyPageIsOpened(t *testing.T) {
	m := newMachine(t, fleet.Defaults())
	id := m.refuse(t, event.ActionBlocked, "curl")
	m.desktop.Invoke(m.desktop.Next().ID, "default")
	if got := m.desktop.Opened().URL; got != "http://127.0.0.1:4773/why/"+id {
		t.Errorf("%s was opened", got)
	}
}

func TestOnARealDesktopAUserAsksForAccessAndIsAnswered(t *testing.T) {
	m := newMachine(t, fleet.Defaults())
	id := m.refuse(t, event.ActionBlocked, "curl")
	m.desktop.Invoke(m.desktop.Next().ID, "request")
	if note := m.desktop.Next(); note.Title != "Zugriff auf Tunes beantragt" {
		t.Errorf("the desktop got %+v", note)
	}
	s, _ := m.appeals.Standing(id)
	s.Request.State, s.Request.Note, s.Request.DecidedAt = access.StateDenied, "Bitte Box nutzen", time.Now()
	m.appeals.Requests(t.Context(), []access.Request{*s.Request})
	if note := m.desktop.Next(); note.Body != "Ihr Antrag wurde nicht genehmigt. Der Administrator schreibt: Bitte Box nutzen" {
		t.Errorf("the desktop got %+v", note)
	}
}

func TestOnARealDesktopNobodyElseIsTold(t *testing.T) {
	m := newMachine(t, fleet.Defaults())
	stranger := m.uid + 1
	m.Refused(appeal.Standing{Refusal: appeal.Refusal{ID: "x", UID: stranger, Event: event.Event{AppName: "Box"}}})
	// Messages are shown one after another: this one comes after that.
	m.refuse(t, event.ActionBlocked, "curl")
	if note := m.desktop.Next(); note.Title != "Tunes ist gesperrt" {
		t.Errorf("what user %s was refused was shown to another: %+v", strconv.Itoa(int(stranger)), note)
	}
	m.desktop.Silent()
}
