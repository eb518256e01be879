package desktoptest

import (
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// Note is a notification that a service was asked to show.
type Note struct {
	ID uint32
	// UID is the user whose process asked.
	UID         uint32
	Replaces    uint32
	Icon        string
	Title, Body string
	// Actions are names and labels by turns.
	Actions []string
	Hints   map[string]any
}

// Service is a notification service, and a portal that opens addresses, on
// somebody's session bus.
type Service struct {
	tb           testing.TB
	conn         *dbus.Conn
	capabilities []string
	notes        chan Note
	withdrawn    chan uint32
	opened       chan Opened

	mu   sync.Mutex // Guards last.
	last uint32
}

// Opened is an address that a portal was asked to open.
type Opened struct{ URL, Token string }

// NewService starts a notification service on the bus of a user, with
// capabilities such as "actions".
func NewService(tb testing.TB, bus string, uid uint32, capabilities ...string) *Service {
	tb.Helper()
	s := &Service{
		tb: tb, conn: connect(tb, bus, uid), capabilities: capabilities,
		notes: make(chan Note, 16), withdrawn: make(chan uint32, 16), opened: make(chan Opened, 16),
	}
	export(tb, s.conn, (*notifications)(s), "/org/freedesktop/Notifications", "org.freedesktop.Notifications")
	own(tb, s.conn, "org.freedesktop.Notifications")
	return s
}

// WithPortal adds the portal.
func (s *Service) WithPortal() *Service {
	export(s.tb, s.conn, (*portal)(s), "/org/freedesktop/portal/desktop", "org.freedesktop.portal.OpenURI")
	own(s.tb, s.conn, "org.freedesktop.portal.Desktop")
	return s
}

// Next returns the next notification.
func (s *Service) Next() Note { return wait(s.tb, s.notes, "a notification") }

// Silent checks that no notification came.
func (s *Service) Silent() {
	s.tb.Helper()
	if len(s.notes) > 0 {
		s.tb.Errorf("got the notification %+v, want none", <-s.notes)
	}
}

// Withdrawn returns the next notification that was taken away.
func (s *Service) Withdrawn() uint32 { return wait(s.tb, s.withdrawn, "the end of a notification") }

// Opened returns the next address that was opened.
func (s *Service) Opened() Opened { return wait(s.tb, s.opened, "an address to open") }

func wait[T any](tb testing.TB, c <-chan T, what string) (v T) {
	tb.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		tb.Fatalf("%s did not come within %s", what, patience)
	}
	return v
}

// Invoke has the user choose an action, which closes the notification, as on
// most desktops.
func (s *Service) Invoke(id uint32, action string) {
	s.emit("ActivationToken", id, "token of "+action)
	s.emit("ActionInvoked", id, action)
	s.Close(id)
}

// Close has the user close a notification.
func (s *Service) Close(id uint32) { s.emit("NotificationClosed", id, uint32(2)) }

func (s *Service) emit(signal string, body ...any) {
	s.tb.Helper()
	if err := s.conn.Emit("/org/freedesktop/Notifications", "org.freedesktop.Notifications."+signal, body...); err != nil {
		s.tb.Fatal(err)
	}
}

// notifications is org.freedesktop.Notifications.
type notifications Service

// GetCapabilities is the method of that name.
func (n *notifications) GetCapabilities() ([]string, *dbus.Error) { return n.capabilities, nil }

// Notify is the method of that name.
func (n *notifications) Notify(from dbus.Sender, _ string, replaces uint32, icon, title, body string, actions []string, hints map[string]dbus.Variant, _ int32) (uint32, *dbus.Error) {
	note := Note{Replaces: replaces, Icon: icon, Title: title, Body: body, Actions: slices.Clone(actions), Hints: make(map[string]any)}
	for _, name := range slices.Sorted(maps.Keys(hints)) {
		note.Hints[name] = hints[name].Value()
	}
	if err := n.conn.BusObject().Call("org.freedesktop.DBus.GetConnectionUnixUser", 0, string(from)).Store(&note.UID); err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	n.mu.Lock()
	n.last++
	note.ID = n.last
	n.mu.Unlock()
	n.notes <- note
	return note.ID, nil
}

// CloseNotification is the method of that name.
func (n *notifications) CloseNotification(id uint32) *dbus.Error {
	n.withdrawn <- id
	return nil
}

// portal is org.freedesktop.portal.OpenURI.
type portal Service

// OpenURI is the method of that name.
func (p *portal) OpenURI(_, uri string, options map[string]dbus.Variant) (dbus.ObjectPath, *dbus.Error) {
	token, _ := options["activation_token"].Value().(string)
	p.opened <- Opened{uri, token}
	return "/org/freedesktop/portal/desktop/request/1", nil
}
