package desktoptest

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"github.com/godbus/dbus/v5"
)

// Session is what logind knows of a session and of its user.
type Session struct {
	ID          string
	UID         uint32
	Name        string
	RuntimePath string
	// Type is "wayland", "x11" or "tty", Class "user" or "greeter".
	Type, Class string
	Active      bool
	Leader      uint32
}

// Logind starts a bus with logind on it and returns the bus's address. In dir
// is the bus's socket.
func Logind(tb testing.TB, dir string, sessions ...Session) string {
	tb.Helper()
	address := Bus(tb, uint32(os.Geteuid()), dir)
	conn := connect(tb, address, uint32(os.Geteuid()))
	const root = dbus.ObjectPath("/org/freedesktop/login1")
	manager := &logind{root: root, sessions: sessions}
	export(tb, conn, manager, root, "org.freedesktop.login1.Manager")
	for i := range sessions {
		s := &sessions[i]
		export(tb, conn, properties{
			"Type": s.Type, "Class": s.Class, "Active": s.Active, "Leader": s.Leader, "State": map[bool]string{true: "active", false: "online"}[s.Active],
		}, manager.session(s), "org.freedesktop.DBus.Properties")
		export(tb, conn, properties{"UID": s.UID, "GID": s.UID, "Name": s.Name, "RuntimePath": s.RuntimePath}, manager.user(s.UID), "org.freedesktop.DBus.Properties")
	}
	own(tb, conn, "org.freedesktop.login1")
	return address
}

// logind is org.freedesktop.login1.Manager.
type logind struct {
	root     dbus.ObjectPath
	sessions []Session
}

func (l *logind) session(s *Session) dbus.ObjectPath {
	return l.root + "/session/" + dbus.ObjectPath(s.ID)
}

func (l *logind) user(uid uint32) dbus.ObjectPath {
	return l.root + dbus.ObjectPath(fmt.Sprintf("/user/_%d", uid))
}

// listed is the structure (susso).
type listed struct {
	ID   string
	UID  uint32
	Name string
	Seat string
	Path dbus.ObjectPath
}

// ListSessions is the method of that name.
func (l *logind) ListSessions() ([]listed, *dbus.Error) {
	all := []listed{}
	for i := range l.sessions {
		s := &l.sessions[i]
		all = append(all, listed{s.ID, s.UID, s.Name, "seat0", l.session(s)})
	}
	return all, nil
}

// GetUser is the method of that name.
func (l *logind) GetUser(uid uint32) (dbus.ObjectPath, *dbus.Error) {
	for i := range l.sessions {
		if l.sessions[i].UID == uid {
			return l.user(uid), nil
		}
	}
	return "", dbus.NewError("org.freedesktop.login1.NoSuchUser", nil)
}

// properties is org.freedesktop.DBus.Properties of one object.
type properties map[string]any

// GetAll is the method of that name.
func (p properties) GetAll(string) (map[string]dbus.Variant, *dbus.Error) {
	all := make(map[string]dbus.Variant)
	for name, v := range p {
		all[name] = dbus.MakeVariant(v)
	}
	return all, nil
}

// connect connects to a bus as a user.
func connect(tb testing.TB, address string, uid uint32) *dbus.Conn {
	tb.Helper()
	conn, err := dialAs(address, uid)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	if err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.FormatUint(uint64(uid), 10))}); err != nil {
		tb.Fatal(err)
	}
	if err = conn.Hello(); err != nil {
		tb.Fatal(err)
	}
	return conn
}

// dialAs dials from a thread that is the user for as long as that takes: a
// bus goes by who connected.
func dialAs(address string, uid uint32) (*dbus.Conn, error) {
	if int(uid) == os.Geteuid() {
		return dbus.Dial(address)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const same = ^uintptr(0)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, same, uintptr(uid), same); errno != 0 {
		return nil, errno
	}
	defer func() {
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, same, 0, same); errno != 0 {
			panic(errno) // The thread is nobody's any more.
		}
	}()
	return dbus.Dial(address)
}

func export(tb testing.TB, conn *dbus.Conn, v any, path dbus.ObjectPath, of string) {
	tb.Helper()
	if err := conn.Export(v, path, of); err != nil {
		tb.Fatal(err)
	}
}

func own(tb testing.TB, conn *dbus.Conn, name string) {
	tb.Helper()
	if reply, err := conn.RequestName(name, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		tb.Fatalf("taking the name %s: %v, %v", name, reply, err)
	}
}
