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
	"errors"
	"log/slog"
	"sync"
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
	// user after a message.
	quiet = 10 * time.Minute
	// maxTold bounds what is remembered; when it is full everybody may be
	// told again.
	maxTold = 1024
	// waiting bounds messages on their way, sendTimeout what each may take
	// until it is handed over.
	waiting     = 16
	sendTimeout = 5 * time.Second
	// openFor is how long the buttons of a notification work, maxOpen how
	// many notifications of one user have buttons that do, and maxHelpers
	// how many users.
	openFor    = 30 * time.Minute
	maxOpen    = 8
	maxHelpers = 16
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
type Notifier struct {
	cfg   Config
	queue chan message
	heard chan report

	// mu guards told.
	mu   sync.Mutex
	told map[recipient]time.Time

	// desks are the sessions in which something is open, started those whose
	// helper has not ended. They belong to Run, as does what follows.
	desks   map[uint32]*desk
	started map[*desk]bool
	// number makes keys.
	number uint64
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
	// replaces is the key of the one whose place it takes, if any.
	replaces string
}

// report is what a helper said.
type report struct {
	desk *desk
	desktop.Report
}

// New returns a Notifier. Run must be called for messages to be shown.
func New(cfg Config) *Notifier {
	return &Notifier{
		cfg: cfg, queue: make(chan message, waiting), heard: make(chan report),
		told: make(map[recipient]time.Time), desks: make(map[uint32]*desk), started: make(map[*desk]bool),
	}
}

// Refused tells a user of a refusal, unless they know. It does not block.
func (n *Notifier) Refused(s appeal.Standing) {
	settings := n.cfg.Settings()
	if settings.Notifications == fleet.Off || !n.due(recipient{s.ID, s.Event.Process.Path}) {
		return
	}
	url := n.cfg.URL(s.ID)
	n.enqueue(message{uid: s.UID, refusal: s.ID, compose: func(t *wording.Texts) desktop.Message {
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
	}
}

func (n *Notifier) due(r recipient) bool {
	now := n.cfg.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if last, ok := n.told[r]; ok && now.Sub(last) < quiet {
		return false
	}
	if len(n.told) >= maxTold {
		clear(n.told)
	}
	n.told[r] = now
	return true
}

// Run shows messages until ctx ends. It returns when all helpers are gone.
func (n *Notifier) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			for d := range n.started {
				d.helper.Close()
				<-d.helper.Ended()
			}
			return nil
		case m := <-n.queue:
			if err := n.show(ctx, m); err != nil {
				n.cfg.Log.DebugContext(ctx, "notifying", "error", err, "uid", m.uid)
			}
		case r := <-n.heard:
			n.hear(ctx, r)
		case <-tick.C:
			n.closeOld()
		}
	}
}

// show hands a message to the helper in its user's session.
func (n *Notifier) show(ctx context.Context, m message) error {
	d := n.desks[m.uid]
	if d == nil {
		if len(n.desks) >= maxHelpers {
			return errors.New("too many users are being told something")
		}
		var err error
		if d, err = n.open(ctx, m.uid); err != nil {
			return err
		}
		n.desks[m.uid], n.started[d] = d, true
	}
	return n.put(d, m)
}
