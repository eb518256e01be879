// Package session decides in which desktop session a user can be told
// something, and what a program has to know to speak there.
//
// Sessions are logind's business (org.freedesktop.login1 on the system bus).
// Of a user's graphical sessions the active one is taken, else any: a message
// waits for somebody who is away. How the session was started, its language
// above all, is in the environment of its leader.
package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"

	"interdict/internal/agent/wording"
)

// ErrNone says that the user has no session in which they could be told
// anything. It is nobody's fault.
var ErrNone = errors.New("the user has no desktop session")

// SystemBus is where the system bus is on every system with logind.
const SystemBus = "unix:path=/run/dbus/system_bus_socket"

// maxEnviron bounds an environment that is read, in bytes.
const maxEnviron = 256 << 10

// Session is a user's desktop session.
type Session struct {
	UID, GID uint32
	// Groups are the user's supplementary groups.
	Groups     []uint32
	Name, Home string
	// RuntimePath is the user's directory for sockets, Bus the address of
	// the session's message bus.
	RuntimePath, Bus string
	// Language is the user's.
	Language wording.Language
	// Display are variables, as NAME=value, that programs of the session
	// need to find its display. They are the user's own words and must
	// reach only programs that run as the user.
	Display []string
}

// Config is what a Finder needs. Every field is required.
type Config struct {
	// SystemBus is the address of the bus that logind is on.
	SystemBus string
	// Proc is the proc file system, Etc the directory of the machine's
	// configuration.
	Proc, Etc fs.FS
}

// Finder finds sessions. It is safe for concurrent use.
type Finder struct{ cfg Config }

// New returns a Finder.
func New(cfg Config) *Finder { return &Finder{cfg} }

// Find finds the session of a user. Without one, or without logind, the error
// wraps ErrNone.
func (f *Finder) Find(ctx context.Context, uid uint32) (Session, error) {
	conn, err := dbus.Connect(f.cfg.SystemBus, dbus.WithContext(ctx))
	if err != nil {
		return Session{}, fmt.Errorf("looking for a session of user %d: %w: %w", uid, ErrNone, err)
	}
	defer func() { _ = conn.Close() }()
	l := logind{conn}
	leader, err := l.leader(ctx, uid)
	if err != nil {
		return Session{}, fmt.Errorf("looking for a session of user %d: %w", uid, err)
	}
	s := Session{UID: uid}
	if err := l.user(ctx, &s); err != nil {
		return Session{}, fmt.Errorf("looking for a session of user %d: %w", uid, err)
	}
	// A leader that may not be read, or has just gone, leaves what is known
	// without it.
	environ := f.environ(leader)
	s.Groups, s.Home = groups(&s), home(uid, environ)
	s.Display = display(environ)
	s.Language = f.language(environ)
	s.Bus = "unix:path=" + path.Join(s.RuntimePath, "bus")
	if _, err := os.Stat(path.Join(s.RuntimePath, "bus")); err != nil {
		if s.Bus = environ["DBUS_SESSION_BUS_ADDRESS"]; s.Bus == "" {
			return Session{}, fmt.Errorf("looking for the session bus of user %d: %w: %w", uid, ErrNone, err)
		}
	}
	return s, nil
}

// groups are the user's supplementary groups as far as this machine's own
// files say.
func groups(s *Session) (all []uint32) {
	id := func(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
	names, err := (&user.User{Uid: id(s.UID), Gid: id(s.GID), Username: s.Name}).GroupIds()
	if err != nil {
		return []uint32{s.GID}
	}
	for _, name := range names {
		if n, err := strconv.ParseUint(name, 10, 32); err == nil {
			all = append(all, uint32(n))
		}
	}
	return all
}

// home is the user's home directory. Users of a directory service are not in
// this machine's own files.
func home(uid uint32, environ map[string]string) string {
	if u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
		return u.HomeDir
	}
	return cmp.Or(environ["HOME"], "/")
}

// environ reads the environment of a process.
func (f *Finder) environ(pid uint32) map[string]string {
	b, err := read(f.cfg.Proc, strconv.FormatUint(uint64(pid), 10)+"/environ")
	if err != nil {
		return nil
	}
	return parseEnviron(string(b), "\x00")
}

func read(fsys fs.FS, name string) ([]byte, error) {
	file, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return io.ReadAll(io.LimitReader(file, maxEnviron))
}

// parseEnviron reads variables, of which the first of a name counts, with or
// without quotation marks around their values.
func parseEnviron(text, separator string) map[string]string {
	all := make(map[string]string)
	for line := range strings.SplitSeq(text, separator) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if _, known := all[name]; ok && !known {
			all[name] = strings.Trim(value, `"'`)
		}
	}
	return all
}

// displayed are the variables of Session.Display.
func displayed() []string {
	return []string{"DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_CURRENT_DESKTOP", "XDG_SESSION_TYPE", "XDG_DATA_DIRS"}
}

func display(environ map[string]string) (all []string) {
	for _, name := range displayed() {
		if value, ok := environ[name]; ok {
			all = append(all, name+"="+value)
		}
	}
	return all
}

// language returns the language of an environment, else that of the machine,
// which Debian keeps in one file and systemd in another.
func (f *Finder) language(environ map[string]string) wording.Language {
	if l, ok := wording.OfLocale(func(name string) string { return environ[name] }); ok {
		return l
	}
	for _, name := range []string{"default/locale", "locale.conf"} {
		b, err := read(f.cfg.Etc, name)
		if err != nil {
			continue
		}
		machine := parseEnviron(string(b), "\n")
		if l, ok := wording.OfLocale(func(name string) string { return machine[name] }); ok {
			return l
		}
	}
	return wording.English
}

// logind asks org.freedesktop.login1.
type logind struct{ conn *dbus.Conn }

const (
	logindName    = "org.freedesktop.login1"
	logindPath    = dbus.ObjectPath("/org/freedesktop/login1")
	logindManager = logindName + ".Manager"
)

// listed is an entry of ListSessions, in the order of its signature (susso).
type listed struct {
	ID   string
	UID  uint32
	Name string
	Seat string
	Path dbus.ObjectPath
}

// leader returns the process that began the user's graphical session.
func (l logind) leader(ctx context.Context, uid uint32) (uint32, error) {
	var all []listed
	if err := l.conn.Object(logindName, logindPath).CallWithContext(ctx, logindManager+".ListSessions", 0).Store(&all); err != nil {
		return 0, fmt.Errorf("%w: asking logind: %w", ErrNone, err)
	}
	leader, found := uint32(0), false
	for _, s := range all {
		if s.UID != uid {
			continue
		}
		p, err := l.properties(ctx, s.Path, logindName+".Session")
		if err != nil || !graphical(p) {
			// It may have ended since it was listed.
			continue
		}
		if active := value[bool](p, "Active"); active || !found {
			leader, found = value[uint32](p, "Leader"), true
			if active {
				break
			}
		}
	}
	if !found {
		return 0, ErrNone
	}
	return leader, nil
}

// graphical reports whether a session is one that a person sees.
func graphical(p map[string]dbus.Variant) bool {
	return value[string](p, "Class") == "user" &&
		slices.Contains([]string{"x11", "wayland", "mir"}, value[string](p, "Type")) &&
		value[string](p, "State") != "closing"
}

// user fills in what logind knows of the session's user.
func (l logind) user(ctx context.Context, s *Session) error {
	var at dbus.ObjectPath
	if err := l.conn.Object(logindName, logindPath).CallWithContext(ctx, logindManager+".GetUser", 0, s.UID).Store(&at); err != nil {
		return fmt.Errorf("%w: asking logind: %w", ErrNone, err)
	}
	p, err := l.properties(ctx, at, logindName+".User")
	if err != nil {
		return fmt.Errorf("%w: asking logind: %w", ErrNone, err)
	}
	s.GID, s.Name, s.RuntimePath = value[uint32](p, "GID"), value[string](p, "Name"), value[string](p, "RuntimePath")
	if value[uint32](p, "UID") != s.UID || !path.IsAbs(s.RuntimePath) || strings.ContainsAny(s.RuntimePath, ",;=%\x00") {
		return fmt.Errorf("%w: logind's answer makes no sense: user %d in %q", ErrNone, value[uint32](p, "UID"), s.RuntimePath)
	}
	return nil
}

func (l logind) properties(ctx context.Context, at dbus.ObjectPath, of string) (p map[string]dbus.Variant, err error) {
	err = l.conn.Object(logindName, at).CallWithContext(ctx, "org.freedesktop.DBus.Properties.GetAll", 0, of).Store(&p)
	return p, err
}

// value returns a property; the zero value where there is none of this type.
func value[T any](p map[string]dbus.Variant, name string) (v T) {
	v, _ = p[name].Value().(T)
	return v
}
