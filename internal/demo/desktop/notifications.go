package desktop

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/godbus/dbus/v5"
)

// The names of the Desktop Notifications Specification, version 1.3.
const (
	notificationsName = "org.freedesktop.Notifications"
	notificationsPath = dbus.ObjectPath("/org/freedesktop/Notifications")
)

// maxNotes is how many notifications wait for Next. Further ones are refused.
const maxNotes = 64

// Note is a notification.
type Note struct {
	ID uint32
	// Title and Body are the specification's summary and body.
	Title, Body string
	Buttons     []Button
}

// Button is an action of a notification.
type Button struct{ Action, Label string }

// notifications is the service. Its exported methods are those that others call
// over the bus.
type notifications struct {
	conn  *dbus.Conn
	notes chan Note
	last  atomic.Uint32
}

func serveNotifications(socket string) (*notifications, error) {
	conn, err := dbus.Connect("unix:path=" + socket)
	if err != nil {
		return nil, fmt.Errorf("connecting to the session bus: %w", err)
	}
	s := &notifications{conn: conn, notes: make(chan Note, maxNotes)}
	if err := offer(conn, notificationsName, object{s, notificationsPath, notificationsName}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return s, nil
}

// GetCapabilities is the method of that name, section 9.
func (*notifications) GetCapabilities() ([]string, *dbus.Error) {
	return []string{"actions", "body"}, nil
}

// Notify is the method of that name, section 9: a notification takes the place
// of the one that replaces is the id of, unless that is 0.
func (s *notifications) Notify(_ string, replaces uint32, _, title, body string, actions []string, _ map[string]dbus.Variant, _ int32) (uint32, *dbus.Error) {
	note := Note{ID: replaces, Title: title, Body: body}
	if replaces == 0 {
		note.ID = s.last.Add(1)
	}
	for i := 0; i+1 < len(actions); i += 2 {
		note.Buttons = append(note.Buttons, Button{actions[i], actions[i+1]})
	}
	select {
	case s.notes <- note:
		return note.ID, nil
	default:
		return 0, dbus.MakeFailedError(errors.New("nobody looks at the notifications"))
	}
}

// CloseNotification is the method of that name, section 9.
func (s *notifications) CloseNotification(id uint32) *dbus.Error {
	const byCall = uint32(3)
	if err := s.conn.Emit(notificationsPath, notificationsName+".NotificationClosed", id, byCall); err != nil {
		return dbus.MakeFailedError(err)
	}
	return nil
}

// choose presses a button.
func (s *notifications) choose(id uint32, action string) error {
	const byUser = uint32(2)
	err := errors.Join(
		s.conn.Emit(notificationsPath, notificationsName+".ActionInvoked", id, action),
		s.conn.Emit(notificationsPath, notificationsName+".NotificationClosed", id, byUser),
	)
	if err != nil {
		return fmt.Errorf("choosing %q of a notification: %w", action, err)
	}
	return nil
}

// object is what is offered at a path under the name of an interface.
type object struct {
	value any
	path  dbus.ObjectPath
	of    string
}

// offer puts objects on a bus under a name.
func offer(conn *dbus.Conn, name string, objects ...object) error {
	for _, o := range objects {
		if err := conn.Export(o.value, o.path, o.of); err != nil {
			return fmt.Errorf("offering %s: %w", o.of, err)
		}
	}
	reply, err := conn.RequestName(name, dbus.NameFlagDoNotQueue)
	if err != nil {
		return fmt.Errorf("taking the name %s: %w", name, err)
	}
	if reply != dbus.RequestNameReplyPrimaryOwner {
		return fmt.Errorf("taking the name %s: somebody else has it", name)
	}
	return nil
}
