package command

import (
	"context"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"interdict/internal/agent/notify/desktop"
	"interdict/internal/agent/notify/desktoptest"
	"interdict/internal/agent/notify/session"
)

// The helper is this program once more, as in the agent, and so are a user's
// commands.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == impostor {
		os.Exit(beImpostor())
	}
	if len(os.Args) > 1 && (os.Args[1] == desktopCommand || os.Args[1] == "why") {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		code := Run(ctx, Env{Stdout: os.Stdout, Stderr: os.Stderr}, os.Args[1:])
		stop()
		os.Exit(code)
	}
	os.Exit(m.Run())
}

func TestTheDesktopHelperIsThisProgram(t *testing.T) {
	uid := desktoptest.User(t)
	dir := desktoptest.Dir(t, uid)
	bus := desktoptest.Bus(t, uid, dir)
	service := desktoptest.NewService(t, bus, uid, "actions")
	heard := make(chan desktop.Report, 8)
	h, err := desktop.Start(t.Context(), desktopProgram(), session.Session{UID: uid, GID: uid, RuntimePath: dir, Bus: bus, Home: "/"}, func(r desktop.Report) { heard <- r })
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Show(desktop.Message{Key: "k", Title: "Tunes is blocked", Actions: []desktop.Action{{Name: "why", Label: "Why?"}}}); err != nil {
		t.Fatal(err)
	}
	service.Invoke(service.Next().ID, "why")
	want := []desktop.Report{{Key: "k", What: desktop.Shown}, {Key: "k", What: desktop.Invoked, Action: "why"}, {Key: "k", What: desktop.Closed}, {}}
	for _, w := range want {
		if w == (desktop.Report{}) {
			h.Close()
		}
		select {
		case got := <-heard:
			if got != w {
				t.Errorf("got %+v, want %+v", got, w)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%+v did not come", w)
		}
	}
}

func TestTheDesktopHelperIsNotForPeople(t *testing.T) {
	if got := run(t, "--help"); strings.Contains(got.stdout+got.stderr, desktopCommand) {
		t.Error("the help speaks of it")
	}
}
