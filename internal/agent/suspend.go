package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"interdict/internal/agent/health"
	"interdict/internal/agent/state"
	"interdict/internal/event"
)

// What ends a suspension.
const (
	endsByBundle = "a bundle came from the server"
	endsBySync   = "an administrator ran interdict-agent sync"
	endsByStart  = "the agent was started again"
)

// Suspend removes every trace from the kernel, for rescue. Nothing is enforced
// until Resume, a new bundle, or a restart. That it began is recorded once,
// and so is its end, by whichever agent sees it.
func (e *enforcer) Suspend(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	const text = "an administrator ran rescue: nothing is enforced until sync, a new bundle, or a restart"
	if e.ends == "" {
		e.cfg.Journal.Record(ctx, event.Event{EventID: event.IDSuspended, Action: event.ActionSuspended, Reason: text})
		if err := state.WriteFile(e.cfg.Suspended, nil); err != nil {
			e.cfg.Log.WarnContext(ctx, "noting a rescue: if a restart ends it no event says so", "error", err)
		}
	}
	e.ends = endsByBundle
	e.cfg.Health.Raise(health.Suspended, "%s", text)
	return e.withdraw(ctx)
}

// Withdraw removes every trace from the kernel for good: the agent is about to
// end.
func (e *enforcer) Withdraw(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.withdraw(ctx)
}

// withdraw removes every trace from the kernel. The caller holds mu.
func (e *enforcer) withdraw(ctx context.Context) error {
	e.suspended.Store(true)
	if err := e.cfg.Platform.Guard.CleanUp(ctx); err != nil {
		return fmt.Errorf("removing the kernel's rules: %w", err)
	}
	return nil
}

// Resume ends a suspension.
func (e *enforcer) Resume(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.known || !e.suspended.Swap(false) {
		return nil
	}
	e.ends = endsBySync
	err := e.renew(ctx)
	if err != nil {
		e.suspended.Store(true)
		e.ends = endsByBundle
	}
	return err
}

// recordResumed records that a suspension is over, if one was recorded. The
// caller holds mu.
func (e *enforcer) recordResumed(ctx context.Context) {
	if e.ends == "" {
		return
	}
	e.cfg.Journal.Record(ctx, event.Event{
		EventID: event.IDResumed, Action: event.ActionResumed, Reason: "the rescue is over, rules are in force again: " + e.ends,
	})
	e.ends = ""
	if err := os.Remove(e.cfg.Suspended); err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.cfg.Log.WarnContext(ctx, "noting the end of a rescue: it will be recorded again", "error", err)
	}
}
