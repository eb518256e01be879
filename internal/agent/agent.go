// Package agent decides what an endpoint agent does from its start to its
// end: in which order its parts come up, how a bundle goes into force, what an
// observation becomes as an event, and what the commands may ask of it.
//
// The kernel's rules come first. An agent that starts reads the last good
// bundle and this machine's own channels (drop-in files, the environment, what
// was set with a command) and has them in force before it looks for a network. When it
// ends, in order or not, it leaves the kernel's rules as they are: addresses
// that are refused stay refused, and what would be inspected passes or is
// refused according to the fail mode. Only rescue and unenroll remove them.
//
// A bundle goes into force in this order: it is compiled; whoever judges
// packets is given the new rules; the kernel is given its part; what is open
// and now refused is cut; every setting that changed becomes a 5007 event;
// only then is the bundle acknowledged. At no instant is a connection judged
// by neither the old rules nor the new. When a step fails the old rules are
// put back.
//
// A machine that is not enrolled has an agent all the same: it enforces what
// the machine's own channels say, writes its events to the local log and speaks
// to no server. When the machine is enrolled the agent begins anew as the
// server's.
//
// What only this operating system can do is behind Platform. The rooms below
// this one do the rest: uplink, journal, notify, health, state, and on the
// packet's side netguard, process and verdict.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"interdict/internal/agent/account"
	"interdict/internal/agent/channel/local"
	"interdict/internal/agent/health"
	"interdict/internal/agent/journal"
	"interdict/internal/agent/netguard"
	"interdict/internal/agent/notify/desktop"
	"interdict/internal/agent/process"
	"interdict/internal/agent/sole"
	"interdict/internal/agent/state"
	"interdict/internal/agent/uplink"
	"interdict/internal/bundle"
	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// QueueBase is the number of the first queue that packets come through.
const QueueBase = 5770

// shutdownTimeout bounds each step of an orderly end.
const shutdownTimeout = 3 * time.Second

// Capture hands packets to a handler while it is started.
type Capture interface {
	// Start returns when packets are handled.
	Start(ctx context.Context) error
	Shutdown(ctx context.Context) error
}

// Platform is what depends on the operating system. Guard is required; what
// else is missing makes the agent weaker and is a health item.
type Platform struct {
	Guard netguard.Guard
	// Watch puts the kernel's rules back when somebody else changes them,
	// and calls restored each time, until ctx ends.
	Watch func(ctx context.Context, restored func(err error)) error
	// NewCapture makes what hands packets to h.
	NewCapture func(h netguard.Handler, fail fleet.FailMode) (Capture, error)
	// Ends calls ended for every connection that has ended, until ctx ends.
	// It may be called again then.
	Ends func(ctx context.Context, ended func(netguard.Flow)) error
	// Cut ends connections as netguard.Cutter says, and returns those that
	// were open.
	Cut    func(ctx context.Context, flows []netguard.Flow) (open []netguard.Flow, err error)
	Finder process.Finder
	// Replier answers refused requests with a page.
	Replier netguard.Replier
	// Missing says what could not be opened, and why.
	Missing map[health.Code]error
	// Close frees what the platform holds; the kernel's rules stay.
	Close func() error
}

// Config is what Run needs.
type Config struct {
	Dir      state.Dir
	Platform Platform
	// PolicyDir is where drop-in files are; empty for none.
	PolicyDir string
	// Environ are the variables that settings are read from, as os.Environ
	// returns them.
	Environ []string
	// Desktop is this program as a user's desktop helper.
	Desktop desktop.Program
	// WhyListen is the address of the why page; empty for none.
	WhyListen string
	// RuntimeDir is where everybody may read what the agent says there of
	// itself; empty for nowhere.
	RuntimeDir string
	// Facts are what this machine says of itself.
	Facts bundle.Facts
	// Ready is called when the rules of the last good bundle and of the
	// machine's own channels are in force; nil for nobody to tell.
	Ready func()
	Log   *slog.Logger
}

// agent is a running agent.
type agent struct {
	cfg Config
	// id is zero for a machine that is not enrolled; uplink then is nil.
	id       state.Identity
	started  time.Time
	health   *health.Set
	journal  *journal.Journal
	observer *observer
	enforcer *enforcer
	locals   *local.Channels
	accounts *account.Book
	users    *users
	uses     *uses
	uplink   *uplink.Uplink
	// end ends the agent; erase is set when the identity is to go with it,
	// and keepEvents when the local event log is not to go as well. renew is
	// set when it is to begin anew, since the machine was enrolled.
	end                      context.CancelCauseFunc
	erase, keepEvents, renew atomic.Bool
}

// What ends an agent while its context lasts.
var (
	errUnenrolled = errors.New("the device was unenrolled")
	errEnrolled   = errors.New("the machine was enrolled")
)

// Run is an agent, until ctx ends or the device is unenrolled. Without an
// identity in the directory it enforces what the machine itself says.
func Run(ctx context.Context, cfg Config) error {
	unlock, err := sole.Directory(cfg.Dir.Path(state.FileLock))
	if err != nil {
		return err
	}
	defer unlock()
	if cfg.Ready != nil {
		cfg.Ready = sync.OnceFunc(cfg.Ready)
	}
	for {
		again, err := runOnce(ctx, cfg)
		if err != nil || !again {
			return err
		}
		cfg.Log.InfoContext(ctx, "the machine was enrolled; from now on the server's policies count")
	}
}

// runOnce is an agent with the identity that there is now. It returns true
// when there is another.
func runOnce(ctx context.Context, cfg Config) (again bool, err error) {
	id, err := cfg.Dir.Identity()
	if err != nil && !errors.Is(err, state.ErrNotEnrolled) {
		return false, err
	}
	a := &agent{cfg: cfg, id: id, started: time.Now().UTC(), health: &health.Set{}}
	if !a.managed() {
		cfg.Log.InfoContext(ctx, "this machine is not enrolled: what it says itself is enforced")
	}
	for code, missing := range cfg.Platform.Missing {
		a.health.Raise(code, "%v", missing)
	}
	system, hasSystem := journal.NewSystem(journal.SystemConfig{Log: cfg.Log})
	jc := journal.Config{
		LogDir: cfg.Dir.Path(state.DirEvents), Device: string(id.DeviceID), Health: a.health, Log: cfg.Log,
	}
	if a.managed() {
		jc.SpoolDir = cfg.Dir.Path(state.DirSpool)
	}
	if hasSystem {
		jc.System = system.Write
	}
	if a.journal, err = journal.Open(jc); err != nil {
		return false, err
	}

	// What writes events down ends last, so that it gets everything.
	writers, stopWriters := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWriters()
	var g errgroup.Group
	g.Go(func() error { return a.journal.Run(writers) })
	if hasSystem {
		g.Go(func() error { return system.Run(writers) })
	}
	err = a.run(ctx)
	stopWriters()
	err = errors.Join(err, g.Wait(), a.journal.Close(context.WithoutCancel(ctx)))
	if a.erase.Load() {
		// Clear comes last: it removes the lock, which whoever asked for
		// this waits for.
		if !a.keepEvents.Load() {
			err = errors.Join(err, cfg.Dir.RemoveEvents())
		}
		err = errors.Join(err, cfg.Dir.Clear())
	}
	return a.renew.Load() && err == nil, err
}

// managed reports whether there is a server.
func (a *agent) managed() bool { return a.id.DeviceID != "" }

// run brings the judging half up, then the half that talks to others, and
// takes both down again.
func (a *agent) run(ctx context.Context) (err error) {
	ctx, a.end = context.WithCancelCause(ctx)
	defer a.end(nil)

	a.accounts = account.New(account.Config{Log: a.cfg.Log})
	defer a.accounts.Close()
	a.users = a.newUsers(ctx)
	defer a.users.close()
	a.uses = a.openUses(ctx)
	inspector, err := a.assemble()
	if err != nil {
		return err
	}
	a.observer.start(context.WithoutCancel(ctx))
	a.uses.start(context.WithoutCancel(ctx))
	defer func() {
		err = errors.Join(err, a.enforcer.shutdown(context.WithoutCancel(ctx)))
		inspector.Wait()
		a.observer.stop()
		a.uses.stop()
	}()

	have := a.enforceLastGood(ctx)
	if a.managed() {
		a.uplink = a.newUplink(have)
		a.settingsChanged(a.enforcer.settings())
	}
	control, err := a.listen()
	if err != nil {
		return err
	}
	if a.cfg.Ready != nil {
		a.cfg.Ready()
	}

	g, ctx := errgroup.WithContext(ctx)
	if a.managed() {
		g.Go(func() error { return a.uplink.Run(ctx, a.enforcer.mode()) })
	}
	g.Go(func() error { return a.locals.Run(ctx) })
	g.Go(func() error { return a.enforcer.run(ctx) })
	g.Go(func() error { return a.watch(ctx) })
	g.Go(func() error { return a.forgetEnded(ctx, inspector) })
	g.Go(func() error { return a.users.run(ctx) })
	g.Go(func() error { return control.serve(ctx) })
	return g.Wait()
}

// assemble makes the judging half: who inspects, who observes, and who has
// what the server and this machine say put into force. Nothing happens yet.
func (a *agent) assemble() (inspector *netguard.Inspector, err error) {
	a.observer = newObserver(observerConfig{
		Finder: a.cfg.Platform.Finder, Health: a.health, Log: a.cfg.Log, Record: func(ctx context.Context, e event.Event) {
			a.journal.Record(ctx, e)
			a.users.refused(e)
		},
		Why: a.users.why, Settings: func() fleet.Settings { return a.enforcer.settings() }, Names: a.name,
	})
	inspector, err = netguard.NewInspector(netguard.InspectorConfig{
		Now: time.Now, Report: a.observer.report, Owner: a.observer.owner, Panicked: a.observer.panicked,
		Users: a.accounts, Used: a.uses.used(), Replier: a.cfg.Platform.Replier,
	})
	if err != nil {
		return nil, err
	}
	a.enforcer = newEnforcer(enforcerConfig{
		Platform: a.cfg.Platform, Inspector: inspector, Observer: a.observer, Journal: a.journal,
		Settings: a.cfg.Dir.Path(state.FileSettings), Suspended: a.cfg.Dir.Path(state.FileSuspended), Exempt: exempt(a.id.ServerURL),
		Changed: a.settingsChanged, Revoked: a.users.appeals.Revoke, Health: a.health, Log: a.cfg.Log,
	})
	a.locals = local.New(local.Config{
		Dir: a.cfg.Dir, PolicyDir: a.cfg.PolicyDir, Environ: a.cfg.Environ, Protected: protected(a.id.ServerURL),
		Apply: a.enforcer.SetLocal, Journal: a.journal, Health: a.health, Log: a.cfg.Log,
	})
	return inspector, nil
}

// name returns the name of a user, empty if it is not known before ctx ends.
func (a *agent) name(ctx context.Context, uid uint32) string {
	u, _ := a.accounts.Find(ctx, uid)
	return u.Name
}

// newUplink makes what keeps in touch with the server, which begins with the
// bundle that there is.
func (a *agent) newUplink(have state.Bundle) *uplink.Uplink {
	return uplink.New(uplink.Config{
		Dir: a.cfg.Dir, Identity: a.id, Facts: a.cfg.Facts, Have: have,
		Apply: a.enforcer.Apply, Mode: a.enforcer.mode, Suspended: a.enforcer.suspended.Load, Report: a.report,
		Answer: a.answers().Answer, Refused: a.bundleRefused, Requests: a.users.answered,
		Spool: a.journal.Spool(), Usage: a.uses.reports(), Health: a.health, Log: a.cfg.Log,
	})
}

// enforceLastGood puts the bundle on disk into force, with what the machine's
// own channels say, and returns what can be built on. Without a bundle those
// channels alone count; with a damaged one nothing is changed, since nobody
// knows what the server said.
func (a *agent) enforceLastGood(ctx context.Context) state.Bundle {
	// Nothing is known of the server yet: this only notes what is said.
	_ = a.enforcer.SetLocal(ctx, a.locals.Open(ctx))
	b, err := a.cfg.Dir.Bundle(a.id)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.health.Raise(health.BundleDamaged, "%v; the rules in the kernel stay, the server is asked again", err)
		a.bundleRefused(ctx, b.Header, err)
		return b
	}
	if _, err := a.enforcer.Apply(ctx, b); err != nil {
		a.health.Raise(health.ApplyFailed, "bundle %d cannot be put into force: %v", b.Header.Version, err)
		a.cfg.Log.ErrorContext(ctx, "putting the last good bundle into force", "error", err)
		// Without its records it is fetched and tried again.
		return state.Bundle{Header: b.Header}
	}
	return b
}

// settingsChanged has everybody obey the settings who is not part of the
// rules.
func (a *agent) settingsChanged(s fleet.Settings) {
	a.uses.obey(s)
	if a.uplink == nil {
		return
	}
	a.uplink.SetUploadInterval(s.EventUploadInterval.Duration())
	a.uplink.Changed()
}

// report is what the server is told of the settings and of what is wrong.
func (a *agent) report() ([]fleet.SettingReport, []fleet.HealthItem) {
	return a.enforcer.report(), a.health.Report()
}

// bundleRefused records that a bundle was refused.
func (a *agent) bundleRefused(ctx context.Context, h bundle.Header, cause error) {
	a.journal.Record(ctx, event.Event{
		EventID: event.IDBundleRefused, Action: event.ActionBundleRefused, BundleVersion: h.Version, Reason: cause.Error(),
	})
}

// watch has the kernel's rules put back when somebody else changes them. While
// nobody can be found to do so everything else works.
func (a *agent) watch(ctx context.Context) error {
	if a.cfg.Platform.Watch == nil {
		return nil
	}
	for {
		err := a.cfg.Platform.Watch(ctx, func(err error) { a.restored(ctx, err) })
		if err == nil {
			return nil
		}
		a.health.Raise(health.WatchMissing, "%v; rules that another program removes now stay away until the next bundle", err)
		if !sleep(ctx, retryAfter) {
			return nil
		}
		a.health.Clear(health.WatchMissing)
	}
}

// restored notes that another program changed the kernel's rules, and whether
// putting them back worked.
func (a *agent) restored(ctx context.Context, err error) {
	reason := "another program changed or removed the kernel rules; they are back"
	a.health.Clear(health.RulesDisturbed)
	if err != nil {
		reason = fmt.Sprintf("another program changed or removed the kernel rules; putting them back: %v", err)
		a.health.Raise(health.RulesDisturbed, "%s", reason)
	}
	a.journal.Record(ctx, event.Event{EventID: event.IDGuardRestored, Action: event.ActionGuardRestored, Reason: reason})
}

// forgetEnded has the inspector forget connections that have ended. While
// nobody tells which, the inspector's table is bounded all the same.
func (a *agent) forgetEnded(ctx context.Context, inspector *netguard.Inspector) error {
	if a.cfg.Platform.Ends == nil {
		return nil
	}
	for {
		err := a.cfg.Platform.Ends(ctx, inspector.Forget)
		if err == nil {
			return nil
		}
		// What is missing from the start says more, and stays.
		tell := a.cfg.Platform.Missing[health.CuttingMissing] == nil
		if tell {
			a.health.Raise(health.CuttingMissing, "the ends of connections are not noticed: %v", err)
		}
		if !sleep(ctx, retryAfter) {
			return nil
		}
		if tell {
			a.health.Clear(health.CuttingMissing)
		}
	}
}

// protected is what no indicator of a drop-in file may refuse.
func protected(serverURL string) *indicator.Protected {
	u, err := url.Parse(serverURL)
	if err != nil || u.Hostname() == "" {
		return indicator.NewProtected()
	}
	return indicator.NewProtected(indicator.Host{Name: u.Hostname(), Reason: "is where this agent reaches the server"})
}

// exempt returns the server's endpoint if its URL has an address. A name is
// not resolved for this: whoever answers look-ups could exempt what they
// like, and a server refuses indicators for its own name anyway.
func exempt(serverURL string) []netip.AddrPort {
	u, err := url.Parse(serverURL)
	if err != nil {
		return nil
	}
	addr, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return nil
	}
	port := uint64(443)
	if p := u.Port(); p != "" {
		if port, err = strconv.ParseUint(p, 10, 16); err != nil {
			return nil
		}
	}
	return []netip.AddrPort{netip.AddrPortFrom(addr, uint16(port))}
}
