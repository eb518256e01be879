package agent

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"interdict/internal/agent/health"
	"interdict/internal/agent/netguard"
	"interdict/internal/agent/process"
	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

const (
	// observers is how many owners are looked up at the same time, and
	// maxObserved how many observations wait for that.
	observers   = 16
	maxObserved = 1024
	// holdFor is how long a connection waits for its owner to be found: a
	// program that is refused may be gone a millisecond later. It must stay
	// well below the 250 ms after which its packet is answered without us.
	holdFor = 100 * time.Millisecond
	// findFor is how long a look-up may go on for the event's sake.
	findFor = 500 * time.Millisecond
	// nameFor is how long an event waits for a user's name that has to be
	// asked for in a directory. Nothing else waits meanwhile.
	nameFor = 100 * time.Millisecond
)

type observerConfig struct {
	// Finder may be nil: then events name no process.
	Finder process.Finder
	// Names returns the name of a user, empty if it is not known before ctx
	// ends. It may be nil.
	Names  func(ctx context.Context, uid uint32) string
	Health *health.Set
	Record func(ctx context.Context, e event.Event)
	// Why returns the address of the page about the refusal that an event
	// reports, empty where there is none. It must not block. If it is nil no
	// refused request is answered.
	Why func(e event.Event) string
	// Settings returns those in force, which say whom users are told to ask.
	// Required with Why.
	Settings func() fleet.Settings
	Log      *slog.Logger
}

// observer makes events of observations: it finds out whose connection it
// was, off the packets' path.
type observer struct {
	cfg     observerConfig
	queue   chan netguard.Observation
	workers sync.WaitGroup
	// version is of the bundle in force.
	version atomic.Uint64
	dropped atomic.Uint64
	// panics counts what was recovered; the first is logged.
	panics      atomic.Uint64
	panicLogged sync.Once
}

func newObserver(cfg observerConfig) *observer {
	return &observer{cfg: cfg, queue: make(chan netguard.Observation, maxObserved)}
}

// start starts the workers. They end with stop.
func (o *observer) start(ctx context.Context) {
	for range observers {
		o.workers.Go(func() {
			for obs := range o.queue {
				o.observe(ctx, obs)
			}
		})
	}
}

// stop returns when all that was reported is recorded. report must not be
// called any more.
func (o *observer) stop() {
	close(o.queue)
	o.workers.Wait()
}

// report takes an observation. It does not block. Under a flood that the
// workers cannot keep up with observations are dropped and counted;
// connections are judged all the same.
func (o *observer) report(obs netguard.Observation) {
	release, seen := sync.OnceFunc(obs.Done), obs
	hold := time.AfterFunc(holdFor, func() {
		// The user whom the kernel names has to do.
		o.explain(seen, eventOf(seen, process.Owner{}, o.version.Load()))
		release()
	})
	obs.Done = func() {
		hold.Stop()
		release()
	}
	select {
	case o.queue <- obs:
	default:
		obs.Done()
		n := o.dropped.Add(1)
		o.cfg.Health.Raise(health.ObservationsDropped, "%d connections were judged but not written down, because too many came at once", n)
	}
}

func (o *observer) observe(ctx context.Context, obs netguard.Observation) {
	defer o.survive()
	ctx, cancel := context.WithDeadline(ctx, obs.Time.Add(findFor))
	owner := o.find(ctx, obs.Flow)
	cancel()
	e := eventOf(obs, owner, o.version.Load())
	o.explain(obs, e)
	obs.Done()
	ctx = context.WithoutCancel(ctx)
	o.name(ctx, &e.User)
	o.cfg.Record(ctx, e)
}

// name fills in the name of a user of whom there is no more than the id, as of
// those whom only a directory knows.
func (o *observer) name(ctx context.Context, u *event.User) {
	if u.UID == nil || u.Name != "" || o.cfg.Names == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, nameFor)
	defer cancel()
	u.Name = o.cfg.Names(ctx, *u.UID)
}

// explain has a refused request answered with a page, where that is possible.
func (o *observer) explain(obs netguard.Observation, e event.Event) {
	if obs.Explain == nil || o.cfg.Why == nil {
		return
	}
	defer o.survive()
	settings := o.cfg.Settings()
	obs.Explain(netguard.Explanation{
		App: e.AppName, Host: e.Destination.Host, URL: o.cfg.Why(e), Warned: e.Action == event.ActionWarned,
		Contact: settings.SupportContact, Support: settings.SupportURL,
	})
}

// find returns the owner of a flow as far as it is known before ctx ends.
func (o *observer) find(ctx context.Context, f netguard.Flow) (owner process.Owner) {
	if o.cfg.Finder == nil || ctx.Err() != nil {
		return process.Owner{}
	}
	defer o.survive()
	// What is known comes with the error.
	owner, _ = o.cfg.Finder.Find(ctx, process.Flow{Protocol: f.Protocol, Local: f.Source, Remote: f.Dest})
	return owner
}

// survive is deferred where a panic must cost one event's details, not the
// agent.
func (o *observer) survive() {
	if cause := recover(); cause != nil {
		o.panicked(cause)
	}
}

// panicked counts what was recovered from a panic. It is called while the
// panic's stack is still there.
func (o *observer) panicked(cause any) {
	n := o.panics.Add(1)
	o.panicLogged.Do(func() {
		o.cfg.Log.Error("observing a connection panicked; further panics are only counted",
			"panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
	})
	o.cfg.Health.Raise(health.Panicked, "the agent made a mistake of its own %d times and went on; events may lack details, and the log has the first: report it", n)
}

// owner names the process of a flow for whoever judges packets.
func (o *observer) owner(ctx context.Context, f netguard.Flow) (int, bool) {
	pid := o.find(ctx, f).Process.PID
	return pid, pid != 0
}

// eventOf is the event that an observation makes.
func eventOf(obs netguard.Observation, owner process.Owner, version uint64) event.Event {
	d := obs.Decision
	e := event.Event{
		Time: obs.Time, EventID: event.IDBlocked, Action: event.ActionBlocked,
		AppID: d.AppID, AppName: d.AppName, IndicatorID: d.Indicator.ID, Severity: string(d.Indicator.Severity),
		Destination: obs.Destination, Evidence: obs.Evidence, Process: owner.Process, User: owner.User,
		PolicyID: d.PolicyID, BundleVersion: version, Alert: d.Indicator.GenerateAlert, Cut: obs.Cut,
	}
	switch {
	case !d.Refuses():
		e.EventID, e.Action = event.IDAudited, event.ActionAudited
	case d.Action == indicator.ActionWarn:
		e.Action = event.ActionWarned
	}
	if e.User.UID == nil && obs.HasUID {
		uid := obs.UID
		e.User.UID = &uid
	}
	return e
}
