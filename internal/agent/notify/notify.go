// Package notify decides who is told on their desktop that a connection was
// refused, how often, in which words, and what comes of the buttons.
//
// The message goes to the session of the user whose program it was: package
// session finds it, package desktop speaks there. Without a session there is
// nobody to tell, which is not an error; the why page says the same. One
// program that is refused one app makes one notification for its user in a
// while, however often it tries again.
//
// What a button does is decided elsewhere. A button counts for the user it was
// shown to, once, and only while the notification is open.
package notify

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"interdict/internal/access"
	"interdict/internal/agent/appeal"
	"interdict/internal/agent/notify/desktop"
	"interdict/internal/agent/notify/session"
	"interdict/internal/agent/wording"
	"interdict/internal/bypass"
	"interdict/internal/fleet"
)

const (
	// quiet is how long a program's attempts at an app stay silent for a
	// user after a message, and again how long after one that did not reach
	// them.
	quiet = 10 * time.Minute
	again = 30 * time.Second
	// maxTold bounds what is remembered of one user, and maxUsers the users;
	// when it is full they may be told again.
	maxTold  = 64
	maxUsers = 256
	// waiting bounds messages on their way to anybody, and waitingUser those
	// to one user; sendTimeout is what each may take until it is handed over.
	waiting     = 64
	waitingUser = 8
	sendTimeout = 5 * time.Second
	// openFor is how long the buttons of a notification work, maxOpen how
	// many notifications of one user have buttons that do, and maxWorkers
	// how many users.
	openFor    = 30 * time.Minute
	maxOpen    = 8
	maxWorkers = 16
)

// Helper is a helper in somebody's session, as desktop.Start starts one.
type Helper interface {
	Show(m desktop.Message) error
	Open(p desktop.Page) error
	Withdraw(key string) error
	Close()
	Ended() <-chan struct{}
}

// Config is what a Notifier needs. Every field is required.
type Config struct {
	// Settings returns those in force.
	Settings func() fleet.Settings
	// Session finds a user's session, as session.Finder does.
	Session func(ctx context.Context, uid uint32) (session.Session, error)
	// Start starts a helper, as desktop.Start does.
	Start func(ctx context.Context, s session.Session, heard func(desktop.Report)) (Helper, error)
	// Continue and Request are what buttons do, as appeal.Appeals does it.
	Continue func(ctx context.Context, id string, uid uint32, reason string) (bypass.Bypass, error)
	Request  func(ctx context.Context, id string, uid uint32, reason string) (access.Request, error)
	// URL returns the why page of a refusal; empty while there is none.
	URL func(id string) string
	// Now is the clock, in whose zone times are told.
	Now func() time.Time
	Log *slog.Logger
}

// Notifier tells users what was refused. It is safe for concurrent use.
//
// Each user has a worker of their own while there is something to tell, so that
// a session that hangs holds nobody else up.
type Notifier struct {
	cfg   Config
	queue chan message
	// idle are workers that have nothing to do.
	idle chan *worker
	// number makes keys.
	number atomic.Uint64

	// mu guards told, in which is until when users are not told again.
	mu   sync.Mutex
	told map[uint32]map[recipient]time.Time
}

// recipient is a program and the refusal that its user was told about.
type recipient struct{ refusal, program string }

// message is what is to be shown to a user.
type message struct {
	uid uint32
	// compose writes it, without a key, when the user's language is known.
	compose func(t *wording.Texts) desktop.Message
	// refusal is what its buttons are about, empty for none.
	refusal string
	// tells is what the user knows when they have seen it; zero for nothing
	// that would be told twice.
	tells recipient
	// replaces is the key of the one whose place it takes, if any.
	replaces string
}

// New returns a Notifier. Run must be called for messages to be shown.
func New(cfg Config) *Notifier {
	return &Notifier{
		cfg: cfg, queue: make(chan message, waiting), idle: make(chan *worker), told: make(map[uint32]map[recipient]time.Time),
	}
}

// Refused tells a user of a refusal, unless they know. It does not block.
func (n *Notifier) Refused(s appeal.Standing) {
	settings := n.cfg.Settings()
	tells := recipient{s.ID, s.Event.Process.Path}
	if settings.Notifications == fleet.Off || !n.due(s.UID, tells) {
		return
	}
	url := n.cfg.URL(s.ID)
	n.enqueue(message{uid: s.UID, refusal: s.ID, tells: tells, compose: func(t *wording.Texts) desktop.Message {
		return refused(t, &s, &settings, url)
	}})
}

// Answered tells a user what administrators decided about a request; refusal
// is the id of what was refused, empty if that is not known any more. It does
// not block.
func (n *Notifier) Answered(_ context.Context, r access.Request, refusal string) {
	settings := n.cfg.Settings()
	if settings.Notifications == fleet.Off {
		return
	}
	url, now := "", n.cfg.Now()
	if refusal != "" {
		url = n.cfg.URL(refusal)
	}
	n.enqueue(message{uid: r.UID, refusal: refusal, compose: func(t *wording.Texts) desktop.Message {
		return answered(t, &r, url, now)
	}})
}

func (n *Notifier) enqueue(m message) {
	select {
	case n.queue <- m:
	default:
		n.missed(m.uid, m.tells)
	}
}

// due reports whether a user is to be told, and notes that they are.
func (n *Notifier) due(uid uint32, r recipient) bool {
	now := n.cfg.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if now.Before(n.told[uid][r]) {
		return false
	}
	n.note(uid, r, now.Add(quiet))
	return true
}

// missed notes that a message did not reach its user, who is told again soon.
func (n *Notifier) missed(uid uint32, r recipient) {
	if r == (recipient{}) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note(uid, r, n.cfg.Now().Add(again))
}

// note notes until when a user is not told again. The caller holds mu.
func (n *Notifier) note(uid uint32, r recipient, until time.Time) {
	if _, ok := n.told[uid]; !ok && len(n.told) >= maxUsers {
		clear(n.told)
	}
	if len(n.told[uid]) >= maxTold || n.told[uid] == nil {
		n.told[uid] = make(map[recipient]time.Time)
	}
	n.told[uid][r] = until
}

// Run shows messages until ctx ends. It returns when all helpers are gone.
func (n *Notifier) Run(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	workers := make(map[uint32]*worker)
	start := func(w *worker) { group.Go(func() { w.run(ctx) }) }
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-n.queue:
			w := workers[m.uid]
			if w == nil && len(workers) < maxWorkers {
				w = newWorker(n, m.uid)
				workers[m.uid] = w
				start(w)
			}
			if !w.take(m) {
				n.cfg.Log.DebugContext(ctx, "notifying: too much is to be told", "uid", m.uid)
				n.missed(m.uid, m.tells)
			}
		case w := <-n.idle:
			if len(w.queue) > 0 {
				start(w)
				continue
			}
			delete(workers, w.uid)
		}
	}
}
