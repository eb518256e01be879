package process

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// helperEnv makes the test binary a program that dials a network and an
// address, writes its local address and ends, at once or, with a third word,
// when its standard input does. A fourth word is the local address for TCP.
const helperEnv = "INTERDICT_TEST_DIAL"

// noRaceDelay keeps the race detector from staying a second after the end.
const noRaceDelay = "GORACE=atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	if dial := os.Getenv(helperEnv); dial != "" {
		os.Exit(dialAndExit(strings.Fields(dial)))
	}
	os.Exit(m.Run())
}

func dialAndExit(words []string) int {
	dialer := net.Dialer{}
	if len(words) > 3 {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort(words[3]))
	}
	c, err := dialer.Dial(words[0], words[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if _, err = c.Write([]byte("x")); err != nil {
		return 1
	}
	fmt.Fprintln(os.Stdout, c.LocalAddr())
	if len(words) > 2 {
		io.Copy(io.Discard, os.Stdin)
	}
	c.Close()
	return 0
}

func newResolver(tb testing.TB, cfg Config) *Resolver {
	tb.Helper()
	r, err := New(cfg)
	if err != nil {
		unusable(tb, err)
	}
	tb.Cleanup(func() {
		if err := r.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	if !cfg.WithoutBPF && r.trackerErr != nil {
		unusable(tb, r.trackerErr)
	}
	return r
}

// unusable ends a test that needs what the kernel refuses.
func unusable(tb testing.TB, err error) {
	tb.Helper()
	if os.Getenv("CI") != "" {
		tb.Fatalf("attribution must work in CI: %v", err)
	}
	tb.Skipf("SKIPPED, NOTHING TESTED: attribution does not work here: %v", err)
}

// helper copies the test binary to where every user can start it.
func helper(tb testing.TB) (path, digest string) {
	tb.Helper()
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	// It and the directory above are for the user of the test only.
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err = os.Chmod(d, 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	path = filepath.Join(dir, "helper")
	if err = os.WriteFile(path, b, 0o755); err != nil {
		tb.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return path, hex.EncodeToString(sum[:])
}

// servers answer on all of loopback, for the time of a test.
func servers(tb testing.TB) (tcp4, tcp6, udp4, udp6 string) {
	tb.Helper()
	var addrs []string
	for _, s := range [][2]string{{"tcp4", "127.0.0.1:0"}, {"tcp6", "[::1]:0"}} {
		ln, err := net.Listen(s[0], s[1])
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { ln.Close() })
		addrs = append(addrs, ln.Addr().String())
	}
	for _, s := range [][2]string{{"udp4", "127.0.0.1:0"}, {"udp6", "[::1]:0"}} {
		c, err := net.ListenPacket(s[0], s[1])
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { c.Close() })
		addrs = append(addrs, c.LocalAddr().String())
	}
	return addrs[0], addrs[1], addrs[2], addrs[3]
}

func protocol(network string) uint8 {
	if strings.HasPrefix(network, "tcp") {
		return 6
	}
	return 17
}

// child is a running helper.
type child struct {
	cmd  *exec.Cmd
	flow Flow
	stop func()
}

// start runs the helper as user 12345; it stays until stop, or ends at once.
func start(tb testing.TB, path, network, addr, stay string) child {
	tb.Helper()
	cmd := exec.Command(path, "with", "words")
	cmd.Env = []string{helperEnv + "=" + network + " " + addr + " " + stay, noRaceDelay}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		tb.Fatal(err)
	}
	c := child{cmd: cmd, flow: Flow{
		Protocol: protocol(network),
		Local:    netip.MustParseAddrPort(strings.TrimSpace(line)),
		Remote:   netip.MustParseAddrPort(addr),
	}}
	stopped := false
	c.stop = func() {
		if stopped {
			return
		}
		stopped = true
		in.Close()
		if err := cmd.Wait(); err != nil {
			tb.Errorf("the helper: %v", err)
		}
	}
	if stay == "" {
		c.stop()
	}
	tb.Cleanup(c.stop)
	return c
}

// checkOwner checks all that the helper should be known by.
func (c child) checkOwner(t *testing.T, got Owner, path string) {
	t.Helper()
	if got.Process.PID != c.cmd.Process.Pid || got.Process.Path != path || got.Process.Command != path+" with words" {
		t.Errorf("got process %+v, want %d, %s with words", got.Process, c.cmd.Process.Pid, path)
	}
	if got.User.UID == nil || *got.User.UID != 12345 {
		t.Errorf("got user %+v, want 12345", got.User)
	}
}

// await waits until a process's announcement has arrived: it is sent at once,
// but read by another goroutine.
func await(t *testing.T, r *Resolver, c child) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		r.images.known.mu.Lock()
		for k := range r.images.known.entries {
			if k.pid == c.cmd.Process.Pid {
				r.images.known.mu.Unlock()
				return
			}
		}
		r.images.known.mu.Unlock()
		runtime.Gosched()
	}
	t.Fatalf("process %d was never announced", c.cmd.Process.Pid)
}
