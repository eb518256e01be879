package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

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
		t.Run(cfg.name, func(t *testing.T) {
			r := newResolver(t, cfg.Config)
			for _, s := range [][2]string{{"tcp4", tcp4}, {"tcp6", tcp6}, {"udp4", udp4}, {"udp6", udp6}} {
				t.Run("over "+s[0], func(t *testing.T) {
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
		})
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

func TestFindKeepsAnswersForAWhile(t *testing.T) {
	path, _ := helper(t)
	tcp4, _, _, _ := servers(t)
	r := newResolver(t, Config{WithoutBPF: true})
	c := start(t, path, "tcp4", tcp4, "stay")
	before, err := r.Find(t.Context(), c.flow)
	if err != nil {
		t.Fatal(err)
	}
	c.stop()
	a, ok := r.flows.get(c.flow)
	if !ok {
		t.Fatal("the answer is not kept")
	}
	a.at = time.Now()
	r.flows.put(c.flow, a)
	after, err := r.Find(t.Context(), c.flow)
	if err != nil || after.Process.PID != before.Process.PID {
		t.Errorf("got %+v, %v; want %+v", after, err, before)
	}
	a.at = a.at.Add(-flowAge - time.Second)
	r.flows.put(c.flow, a)
	if got, err := r.Find(t.Context(), c.flow); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %+v, %v from an answer that is too old", got, err)
	}
}

func TestFindWaitsForItsTurnToSearchOnlyAsLongAsItsContext(t *testing.T) {
	path, _ := helper(t)
	tcp4, _, _, _ := servers(t)
	r := newResolver(t, Config{WithoutBPF: true})
	c := start(t, path, "tcp4", tcp4, "stay")
	for range scansMax {
		r.scans <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	got, err := r.Find(ctx, c.flow)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %+v, %v; want the context's error", got, err)
	}
	if got.User.UID == nil || *got.User.UID != 12345 {
		t.Errorf("got user %+v, want 12345: it is known without a search", got.User)
	}
	for range scansMax {
		<-r.scans
	}
	if got, err = r.Find(t.Context(), c.flow); err != nil {
		t.Fatal(err)
	}
	c.checkOwner(t, got, path)
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
