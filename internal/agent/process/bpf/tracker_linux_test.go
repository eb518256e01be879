package bpf

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// helperEnv makes the test binary the short-lived program of a test: it holds
// a network and an address to dial.
const helperEnv = "INTERDICT_TEST_DIAL"

// noRaceDelay keeps the race detector from staying a second after the end.
const noRaceDelay = "GORACE=atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	if dial := os.Getenv(helperEnv); dial != "" {
		os.Exit(dialAndExit(dial))
	}
	os.Exit(m.Run())
}

func dialAndExit(dial string) int {
	network, addr, _ := strings.Cut(dial, " ")
	c, err := net.Dial(network, addr)
	if err == nil {
		fmt.Fprintln(os.Stdout, c.LocalAddr())
		c.Close()
	}
	return 0
}

// openTracker opens a tracker whose announcements arrive in the channel.
func openTracker(t *testing.T, scope Scope) (*Tracker, <-chan Announcement) {
	t.Helper()
	heard := make(chan Announcement, 1024)
	tr, err := Open(Config{Scope: scope, Announce: func(a Announcement) {
		select {
		case heard <- a:
		default:
		}
	}})
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("BPF must work in CI: %v", err)
		}
		t.Skipf("SKIPPED, NOTHING TESTED: BPF does not work here: %v", err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return tr, heard
}

// copySelf copies the test binary to where every user can start it.
func copySelf(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	// It and the directory above are for the user of the test only.
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err = os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "helper")
	if err = os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func awaitPID(t *testing.T, heard <-chan Announcement, pid int) Announcement {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case a := <-heard:
			if a.PID == pid {
				return a
			}
		case <-deadline:
			t.Fatalf("process %d was not announced", pid)
		}
	}
}

func cookieOf(t *testing.T, c syscall.Conn) uint64 {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var cookie uint64
	var sockErr error
	if err = raw.Control(func(fd uintptr) {
		cookie, sockErr = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_COOKIE)
	}); err != nil || sockErr != nil {
		t.Fatal(err, sockErr)
	}
	return cookie
}

func listen(t *testing.T, network, addr string) net.Listener {
	t.Helper()
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func TestTrackerRecordsOwnSockets(t *testing.T) {
	tr, _ := openTracker(t, ScopeNamespace)
	if err := tr.Types(); err != nil {
		t.Logf("no snapshots: %v", err)
	}

	tests := []struct {
		name, network, listen, dial string
	}{
		{"TCP over IPv4", "tcp4", "127.0.0.1:0", "127.0.0.1"},
		{"TCP over IPv6", "tcp6", "[::1]:0", "::1"},
		{"UDP connected over IPv4", "udp4", "127.0.0.1:0", "127.0.0.1"},
		{"UDP connected over IPv6", "udp6", "[::1]:0", "::1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var port int
			if strings.HasPrefix(tt.network, "tcp") {
				port = listen(t, tt.network, tt.listen).Addr().(*net.TCPAddr).Port
			} else {
				port = 9
			}
			c, err := net.Dial(tt.network, net.JoinHostPort(tt.dial, fmt.Sprint(port)))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			got, err := tr.ByCookie(cookieOf(t, c.(syscall.Conn)))
			if err != nil {
				t.Fatal(err)
			}
			checkSelf(t, tr, got)
			if a, ok := c.LocalAddr().(*net.TCPAddr); ok {
				got, err = tr.ByTuple(Tuple{Protocol: protocolTCP, Local: a.AddrPort(), Remote: c.RemoteAddr().(*net.TCPAddr).AddrPort()})
				if err != nil {
					t.Fatal(err)
				}
				checkSelf(t, tr, got)
			}
		})
	}

	t.Run("TCP over IPv4 from an IPv6 socket", func(t *testing.T) {
		port := listen(t, "tcp4", "127.0.0.1:0").Addr().(*net.TCPAddr).Port
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err = unix.Connect(fd, &unix.SockaddrInet6{
			Port: port, Addr: netip.MustParseAddr("::ffff:127.0.0.1").As16(),
		}); err != nil {
			t.Fatal(err)
		}
		sa, err := unix.Getsockname(fd)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tr.ByTuple(Tuple{
			Protocol: protocolTCP,
			Local:    netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(sa.(*unix.SockaddrInet6).Port)),
			Remote:   netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port)),
		})
		if err != nil {
			t.Fatal(err)
		}
		checkSelf(t, tr, got)
	})

	t.Run("UDP unconnected", func(t *testing.T) {
		c, err := net.ListenUDP("udp", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		cookie := cookieOf(t, c)
		if early, earlyErr := tr.ByCookie(cookie); earlyErr == nil {
			t.Fatalf("an unused socket is on record: %+v", early)
		}
		for range 2 { // the second takes the short way out of the program
			if _, err = c.WriteToUDPAddrPort([]byte("x"), netip.MustParseAddrPort("127.0.0.1:9")); err != nil {
				t.Fatal(err)
			}
		}
		got, err := tr.ByCookie(cookie)
		if err != nil {
			t.Fatal(err)
		}
		checkSelf(t, tr, got)
	})
}

func TestTrackerRemembersClosedUDPSockets(t *testing.T) {
	tr, _ := openTracker(t, ScopeNamespace)
	if err := tr.Types(); err != nil {
		t.Skipf("the kernel publishes no types: %v", err)
	}
	tests := []struct {
		name          string
		family        int
		bind, connect string
		// local and remote are what the closed socket is known by, with
		// the port it had.
		local, remote string
	}{
		{"connected, IPv4", unix.AF_INET, "127.0.0.1", "127.0.0.1:9", "127.0.0.1", "127.0.0.1:9"},
		{"connected, IPv6", unix.AF_INET6, "::1", "[::1]:9", "::1", "[::1]:9"},
		{"connected, IPv4 from an IPv6 socket", unix.AF_INET6, "::", "[::ffff:127.0.0.1]:9", "127.0.0.1", "127.0.0.1:9"},
		{"unconnected, IPv4", unix.AF_INET, "0.0.0.0", "", "0.0.0.0", "0.0.0.0:0"},
		{"unconnected, IPv6", unix.AF_INET6, "::", "", "::", "[::]:0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fd, err := unix.Socket(tt.family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			addr := func(s string) unix.Sockaddr {
				a := netip.MustParseAddrPort(s)
				if tt.family == unix.AF_INET {
					return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
				}
				return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
			}
			err = unix.Bind(fd, addr(net.JoinHostPort(tt.bind, "0")))
			switch {
			case err != nil:
			case tt.connect != "":
				err = unix.Connect(fd, addr(tt.connect))
			case tt.family == unix.AF_INET:
				err = unix.Sendto(fd, []byte("x"), 0, addr("127.0.0.1:9"))
			default:
				err = unix.Sendto(fd, []byte("x"), 0, addr("[::1]:9"))
			}
			if err != nil {
				t.Fatal(err)
			}
			name, err := unix.Getsockname(fd)
			if err != nil {
				t.Fatal(err)
			}
			var port int
			switch name := name.(type) {
			case *unix.SockaddrInet4:
				port = name.Port
			case *unix.SockaddrInet6:
				port = name.Port
			}
			tuple := Tuple{
				Protocol: protocolUDP,
				Local:    netip.AddrPortFrom(netip.MustParseAddr(tt.local), uint16(port)),
				Remote:   netip.MustParseAddrPort(tt.remote),
			}
			if early, earlyErr := tr.ByTuple(tuple); earlyErr == nil {
				t.Errorf("an open socket is known by its addresses: %+v", early)
			}
			unix.Close(fd)
			got, err := tr.ByTuple(tuple)
			if err != nil {
				t.Fatal(err)
			}
			checkSelf(t, tr, got)
		})
	}
}

func checkSelf(t *testing.T, tr *Tracker, got Connect) {
	t.Helper()
	if got.PID != os.Getpid() || got.UID != uint32(os.Getuid()) || got.GID != uint32(os.Getgid()) || got.NetNS != tr.NetNS() {
		t.Errorf("got %+v, want process %d of user %d in namespace %d", got, os.Getpid(), os.Getuid(), tr.NetNS())
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		t.Fatal(err)
	}
	if age := time.Duration(now.Nano()) - got.Since; age < 0 || age > time.Minute {
		t.Errorf("recorded %v ago", age)
	}
}

func TestTrackerAnnouncesProcessThatIsGoneAtOnce(t *testing.T) {
	tr, heard := openTracker(t, ScopeNamespace)
	exe := copySelf(t)
	ln := listen(t, "tcp4", "127.0.0.1:0")
	cmd := exec.Command(exe, "some", "words")
	cmd.Env = []string{helperEnv + "=tcp4 " + ln.Addr().String(), noRaceDelay}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12346}}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}

	got := awaitPID(t, heard, cmd.Process.Pid)
	if got.UID != 12345 || got.GID != 12346 {
		t.Errorf("got user %d and group %d, want 12345 and 12346", got.UID, got.GID)
	}
	if tr.Types() == nil {
		if want := exe + "\x00some\x00words\x00"; string(got.Args) != want {
			t.Errorf("got arguments %q, want %q", got.Args, want)
		}
		if got.Path != exe {
			t.Errorf("got path %q, want %q", got.Path, exe)
		}
	}
	found, err := tr.ByTuple(Tuple{
		Protocol: protocolTCP,
		Local:    netip.MustParseAddrPort(strings.TrimSpace(string(out))),
		Remote:   netip.MustParseAddrPort(ln.Addr().String()),
	})
	if err != nil {
		t.Fatalf("the record is gone with the process: %v", err)
	}
	if found != got.Connect {
		t.Errorf("got %+v by tuple, want what was announced: %+v", found, got.Connect)
	}
}

func TestTrackerTellsProgramsOfOneProcessApart(t *testing.T) {
	tr, heard := openTracker(t, ScopeNamespace)
	if err := tr.Types(); err != nil {
		t.Skipf("the kernel publishes no types: %v", err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	addr := listen(t, "tcp4", "127.0.0.1:0").Addr().(*net.TCPAddr)
	script := fmt.Sprintf("exec 3<>/dev/tcp/127.0.0.1/%d; exec %q second", addr.Port, exe)
	cmd := exec.Command("bash", "-c", script)
	cmd.Env = []string{helperEnv + "=tcp4 " + addr.String(), noRaceDelay}
	if err = cmd.Run(); err != nil {
		t.Fatal(err)
	}
	first := awaitPID(t, heard, cmd.Process.Pid)
	second := awaitPID(t, heard, cmd.Process.Pid)
	if first.Image == second.Image {
		t.Errorf("both programs have the image %#x", first.Image)
	}
	if first.Comm != "bash" || second.Path != exe {
		t.Errorf("got %q, then %q; want bash, then %q", first.Comm, second.Path, exe)
	}
}

// refusedTuple has curl refused at once in a new network namespace, and
// returns the tuple of the attempt.
func refusedTuple(t *testing.T, sourcePort uint16) Tuple {
	t.Helper()
	cmd := exec.Command("unshare", "-n", "sh", "-c",
		fmt.Sprintf("ip link set lo up; ip addr add 192.0.2.78/32 dev lo; curl -s --local-port %d http://192.0.2.78:9/; exit 0", sourcePort))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	local := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.78"), sourcePort)
	return Tuple{Protocol: protocolTCP, Local: local, Remote: netip.MustParseAddrPort("192.0.2.78:9")}
}

func TestTrackerScopes(t *testing.T) {
	own, _ := openTracker(t, ScopeNamespace)
	machine, _ := openTracker(t, ScopeMachine)
	tuple := refusedTuple(t, 45671)

	if got, err := own.ByTuple(tuple); err == nil {
		t.Errorf("a tracker of one namespace recorded another: %+v", got)
	}
	got, err := machine.ByTuple(tuple)
	if err != nil {
		t.Fatalf("a tracker of the machine: %v", err)
	}
	if got.Comm != "curl" || got.NetNS == machine.NetNS() {
		t.Errorf("got %+v, want curl in a namespace other than %d", got, machine.NetNS())
	}
}

// attached lists the programs at the hooks that trackers use.
func attached(t *testing.T) []ebpf.ProgramID {
	t.Helper()
	cgroup, err := openCgroup()
	if err != nil {
		t.Fatal(err)
	}
	defer cgroup.Close()
	var ids []ebpf.ProgramID
	for _, at := range []ebpf.AttachType{
		ebpf.AttachCGroupSockOps, ebpf.AttachCGroupInet4Connect, ebpf.AttachCGroupInet6Connect,
		ebpf.AttachCGroupUDP4Sendmsg, ebpf.AttachCGroupUDP6Sendmsg, ebpf.AttachCgroupInetSockRelease,
	} {
		res, err := link.QueryPrograms(link.QueryOptions{Target: int(cgroup.Fd()), Attach: at})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range res.Programs {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

func programsOf(t *testing.T, tr *Tracker) []ebpf.ProgramID {
	t.Helper()
	var ids []ebpf.ProgramID
	for _, l := range tr.links {
		info, err := l.Info()
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, info.Program)
	}
	return ids
}

func TestTrackersLiveBesideEachOtherAndLeaveNothing(t *testing.T) {
	first, _ := openTracker(t, ScopeNamespace)
	second, err := Open(Config{Announce: func(Announcement) {}})
	if err != nil {
		t.Fatal(err)
	}
	mine := programsOf(t, second)
	for _, id := range append(programsOf(t, first), mine...) {
		if !slices.Contains(attached(t), id) {
			t.Errorf("program %d is not attached", id)
		}
	}

	ln := listen(t, "tcp4", "127.0.0.1:0")
	c, err := new(net.Dialer).DialContext(context.Background(), "tcp4", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cookie := cookieOf(t, c.(syscall.Conn))
	for i, tr := range []*Tracker{first, second} {
		got, lookupErr := tr.ByCookie(cookie)
		if lookupErr != nil {
			t.Errorf("tracker %d: %v", i, lookupErr)
			continue
		}
		checkSelf(t, tr, got)
	}

	if err = second.Close(); err != nil {
		t.Fatal(err)
	}
	for _, id := range attached(t) {
		if slices.Contains(mine, id) {
			t.Errorf("program %d is still attached after Close", id)
		}
	}
	if _, err = first.ByCookie(cookie); err != nil {
		t.Errorf("closing one tracker took the other's records: %v", err)
	}
}

func TestMountCgroupGivesTheRootOfTheTree(t *testing.T) {
	f, err := mountCgroup()
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED, NOTHING TESTED: %v", err)
	}
	defer f.Close()
	var st unix.Statfs_t
	if err = unix.Fstatfs(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	if st.Type != unix.CGROUP2_SUPER_MAGIC {
		t.Errorf("got a file system of type %#x", st.Type)
	}
	if _, err = f.Readdirnames(-1); err != nil {
		t.Errorf("reading the tree: %v", err)
	}
}
