// Package notify decides who is told on their desktop that a connection was
// refused, and how often.
//
// The message goes to the session bus of the user whose program it was, as
// org.freedesktop.Notifications defines it (version 1.2, 2011). Without a
// session there is nobody to tell, which is not an error. One app makes one
// notification for one user in a while, however often its programs try
// again.
package notify

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"interdict/internal/event"
)

const (
	// quiet is how long an app stays silent for a user after a message.
	quiet = 10 * time.Minute
	// maxTold bounds what is remembered; when it is full everybody may be
	// told again.
	maxTold = 1024
	// waiting bounds messages on their way, sendTimeout each of them.
	waiting     = 16
	sendTimeout = 5 * time.Second
)

// Message is one notification.
type Message struct {
	UID           uint32
	Title, Detail string
}

// Config is what a Notifier needs.
type Config struct {
	// Send delivers a message; SessionBus.Send where people are told.
	// Required.
	Send func(ctx context.Context, m Message) error
	// Log is required.
	Log *slog.Logger
}

// Notifier tells users what was refused. It is safe for concurrent use.
type Notifier struct {
	cfg   Config
	queue chan Message

	// mu guards told.
	mu   sync.Mutex
	told map[recipient]time.Time
}

// recipient is a user and the app they were told about.
type recipient struct {
	uid uint32
	app string
}

// New returns a Notifier. Run must be called for messages to be sent.
func New(cfg Config) *Notifier {
	return &Notifier{cfg: cfg, queue: make(chan Message, waiting), told: make(map[recipient]time.Time)}
}

// Refused tells the user behind an event of a refused connection, unless
// they know. Any other event is ignored. It does not block.
func (n *Notifier) Refused(e event.Event) {
	if e.EventID != event.IDBlocked || e.User.UID == nil {
		return
	}
	subject := e.AppName
	if subject == "" {
		subject = e.Destination.Host
	}
	if subject == "" {
		subject = e.Destination.IP.String()
	}
	if !n.due(recipient{*e.User.UID, subject}) {
		return
	}
	select {
	case n.queue <- Message{UID: *e.User.UID, Title: subject + " is blocked", Detail: detail(e, subject)}:
	default:
	}
}

// detail says what happened, why, and whom to ask.
func detail(e event.Event, subject string) string {
	program := "A program"
	if e.Process.Path != "" {
		program = filepath.Base(e.Process.Path)
	}
	where := e.Destination.Host
	if where == "" {
		where = e.Destination.IP.String()
	}
	return fmt.Sprintf("%s tried to connect to %s. Your organisation does not allow %s on this device. Ask your administrator if you need it.",
		program, where, subject)
}

func (n *Notifier) due(r recipient) bool {
	now := time.Now()
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

// Run sends messages until ctx ends.
func (n *Notifier) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-n.queue:
			sendCtx, cancel := context.WithTimeout(ctx, sendTimeout)
			if err := n.cfg.Send(sendCtx, m); err != nil {
				n.cfg.Log.DebugContext(ctx, "notifying", "error", err, "uid", m.UID)
			}
			cancel()
		}
	}
}

// SessionBus delivers messages to the session buses of the users of this
// machine, whose sockets are RuntimeDir/UID/bus.
type SessionBus struct {
	// RuntimeDir is /run/user on every system with logind.
	RuntimeDir string
}

// Send delivers a message. A user without a session is not an error.
func (b SessionBus) Send(ctx context.Context, m Message) error {
	socket := filepath.Join(b.RuntimeDir, strconv.FormatUint(uint64(m.UID), 10), "bus")
	if _, err := os.Stat(socket); err != nil {
		return nil
	}
	conn, err := dbus.Dial("unix:path="+socket, dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("connecting to the session bus of user %d: %w", m.UID, err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		return fmt.Errorf("connecting to the session bus of user %d: %w", m.UID, err)
	}
	if err := conn.Hello(); err != nil {
		return fmt.Errorf("connecting to the session bus of user %d: %w", m.UID, err)
	}
	object := conn.Object("org.freedesktop.Notifications", "/org/freedesktop/Notifications")
	// Arguments: application, id to replace, icon, summary, body, actions,
	// hints, and a time-out of -1, which leaves it to the desktop.
	call := object.CallWithContext(ctx, "org.freedesktop.Notifications.Notify", 0,
		"Interdict", uint32(0), "security-high", m.Title, m.Detail, []string{}, map[string]dbus.Variant{}, int32(-1))
	if call.Err != nil {
		return fmt.Errorf("notifying user %d: %w", m.UID, call.Err)
	}
	return nil
}
