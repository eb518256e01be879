package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/agent/account"
	"interdict/internal/agent/channel/local"
	"interdict/internal/agent/health"
	"interdict/internal/agent/journal"
	"interdict/internal/agent/verdict"
	"interdict/internal/bundle"
	"interdict/internal/bypass"
	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// twoUsers are anna (1000), who is in group it, and ben (1001).
func twoUsers(t *testing.T) *account.Book {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"passwd": "anna:x:1000:1000::/home/anna:/bin/sh\nben:x:1001:1001::/home/ben:/bin/sh\n",
		"group":  "anna:x:1000:\nben:x:1001:\nit:x:50:anna\n",
	} {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	book := account.New(account.Config{
		Root: os.DirFS(root),
		Run: func(context.Context, string, ...string) ([]byte, error) {
			return nil, errors.New("there is no directory")
		},
	})
	t.Cleanup(book.Close)
	return book
}

func TestAnAnswerIsForTheUserWhoIsAskedAbout(t *testing.T) {
	_, e, set := newLab(t)
	blocked := indicator.Indicator{
		ID: "for-it", Type: indicator.TypeDomain, Value: "tunes.example", Action: indicator.ActionWarn, Source: indicator.SourceCustom, AppID: "tunes",
		Scope: indicator.Profile{People: indicator.People{IncludeUserGroups: []string{"it"}}}, CreatedAt: time.Unix(1, 0),
	}
	mustApply(t, e, bundleOf(t, 5, fleet.ModeBlock, "", blocked))
	a := &answerer{enforcer: e, health: set, users: twoUsers(t), events: t.TempDir()}
	ask := func(user string) bundle.Answer {
		return a.Answer(t.Context(), bundle.Question{ID: "q-1", Host: "www.Tunes.example.", User: user})
	}
	if got := ask("anna"); got.ID != "q-1" || got.Action != indicator.ActionWarn || got.IndicatorID != "for-it" || got.Version != 5 || !got.Enforcing || !got.Listening {
		t.Errorf("for anna, who is in scope: %+v", got)
	}
	if got := ask("ben"); got.Action != "" || got.Step != "none" || !slices.Equal(got.OutOfScope, []string{"for-it"}) {
		t.Errorf("for ben, who is not in scope: %+v", got)
	}
	if got := ask(""); got.Action != "" {
		t.Errorf("for nobody in particular: %+v", got)
	}
	if got, want := ask("mallory"), (bundle.Answer{ID: "q-1", NoUser: true, Error: "this device knows no user mallory"}); !cmp.Equal(got, want) {
		t.Errorf("for nobody on this device: %+v, want %+v", got, want)
	}

	began := time.Now()
	goesOn := bypass.Bypass{ID: "b-1", UID: 1000, Subject: "tunes", Since: began.Add(-time.Second), Until: began.Add(time.Hour)}
	if err := e.SetBypasses(t.Context(), []bypass.Bypass{goesOn}); err != nil {
		t.Fatal(err)
	}
	if got := ask("anna"); got.Step != "bypassed" || got.Bypass == nil || got.Bypass.ID != "b-1" {
		t.Errorf("for anna, who goes on: %+v", got)
	}
}

func TestAnAnswerSaysInWhichStateTheDeviceIs(t *testing.T) {
	_, e, set := newLab(t)
	a := &answerer{enforcer: e, health: set, events: t.TempDir()}
	q := bundle.Question{ID: "q-1", IP: netip.MustParseAddr("203.0.113.9")}
	if got := a.Answer(t.Context(), q); got.Enforcing || got.Step != "disabled" || got.Version != 0 {
		t.Errorf("before anything is in force: %+v", got)
	}
	mustApply(t, e, bundleOf(t, 5, fleet.ModeBlock, "", block("203.0.113.9", time.Time{})))
	e.deaf.Store(true)
	set.Raise(health.CaptureMissing, "no queue")
	got := a.Answer(t.Context(), q)
	if got.Listening || !got.Enforcing || got.Indicator != "203.0.113.9" || got.AppID != "tunes" || got.Mode != fleet.ModeBlock {
		t.Errorf("while nobody listens: %+v", got)
	}
	if len(got.Health) != 1 || got.Health[0].Code != string(health.CaptureMissing) {
		t.Errorf("health is %+v, want the missing queue", got.Health)
	}
	if len(got.Settings) != len(fleet.Definitions()) || got.Settings[0].Channel != fleet.ChannelServer {
		t.Errorf("settings are %+v, want all, the first by the server", got.Settings)
	}
	if err := e.Suspend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := a.Answer(t.Context(), q); got.Enforcing {
		t.Errorf("after rescue: %+v", got)
	}
}

func TestAnAnswerHasTheLastEventAboutTheDestination(t *testing.T) {
	root := t.TempDir()
	j, err := journal.Open(journal.Config{
		LogDir: root, SpoolDir: t.TempDir(), Health: &health.Set{}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr("203.0.113.9")
	for _, d := range []event.Destination{
		{Host: "tunes.example", IP: addr}, {Host: "Tunes.example", IP: netip.MustParseAddr("203.0.113.10")}, {Host: "www.tunes.example"},
	} {
		j.Record(t.Context(), event.Event{EventID: event.IDBlocked, Action: event.ActionBlocked, Destination: d, Process: event.Process{Path: d.Host}})
	}
	if err := j.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, e, set := newLab(t)
	a := &answerer{enforcer: e, health: set, events: root}
	for name, test := range map[string]struct {
		q    bundle.Question
		want string
	}{
		"by its name, the newest":   {bundle.Question{Host: "tunes.example"}, "Tunes.example"},
		"by another name":           {bundle.Question{Host: "www.tunes.example."}, "www.tunes.example"},
		"by its address":            {bundle.Question{IP: addr}, "tunes.example"},
		"by a name without events":  {bundle.Question{Host: "example"}, ""},
		"by an address without any": {bundle.Question{IP: netip.MustParseAddr("203.0.113.11")}, ""},
	} {
		got := a.Answer(t.Context(), test.q).LastEvent
		if (got == nil) != (test.want == "") || got != nil && got.Destination.Host != test.want {
			t.Errorf("%s: got %+v, want %q", name, got, test.want)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got := a.Answer(ended, bundle.Question{Host: "tunes.example"}).LastEvent; got != nil {
		t.Errorf("after its time is up the log is still read: %+v", got)
	}
}

func TestTheServerGetsAnAnswer(t *testing.T) {
	s := newSite(t)
	s.question = &bundle.Question{ID: "q-1", Host: "tunes.example"}
	s.run()
	select {
	case got := <-s.answers:
		if got.ID != "q-1" || got.Error != "" || len(got.Settings) != len(fleet.Definitions()) {
			t.Errorf("got %+v, want an answer with all settings", got)
		}
	case <-time.After(10 * time.Second):
		t.Error("there was no answer")
	}
}

func TestAnAnswerIsForThePortThatIsAskedAbout(t *testing.T) {
	_, e, set := newLab(t)
	mustApply(t, e, bundleOf(t, 5, fleet.ModeBlock, ""))
	if err := e.SetLocal(t.Context(), local.Said{Set: map[string]string{fleet.SettingBypassProtection: "block"}}); err != nil {
		t.Fatal(err)
	}
	a := &answerer{enforcer: e, health: set, events: t.TempDir()}
	for port, want := range map[uint16]verdict.Step{0: verdict.StepResolver, 853: verdict.StepResolver, 80: verdict.StepNone} {
		q := bundle.Question{IP: netip.MustParseAddr("1.1.1.1"), Port: port}
		if got := a.Answer(t.Context(), q); got.Step != string(want) {
			t.Errorf("port %d: got %+v, want %s", port, got, want)
		}
	}
}
