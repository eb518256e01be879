package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"interdict/internal/agent/channel"
	"interdict/internal/agent/channel/local"
	"interdict/internal/agent/health"
	"interdict/internal/agent/netguard"
	"interdict/internal/agent/process"
	"interdict/internal/agent/state"
	"interdict/internal/agent/verdict"
	"interdict/internal/bypass"
	"interdict/internal/event"
	"interdict/internal/fleet"
)

const (
	// beforeCut is how long the owners of connections that are to be cut
	// may be looked for: once cut, nobody can tell any more.
	beforeCut = 100 * time.Millisecond
	// tidyAfter is how long after a change the memory that it took is given
	// back: when it is acknowledged and on disk too.
	tidyAfter = 2 * time.Second
	// lookAgain is how often the clock on the wall is looked at: timers stand
	// still while a machine sleeps, and clocks are set.
	lookAgain = 30 * time.Second
	// retryAfter is how soon rules that could not be put into force are
	// tried again.
	retryAfter = 5 * time.Second
)

// inspector is whoever judges packets.
type inspector interface {
	netguard.Handler
	SetRuleset(rs *verdict.Ruleset) []netguard.Observation
	Stats() netguard.Stats
}

// recorder writes events down.
type recorder interface {
	Record(ctx context.Context, e event.Event)
	Changes(ctx context.Context, policyID string, version uint64, changes ...event.Change)
	// Sync makes durable what was written down.
	Sync() error
}

type enforcerConfig struct {
	Platform  Platform
	Inspector inspector
	Observer  *observer
	Journal   recorder
	// Settings is the file that remembers which settings were reported.
	Settings string
	// Suspended is the file that is there while a suspension lasts.
	Suspended string
	Exempt    []netip.AddrPort
	// Changed is told the settings whenever rules went into force; it must
	// not block. Revoked is told whose bypasses a bundle ends, each time one
	// went into force. Both may be nil.
	Changed func(s fleet.Settings)
	Revoked func(revocations []bypass.Revocation)
	Health  *health.Set
	Log     *slog.Logger
}

// enforcer puts into force what the server and this machine's own channels
// say, and keeps it there.
type enforcer struct {
	cfg enforcerConfig
	// current is what is in force, nil for nothing. It is read from
	// everywhere and written under mu.
	current atomic.Pointer[enforced]
	// failed is why what is said is not what is in force, nil if it is.
	failed atomic.Pointer[failure]
	// changed holds a token when current was replaced.
	changed chan struct{}
	// suspended is written under mu, as is deaf: nobody listens although the
	// rules want packets inspected.
	suspended, deaf atomic.Bool

	// mu makes one change at a time. It guards what follows.
	mu       sync.Mutex
	capture  Capture
	failMode fleet.FailMode
	// ends says what would end the suspension that was recorded last, empty
	// if its end was recorded too.
	ends string
	// said is what is to be in force. Until known is set nobody can tell
	// what the server says: nothing is changed until then.
	said  policy
	known bool
}

// failure is why something could not be put into force.
type failure struct{ cause error }

func newEnforcer(cfg enforcerConfig) *enforcer {
	e := &enforcer{cfg: cfg, changed: make(chan struct{}, 1)}
	if _, err := os.Stat(cfg.Suspended); err == nil {
		e.ends = endsByStart
	}
	return e
}

// rules returns the rules in force, nil for none.
func (e *enforcer) rules() *verdict.Ruleset {
	if c := e.current.Load(); c != nil {
		return c.rules
	}
	return nil
}

// mode returns the network protection mode in force.
func (e *enforcer) mode() fleet.Mode {
	if r := e.rules(); r != nil {
		return r.Mode()
	}
	return fleet.ModeDisabled
}

// decide judges a subject by the rules in force, and returns their version.
func (e *enforcer) decide(s verdict.Subject) (verdict.Decision, uint64) {
	c := e.current.Load()
	if c == nil {
		return verdict.Decision{Mode: fleet.ModeDisabled, Step: verdict.StepDisabled}, 0
	}
	return c.rules.Decide(s, time.Now()), c.version
}

// enforcing reports whether rules are in force and not suspended.
func (e *enforcer) enforcing() bool {
	return e.current.Load() != nil && !e.suspended.Load()
}

// settings returns those in force.
func (e *enforcer) settings() fleet.Settings {
	if c := e.current.Load(); c != nil {
		return c.settings.Settings
	}
	return fleet.Defaults()
}

// Apply puts a bundle into force, with what this machine's own channels say,
// and returns the mode that results. A bundle from the server ends a
// suspension. When it fails, the rules that were in force still are.
func (e *enforcer) Apply(ctx context.Context, b state.Bundle) (fleet.Mode, error) {
	mode, err := e.apply(ctx, b)
	if err == nil && e.cfg.Revoked != nil {
		e.cfg.Revoked(revocations(b.Set))
	}
	return mode, err
}

func (e *enforcer) apply(ctx context.Context, b state.Bundle) (fleet.Mode, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.said
	p.server = b
	next, err := p.compile(e.current.Load())
	if err != nil {
		return "", err
	}
	if err = e.change(ctx, next); err != nil {
		if e.current.Load() == nil {
			// There is nothing to fall back to: it is tried again.
			e.said, e.known = p, true
			e.failed.Store(&failure{cause: err})
		}
		return "", err
	}
	e.said, e.known = p, true
	return next.rules.Mode(), nil
}

// SetLocal puts into force what this machine's own channels say now. Where
// that fails it is tried again by itself; under a suspension it waits for its
// end.
func (e *enforcer) SetLocal(ctx context.Context, said local.Said) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.said.local = said
	return e.renew(ctx)
}

// SetBypasses puts users' bypasses into force in place of all earlier ones,
// likewise. Where they are the same nothing is done.
func (e *enforcer) SetBypasses(ctx context.Context, all []bypass.Bypass) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if slices.Equal(e.said.bypasses, all) {
		return nil
	}
	e.said.bypasses = all
	return e.renew(ctx)
}

// renew puts what is said into force unless that is suspended or not known
// yet. The caller holds mu.
func (e *enforcer) renew(ctx context.Context) error {
	if e.waits() != "" {
		return nil
	}
	next, err := e.said.compile(e.current.Load())
	if err == nil {
		err = e.change(ctx, next)
	}
	if err != nil {
		e.failed.Store(&failure{cause: err})
		e.cfg.Health.Raise(health.ApplyFailed, "a change on this machine cannot be put into force: %v; it is tried again", err)
	}
	return err
}

// waits returns why what is said is not put into force at the moment, empty if
// it is. The caller holds mu.
func (e *enforcer) waits() string {
	switch {
	case !e.known:
		return "nobody knows what the server says until it answers"
	case e.suspended.Load():
		return "an administrator ran rescue; end it with interdict-agent sync"
	default:
		return ""
	}
}

// change puts rules into force and says what changed. The caller holds mu.
func (e *enforcer) change(ctx context.Context, next *enforced) error {
	cut, err := e.enforce(ctx, next)
	if err != nil {
		return err
	}
	if e.failed.Swap(nil) != nil {
		e.cfg.Health.Clear(health.ApplyFailed)
	}
	e.recordResumed(ctx)
	// Whoever reads the log sees the setting change before what follows
	// from it.
	e.reportSettings(ctx, &next.settings, next.version)
	e.record(ctx, cut)
	if e.cfg.Changed != nil {
		e.cfg.Changed(next.settings.Settings)
	}
	return nil
}

// desired is what the settings are to be, in force or not. The caller holds
// mu.
func (e *enforcer) desired() channel.Effective {
	// A bundle that was taken has been read before.
	server, _ := channel.FromBundle(e.said.server.Set)
	return e.said.settle(server)
}

// enforce makes next the rules in force and returns the events of the
// connections that it cut. The caller holds mu.
func (e *enforcer) enforce(ctx context.Context, next *enforced) ([]event.Event, error) {
	before := e.current.Load()
	err := e.listen(ctx, next.rules)
	e.deaf.Store(err != nil)
	if err != nil {
		// The addresses in the kernel work without anybody listening.
		e.cfg.Health.Raise(health.CaptureMissing, "%v; connections are not inspected, only addresses are refused", err)
	}
	e.cfg.Observer.version.Store(next.version)
	refused := e.cfg.Inspector.SetRuleset(next.rules)
	if err := e.cfg.Platform.Guard.Set(ctx, e.kernel(next)); err != nil {
		if before != nil {
			e.cfg.Observer.version.Store(before.version)
			e.cfg.Inspector.SetRuleset(before.rules)
		}
		return nil, fmt.Errorf("writing the kernel's rules: %w", err)
	}
	e.current.Store(next)
	e.suspended.Store(false)
	e.cfg.Health.Clear(health.Suspended)
	select {
	case e.changed <- struct{}{}:
	default:
	}
	return e.cut(ctx, refused, next.version), nil
}

func (e *enforcer) record(ctx context.Context, events []event.Event) {
	for _, ev := range events {
		e.cfg.Observer.cfg.Record(ctx, ev)
	}
}

// kernel is the kernel's part of the rules.
func (e *enforcer) kernel(next *enforced) netguard.Config {
	c := netguard.Config{
		Inspect: next.rules.Mode() != fleet.ModeDisabled, QueueBase: QueueBase,
		FailClosed: next.rules.FailMode() == fleet.FailClosed, Gateway: next.settings.Settings.GatewayMode == fleet.On,
		Exempt: e.cfg.Exempt,
	}
	c.Refused, c.Watched = next.rules.Addresses(time.Now())
	return c
}

// listen has packets handed to the inspector, which must be so before the
// kernel's rules ask for it. The caller holds mu.
func (e *enforcer) listen(ctx context.Context, rules *verdict.Ruleset) error {
	if rules.Mode() == fleet.ModeDisabled || e.cfg.Platform.NewCapture == nil {
		e.cfg.Health.Clear(health.CaptureMissing)
		return nil
	}
	if e.capture != nil {
		if e.failMode == rules.FailMode() {
			return nil
		}
		// The fail mode is a property of the open queues.
		if err := e.capture.Shutdown(ctx); err != nil {
			return fmt.Errorf("closing the packet queues: %w", err)
		}
		e.capture = nil
	}
	c, err := e.cfg.Platform.NewCapture(e.cfg.Inspector, rules.FailMode())
	if err != nil {
		return fmt.Errorf("opening the packet queues: %w", err)
	}
	if err := c.Start(ctx); err != nil {
		return fmt.Errorf("opening the packet queues: %w", err)
	}
	e.capture, e.failMode = c, rules.FailMode()
	e.cfg.Health.Clear(health.CaptureMissing)
	return nil
}

// cut ends connections that are refused now, and returns the events of those
// that were open. One that its program has closed a moment ago may still be
// remembered; nothing of it was refused.
func (e *enforcer) cut(ctx context.Context, refused []netguard.Observation, version uint64) []event.Event {
	if len(refused) == 0 || e.cfg.Platform.Cut == nil {
		return nil
	}
	// Once a connection is cut nobody can tell whose it was.
	owners := e.owners(ctx, refused)
	flows := make([]netguard.Flow, len(refused))
	for i := range refused {
		flows[i] = refused[i].Flow
		refused[i].Done()
	}
	open, err := e.cfg.Platform.Cut(ctx, flows)
	if err != nil {
		e.cfg.Health.Raise(health.CuttingMissing, "%v; connections that are open already may go on", err)
		e.cfg.Log.ErrorContext(ctx, "cutting open connections", "error", err)
	}
	// They share what time there is for names.
	naming, cancel := context.WithTimeout(ctx, nameFor)
	defer cancel()
	var events []event.Event
	for i, obs := range refused {
		if slices.Contains(open, obs.Flow) {
			ev := eventOf(obs, owners[i], version)
			e.cfg.Observer.name(naming, &ev.User)
			events = append(events, ev)
		}
	}
	return events
}

func (e *enforcer) owners(ctx context.Context, refused []netguard.Observation) []process.Owner {
	ctx, cancel := context.WithTimeout(ctx, beforeCut)
	defer cancel()
	owners := make([]process.Owner, len(refused))
	var g errgroup.Group
	g.SetLimit(observers)
	for i := range refused {
		g.Go(func() error {
			owners[i] = e.cfg.Observer.find(ctx, refused[i].Flow)
			return nil
		})
	}
	_ = g.Wait() // None of them fails.
	return owners
}

// run puts the rules into force again whenever they change by themselves, and
// after a failure, until ctx ends.
func (e *enforcer) run(ctx context.Context) error {
	timer, tidy := time.NewTimer(0), time.NewTimer(tidyAfter)
	defer timer.Stop()
	defer tidy.Stop()
	enforced := time.Now()
	for {
		due, ok := e.nextChange(enforced)
		if ok {
			timer.Reset(min(max(time.Until(due), time.Millisecond), lookAgain))
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-e.changed:
			enforced = time.Now()
			tidy.Reset(tidyAfter)
		case <-tidy.C:
			// Reading a large bundle takes twice the memory of having
			// it, and the next may be days away.
			debug.FreeOSMemory()
		case <-timer.C:
			if time.Now().Before(due) {
				continue
			}
			enforced = time.Now()
			if err := e.reapply(ctx); err != nil {
				e.cfg.Log.ErrorContext(ctx, "putting the rules into force again", "error", err)
				sleep(ctx, retryAfter)
			}
		}
	}
}

// nextChange returns until when what is in force is good, which was put into
// force at enforced; ok is false when that is for ever.
func (e *enforcer) nextChange(enforced time.Time) (due time.Time, ok bool) {
	rules := e.rules()
	if rules == nil || e.deaf.Load() || e.failed.Load() != nil {
		return time.Now().Add(retryAfter), true
	}
	return rules.NextChange(enforced)
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// reapply puts the rules into force again, unless they are suspended.
func (e *enforcer) reapply(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.renew(ctx)
}

// leave records that every setting is what it is without any policy. Nothing
// may be put into force after it.
func (e *enforcer) leave(ctx context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	none := channel.Merge(channel.Said{})
	e.reportSettings(ctx, &none, 0)
}

// shutdown stops listening and leaves the kernel's rules in place.
func (e *enforcer) shutdown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, shutdownTimeout)
	defer cancel()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.capture == nil {
		return nil
	}
	err := e.capture.Shutdown(ctx)
	e.capture = nil
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("closing the packet queues: they were still busy after %s", shutdownTimeout)
	}
	return err
}
