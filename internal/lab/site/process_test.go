package site

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func start(t *testing.T, script string) *process {
	t.Helper()
	p, err := startProcess("test", exec.Command("sh", "-c", script), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.kill(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// waitFor waits until a program has printed something.
func waitFor(t *testing.T, p *process, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := Until(ctx, func(context.Context) error {
		if !strings.Contains(p.tail(), text) {
			return errors.New("not yet")
		}
		return nil
	})
	if err != nil {
		t.Fatalf("waiting for %q: %v", text, err)
	}
}

func TestAProgramThatEndsWhenAskedIsNoError(t *testing.T) {
	p := start(t, "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done")
	waitFor(t, p, "ready")
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	if got := p.tail(); got != "ready\nbye\n" {
		t.Errorf("it printed %q", got)
	}
	if err := p.stop(); err != nil {
		t.Errorf("ending it again: %v", err)
	}
}

func TestAProgramThatFailsWhenAskedToEndIsAnError(t *testing.T) {
	p := start(t, "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done")
	waitFor(t, p, "ready")
	if err := p.stop(); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v, want exit status 3", err)
	}
}

func TestKillEndsAProgramThatDoesNotListen(t *testing.T) {
	p := start(t, "trap '' TERM; echo ready; while :; do sleep 0.01; done")
	waitFor(t, p, "ready")
	if err := p.kill(); err != nil {
		t.Error(err)
	}
	if p.gone.Err() == nil {
		t.Error("kill returned before it was gone")
	}
}

func TestUntilTellsTheLastErrorAndTheCause(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cause, last := errors.New("enough"), errors.New("not yet")
	calls := 0
	err := Until(ctx, func(context.Context) error {
		if calls++; calls == 3 {
			cancel(cause)
			return errors.New("interrupted")
		}
		return last
	})
	if !errors.Is(err, cause) || !errors.Is(err, last) || calls != 3 {
		t.Errorf("got %v after %d calls", err, calls)
	}
}
