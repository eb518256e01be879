package desktop

import (
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"

	"interdict/internal/lab"
)

// The names of org.freedesktop.login1(5).
const (
	logindName     = "org.freedesktop.login1"
	logindPath     = dbus.ObjectPath("/org/freedesktop/login1")
	sessionPath    = logindPath + "/session/_31"
	propertiesName = "org.freedesktop.DBus.Properties"
)

// logind knows one session. Its exported methods are those that others call
// over the bus.
type logind struct{ user lab.User }

// serveLogind offers a logind that knows one graphical session of a user,
// begun by a process.
func serveLogind(socket string, user lab.User, leader uint32) (*dbus.Conn, error) {
	conn, err := dbus.Connect("unix:path=" + socket)
	if err != nil {
		return nil, fmt.Errorf("connecting to the system bus: %w", err)
	}
	l := &logind{user}
	session := properties{"Type": "wayland", "Class": "user", "State": "active", "Active": true, "Leader": leader}
	account := properties{"UID": user.UID, "GID": user.UID, "Name": user.Name, "RuntimePath": user.RuntimeDir()}
	err = offer(conn, logindName,
		object{l, logindPath, logindName + ".Manager"},
		object{session, sessionPath, propertiesName},
		object{account, l.userPath(), propertiesName})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func (l *logind) userPath() dbus.ObjectPath {
	return logindPath + dbus.ObjectPath(fmt.Sprintf("/user/_%d", l.user.UID))
}

// listed is what ListSessions has of a session, with the signature (susso).
type listed struct {
	ID   string
	UID  uint32
	User string
	Seat string
	Path dbus.ObjectPath
}

// ListSessions is the method of that name.
func (l *logind) ListSessions() ([]listed, *dbus.Error) {
	return []listed{{"1", l.user.UID, l.user.Name, "seat0", sessionPath}}, nil
}

// GetUser is the method of that name.
func (l *logind) GetUser(uid uint32) (dbus.ObjectPath, *dbus.Error) {
	if uid != l.user.UID {
		return "", dbus.NewError(logindName+".NoSuchUser", nil)
	}
	return l.userPath(), nil
}

// properties are those of one object.
type properties map[string]any

// GetAll is the method of that name.
func (p properties) GetAll(string) (map[string]dbus.Variant, *dbus.Error) {
	all := make(map[string]dbus.Variant, len(p))
	for name, value := range p {
		all[name] = dbus.MakeVariant(value)
	}
	return all, nil
}
