// Package netnstest gives tests network namespaces of their own: one that
// the whole test process lives in, as the agent lives in the host's, and
// others that stand for machines on the network.
package netnstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// childVariable names the test a process was started for.
const childVariable = "INTERDICT_NETNS_TEST"

// Isolated tells whether the test may go on: it is true in a process that has
// a network namespace of its own, with loopback up. Otherwise Isolated starts
// such a process for this one test, takes over its outcome and returns false.
// Where namespaces are not permitted the test is skipped, or, if CI is set,
// fails. Subtests must be called from an isolated test, not isolate.
func Isolated(tb testing.TB) bool {
	tb.Helper()
	if os.Getenv(childVariable) == tb.Name() {
		Run(tb, "ip", "link", "set", "lo", "up")
		return true
	}
	if err := probe(); err != nil {
		reason := fmt.Sprintf("NOT TESTED: no network namespace can be made here: %v", err)
		if os.Getenv("CI") != "" {
			tb.Fatal(reason)
		}
		tb.Skip(reason)
	}
	arguments := []string{"-test.run=^" + tb.Name() + "$", "-test.v", "-test.timeout=1m"}
	if _, ok := tb.(*testing.B); ok {
		arguments = []string{"-test.run=^$", "-test.bench=^" + tb.Name() + "$", "-test.benchmem"}
	}
	for _, a := range os.Args[1:] {
		// The test's own flags, such as -update.
		if !strings.HasPrefix(a, "-test.") {
			arguments = append(arguments, a)
		}
	}
	child := exec.CommandContext(tb.Context(), os.Args[0], arguments...) //nolint:gosec // It is this program.
	child.Env = append(os.Environ(), childVariable+"="+tb.Name())
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := child.CombinedOutput()
	if _, ok := tb.(*testing.B); ok {
		_, _ = os.Stdout.Write(out)
	} else {
		tb.Logf("in its own namespace:\n%s", out)
	}
	if err != nil {
		tb.Errorf("in its own namespace: %v", err)
	}
	return false
}

func probe() error {
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("looking for a tool: %w", err)
		}
	}
	try := exec.Command("ip", "link") //nolint:noctx // It ends by itself.
	try.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if err := try.Run(); err != nil {
		return fmt.Errorf("making a network namespace: %w", err)
	}
	return nil
}

// Run runs a command and returns what it printed.
func Run(tb testing.TB, name string, arguments ...string) string {
	tb.Helper()
	out, err := exec.CommandContext(tb.Context(), name, arguments...).CombinedOutput()
	if err != nil {
		tb.Fatalf("running %s %s: %v\n%s", name, strings.Join(arguments, " "), err, out)
	}
	return string(out)
}

// Peer is another machine: a namespace that exists as long as the test.
type Peer struct {
	tb   testing.TB
	file *os.File
}

// NewPeer makes a machine with only loopback, up.
func NewPeer(tb testing.TB) *Peer {
	tb.Helper()
	p := &Peer{tb: tb}
	type result struct {
		file *os.File
		err  error
	}
	made := make(chan result)
	go func() {
		// The thread is not unlocked and so ends with the goroutine.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- result{err: err}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		made <- result{file: f, err: err}
	}()
	r := <-made
	if r.err != nil {
		tb.Fatalf("making a peer's namespace: %v", r.err)
	}
	p.file = r.file
	tb.Cleanup(func() { _ = p.file.Close() })
	p.Run("ip", "link", "set", "lo", "up")
	return p
}

// Link joins the test's namespace and the peer's by a veth pair with these
// names and addresses in CIDR form. Addresses are usable at once.
func (p *Peer) Link(here string, hereAddresses []string, there string, thereAddresses []string) {
	p.tb.Helper()
	ns := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), p.file.Fd())
	// Without this IPv6 is silent for a second or two after a link comes up.
	noWait := []string{"-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.default.dad_transmits=0"}
	Run(p.tb, "sysctl", noWait...)
	p.Run("sysctl", noWait...)
	Run(p.tb, "ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", ns)
	for _, a := range hereAddresses {
		Run(p.tb, "ip", "addr", "add", a, "dev", here, "nodad")
	}
	Run(p.tb, "ip", "link", "set", here, "up")
	for _, a := range thereAddresses {
		p.Run("ip", "addr", "add", a, "dev", there, "nodad")
	}
	p.Run("ip", "link", "set", there, "up")
}

// Run runs a command on the peer.
func (p *Peer) Run(name string, arguments ...string) string {
	p.tb.Helper()
	var out []byte
	p.Do(func() error {
		var err error
		out, err = exec.CommandContext(p.tb.Context(), name, arguments...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("running %s %s: %w\n%s", name, strings.Join(arguments, " "), err, out)
		}
		return nil
	})
	return string(out)
}

// Do calls f on a thread that is in the peer's namespace. Sockets made there
// stay there; f must not start goroutines that make more.
func (p *Peer) Do(f func() error) {
	p.tb.Helper()
	done := make(chan error)
	go func() {
		// As above, the thread is thrown away.
		runtime.LockOSThread()
		if err := unix.Setns(int(p.file.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- errors.Join(errors.New("entering the peer's namespace"), err)
			return
		}
		done <- f()
	}()
	if err := <-done; err != nil {
		p.tb.Fatal(err)
	}
}

// RunBackground is Run for clean-up functions, in which the test's context
// has ended.
func RunBackground(tb testing.TB, name string, arguments ...string) {
	tb.Helper()
	//nolint:noctx // See above.
	if out, err := exec.Command(name, arguments...).CombinedOutput(); err != nil {
		tb.Errorf("running %s %s: %v\n%s", name, strings.Join(arguments, " "), err, out)
	}
}
