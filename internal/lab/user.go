package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// ErrNoUsers says that this lab cannot run programs as its users.
var ErrNoUsers = errors.New("the lab cannot run programs as its users: an ordinary user's namespace has only one user, so this needs root")

const (
	// minUID is the least id of a user: those below are the system's.
	minUID = 1000
	// firstGroup is the id of the first group that is no user's own.
	firstGroup = 60_000
)

// User is a person with an account on every host.
type User struct {
	// Name is 1 to 8 letters a-z and digits.
	Name string
	// UID is the user's id, from 1000 to 59999, and that of a group of the
	// user's own, which has the user's name.
	UID uint32
	// Groups are the names of the other groups that the user is in.
	Groups []string
}

// Home is the user's home directory. Hosts share their files.
func (u User) Home() string { return filepath.Join(labDir, "home", u.Name) }

// RuntimeDir is where the user's sockets are, as on systems with logind.
func (u User) RuntimeDir() string { return filepath.Join(runDir, "user", fmt.Sprint(u.UID)) }

// validateUsers returns all that is wrong with users.
func validateUsers(users []User) error {
	var errs []error
	names, ids := make(map[string]bool), make(map[uint32]bool)
	for _, u := range users {
		if !validName(u.Name) {
			errs = append(errs, fmt.Errorf("user name %q must be %s", u.Name, nameRule))
		}
		if u.UID < minUID || u.UID >= firstGroup {
			errs = append(errs, fmt.Errorf("the id %d of user %q must be from %d to %d", u.UID, u.Name, minUID, firstGroup-1))
		}
		if names[u.Name] || ids[u.UID] {
			errs = append(errs, fmt.Errorf("user %q or the id %d is there twice", u.Name, u.UID))
		}
		names[u.Name], ids[u.UID] = true, true
		for _, g := range u.Groups {
			if !validName(g) {
				errs = append(errs, fmt.Errorf("group name %q of user %q must be %s", g, u.Name, nameRule))
			}
		}
	}
	return errors.Join(errs...)
}

// accountFiles are the files passwd and group of every host: root, nobody,
// and the users.
func accountFiles(users []User) map[string]string {
	var passwd, group strings.Builder
	passwd.WriteString("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n")
	group.WriteString("root:x:0:\nnogroup:x:65534:\n")
	members := make(map[string][]string)
	var shared []string // In the order of their ids.
	for _, u := range users {
		fmt.Fprintf(&passwd, "%s:x:%d:%d::%s:/bin/sh\n", u.Name, u.UID, u.UID, u.Home())
		fmt.Fprintf(&group, "%s:x:%d:\n", u.Name, u.UID)
		for _, g := range u.Groups {
			if members[g] == nil {
				shared = append(shared, g)
			}
			members[g] = append(members[g], u.Name)
		}
	}
	for i, g := range shared {
		fmt.Fprintf(&group, "%s:x:%d:%s\n", g, firstGroup+i, strings.Join(members[g], ","))
	}
	return map[string]string{"/etc/passwd": passwd.String(), "/etc/group": group.String()}
}

// addUsers gives the users their accounts, and where the lab can run programs
// as them, their directories. A lab without users keeps the machine's.
func (l *Lab) addUsers(users []User) error {
	if len(users) == 0 {
		return nil
	}
	l.users = users
	if err := hideFiles(l.Dir, accountFiles(users)); err != nil {
		return err
	}
	if errors.Is(l.CheckUsers(), ErrNoUsers) {
		return nil
	}
	for _, u := range users {
		for _, dir := range []string{u.Home(), u.RuntimeDir()} {
			if err := makePrivateDir(dir, int(u.UID)); err != nil {
				return fmt.Errorf("making a directory of user %q: %w", u.Name, err)
			}
		}
	}
	return nil
}

// makePrivateDir makes a directory, with its parents, that only a user can
// read.
func makePrivateDir(dir string, uid int) error {
	if err := makePublicDir(filepath.Dir(dir)); err != nil {
		return err
	}
	return errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, uid, uid))
}

// CheckUsers returns nil if programs can run as the lab's users, else
// ErrNoUsers.
func (l *Lab) CheckUsers() error {
	if CurrentPrivilege() != PrivilegeRoot {
		return ErrNoUsers
	}
	return nil
}

// User returns the user with a name. It panics if there is none: the names are
// the caller's own.
func (l *Lab) User(name string) User {
	i := slices.IndexFunc(l.users, func(u User) bool { return u.Name == name })
	if i < 0 {
		panic(fmt.Sprintf("the lab has no user %q", name))
	}
	return l.users[i]
}

// CommandAs prepares a program to run on a host with the rights, groups and
// environment of a user and nobody else's, in the home directory. It ends as
// one of Command does. Where CheckUsers says that there are no users it does
// not start, with the same error.
func (l *Lab) CommandAs(ctx context.Context, host, user, program string, args ...string) *exec.Cmd {
	u := l.User(user)
	cmd := inNamespace(ctx, l.Host(host).Namespace, "setpriv", append(asUser(u), append([]string{program}, args...)...))
	cmd.Err = errors.Join(cmd.Err, l.CheckUsers())
	cmd.Dir = u.Home()
	cmd.Env = []string{
		"HOME=" + u.Home(), "USER=" + u.Name, "LOGNAME=" + u.Name, "SHELL=/bin/sh",
		"PATH=" + searchPath(), "XDG_RUNTIME_DIR=" + u.RuntimeDir(), "LANG=C.UTF-8",
	}
	return cmd
}

// asUser are the arguments with which setpriv becomes a user. Whoever changes
// user loses the signal that comes when the parent dies: it is asked for anew.
func asUser(u User) []string {
	id := fmt.Sprint(u.UID)
	return []string{"--reuid=" + id, "--regid=" + id, "--init-groups", "--pdeathsig=KILL", "--"}
}
