package process

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
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

func TestFindRunningProcess(t *testing.T) {
	path, digest := helper(t)
	tcp4, tcp6, udp4, udp6 := servers(t)
	for _, cfg := range []struct {
		name string
		Config
	}{
		{"with BPF", Config{HashWait: time.Minute}},
		{"without BPF", Config{HashWait: time.Minute, WithoutBPF: true}},
	} {
		r := newResolver(t, cfg.Config)
		for _, s := range [][2]string{{"tcp4", tcp4}, {"tcp6", tcp6}, {"udp4", udp4}, {"udp6", udp6}} {
			t.Run(cfg.name+" over "+s[0], func(t *testing.T) {
				c := start(t, path, s[0], s[1], "stay")
				got, err := r.Find(t.Context(), c.flow)
				if err != nil {
					t.Fatal(err)
				}
				c.checkOwner(t, got, path)
				if got.Process.SHA256 != digest {
					t.Errorf("got SHA-256 %q, want %q", got.Process.SHA256, digest)
				}
				if want, _ := os.Executable(); got.Process.ParentPath != want {
					t.Errorf("got parent %q, want %q", got.Process.ParentPath, want)
				}
			})
		}
	}
}

func TestFindProcessThatIsGone(t *testing.T) {
	path, _ := helper(t)
	tcp4, tcp6, udp4, udp6 := servers(t)
	// Two at once, neither of which may disturb the other.
	for i, r := range []*Resolver{newResolver(t, Config{}), newResolver(t, Config{Forwarded: true})} {
		for _, s := range [][2]string{{"tcp4", tcp4}, {"tcp6", tcp6}, {"udp4", udp4}, {"udp6", udp6}} {
			t.Run(fmt.Sprintf("resolver %d over %s", i, s[0]), func(t *testing.T) {
				c := start(t, path, s[0], s[1], "")
				await(t, r, c)
				got, err := r.Find(t.Context(), c.flow)
				if err != nil {
					t.Fatal(err)
				}
				c.checkOwner(t, got, path)
			})
		}
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

func TestFindCurlThatIsRefusedAtOnce(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skipf("SKIPPED, NOTHING TESTED: %v", err)
	}
	r := newResolver(t, Config{})
	for i := range 20 {
		port := uint16(46000 + i)
		cmd := exec.Command(curl, "-s", "--local-port", fmt.Sprint(port), "http://127.0.0.1:9/")
		if err := cmd.Run(); err == nil {
			t.Fatal("port 9 answers")
		}
		c := child{cmd: cmd}
		await(t, r, c)
		got, err := r.Find(t.Context(), Flow{
			Protocol: 6,
			Local:    netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port),
			Remote:   netip.MustParseAddrPort("127.0.0.1:9"),
		})
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("%s -s --local-port %d http://127.0.0.1:9/", curl, port)
		if got.Process.Path != curl || got.Process.Command != want {
			t.Errorf("got %+v, want %s", got.Process, want)
		}
	}
}

func TestFindUnconnectedUDP(t *testing.T) {
	for _, cfg := range []Config{{}, {WithoutBPF: true}} {
		r := newResolver(t, cfg)
		c, err := net.ListenUDP("udp", nil)
		if err != nil {
			t.Fatal(err)
		}
		remote := netip.MustParseAddrPort("127.0.0.1:9")
		if _, err = c.WriteToUDPAddrPort([]byte("x"), remote); err != nil {
			t.Fatal(err)
		}
		f := Flow{
			Protocol: 17, Remote: remote,
			Local: netip.AddrPortFrom(remote.Addr(), uint16(c.LocalAddr().(*net.UDPAddr).Port)),
		}
		got, err := r.Find(t.Context(), f)
		if err != nil || got.Process.PID != os.Getpid() {
			t.Errorf("%+v: got %+v, %v; want this process", cfg, got, err)
		}
		c.Close()
		if cfg.WithoutBPF {
			continue
		}
		closed, err := r.find(t.Context(), f)
		if err != nil || closed.owner.Process.PID != os.Getpid() {
			t.Errorf("closed: got %+v, %v; want this process", closed, err)
		}
	}
}

// A container's connections are found by whoever forwards them, and by nobody
// who did not ask for them.
func TestFindInAnotherNamespace(t *testing.T) {
	path, _ := helper(t)
	own, machine := newResolver(t, Config{}), newResolver(t, Config{Forwarded: true})
	// Nobody listens: the program over TCP is refused and gone.
	for network, local := range map[string]string{"tcp4": " 192.0.2.77:47123", "udp4": ""} {
		t.Run(network, func(t *testing.T) {
			// Both ends are in the namespace; only the tuple is seen here.
			cmd := exec.Command("sh", "-c", `ip link set lo up && ip addr add 192.0.2.77/32 dev lo && exec "$0" with words`, path)
			cmd.Env = append(os.Environ(), helperEnv+"="+network+" 192.0.2.77:9 stay"+local, noRaceDelay)
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET}
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err = cmd.Start(); err != nil {
				unusable(t, err)
			}
			defer cmd.Wait()
			defer in.Close()
			if local == "" {
				if local, err = bufio.NewReader(out).ReadString('\n'); err != nil {
					t.Fatal(err)
				}
			}
			f := Flow{Protocol: protocol(network), Local: netip.MustParseAddrPort(strings.TrimSpace(local)), Remote: netip.MustParseAddrPort("192.0.2.77:9")}
			await(t, machine, child{cmd: cmd})
			got, err := machine.Find(t.Context(), f)
			if err != nil || got.Process.PID != cmd.Process.Pid || got.Process.Path != path {
				t.Errorf("got %+v, %v; want process %d", got, err, cmd.Process.Pid)
			}
			if got, err := own.Find(t.Context(), f); !errors.Is(err, ErrNotFound) {
				t.Errorf("a resolver of its own namespace got %+v, %v", got, err)
			}
		})
	}
}

func TestFindNobody(t *testing.T) {
	r := newResolver(t, Config{})
	f := Flow{Protocol: 6, Local: netip.MustParseAddrPort("192.0.2.1:1"), Remote: netip.MustParseAddrPort("192.0.2.2:2")}
	if got, err := r.Find(t.Context(), f); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %+v, %v; want ErrNotFound", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f.Local = netip.MustParseAddrPort("192.0.2.1:3")
	if _, err := r.Find(ctx, f); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	if _, ok := r.flows.get(f); ok {
		t.Error("an answer that was not waited for is kept")
	}
}

func TestStatus(t *testing.T) {
	r := newResolver(t, Config{WithoutBPF: true})
	got := map[string]error{}
	for _, m := range r.Status() {
		got[m.Name] = m.Err
	}
	if got["bpf"] == nil || got["bpf_types"] == nil || got["sockdiag"] != nil || got["procfs"] != nil || len(got) != 4 {
		t.Errorf("got %v, want BPF off and the rest on", got)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	fds := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	// The first use of a network poller and of kernel types stays open.
	r, err := New(Config{})
	if err != nil {
		unusable(t, err)
	}
	if err = r.Close(); err != nil {
		t.Fatal(err)
	}
	descriptors, goroutines := fds(), runtime.NumGoroutine()
	for range 3 {
		r, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		if err = r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n := fds(); n != descriptors {
		t.Errorf("%d descriptors are open, %d were before", n, descriptors)
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines run, %d did before", n, goroutines)
	}
}

func BenchmarkFind(b *testing.B) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	for _, bb := range []struct {
		name string
		Config
	}{{"BPF", Config{}}, {"scan", Config{WithoutBPF: true}}} {
		r := newResolver(b, bb.Config)
		c, err := net.Dial("tcp4", ln.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		f := Flow{Protocol: 6, Local: c.LocalAddr().(*net.TCPAddr).AddrPort(), Remote: c.RemoteAddr().(*net.TCPAddr).AddrPort()}
		b.Run(bb.name+"/warm", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Find(b.Context(), f); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(bb.name+"/cold", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.find(b.Context(), f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
