// Package desktoptest decides what tests take for a machine with desktops:
// real message buses and real users, and on them the few methods of logind
// and of a notification service that the agent needs.
package desktoptest

import (
	"bufio"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// NeedRoot skips a test that has to become another user and cannot.
func NeedRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		skip(tb, "NOT TESTED: becoming another user needs root")
	}
}

// skip skips a test, unless nothing may be skipped.
func skip(tb testing.TB, reason string) {
	tb.Helper()
	if os.Getenv("CI") != "" {
		tb.Fatal(reason)
	}
	tb.Skip(reason)
}

// User returns a user of this machine other than root, by a name that every
// distribution has: a bus wants to know the name of its owner.
func User(tb testing.TB) uint32 {
	tb.Helper()
	const name = "daemon"
	u, err := user.Lookup(name)
	if err != nil {
		skip(tb, "NOT TESTED: there is no user "+name)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		tb.Fatal(err)
	}
	return uint32(uid)
}

// Dir returns a directory that belongs to a user, as /run/user/UID does. It is
// removed with the test.
func Dir(tb testing.TB, uid uint32) string {
	tb.Helper()
	parent, err := os.MkdirTemp("", "idt-run-") //nolint:usetesting // tb.TempDir lets no other user through
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(parent) })
	if err := os.Chmod(parent, 0o711); err != nil { //nolint:gosec // see above
		tb.Fatal(err)
	}
	dir := filepath.Join(parent, strconv.FormatUint(uint64(uid), 10))
	if err := os.Mkdir(dir, 0o700); err != nil {
		tb.Fatal(err)
	}
	if err := os.Chown(dir, int(uid), int(uid)); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// Bus starts a real message bus as a user with a name, with its socket in dir/bus, and
// returns its address.
func Bus(tb testing.TB, uid uint32, dir string) string {
	tb.Helper()
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		skip(tb, "NOT TESTED: dbus-daemon is not installed, so no bus can be started")
	}
	address := "unix:path=" + filepath.Join(dir, "bus")
	cmd := exec.CommandContext(tb.Context(), daemon, "--session", "--nofork", "--nopidfile", "--print-address", "--address="+address)
	cmd.Dir = "/"
	if int(uid) != os.Geteuid() {
		NeedRoot(tb)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	// The address is printed when the bus is there.
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		tb.Fatalf("the bus of user %d does not start: %v", uid, err)
	}
	return address
}
