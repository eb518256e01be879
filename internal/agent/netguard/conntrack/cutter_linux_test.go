package conntrack

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	ct "github.com/ti-mo/conntrack"
	"github.com/ti-mo/netfilter"
	"golang.org/x/sys/unix"

	"interdict/internal/agent/netguard"
	"interdict/internal/agent/netguard/nft"
	"interdict/internal/agent/netguard/nft/netnstest"
)

const peer4, peer6 = "192.0.2.2", "2001:db8::2"

// soon tells what was ended from what ended by itself, on a busy machine too.
const soon = 5 * time.Second

func linked(t *testing.T) *netnstest.Peer {
	t.Helper()
	p := netnstest.NewPeer(t)
	p.Link("idt-host", []string{"192.0.2.1/24", "2001:db8::1/64"}, "idt-peer", []string{peer4 + "/24", peer6 + "/64"})
	return p
}

// guarded puts rules in place and no agent behind their queues. It also makes
// the namespace track connections.
func guarded(t *testing.T) {
	t.Helper()
	g, err := nft.New(nft.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	if err := g.Set(t.Context(), netguard.Config{Inspect: true, Gateway: true, QueueBase: 400}); err != nil {
		t.Fatal(err)
	}
}

func newCutter(t *testing.T) *Cutter {
	t.Helper()
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// endless serves a download without end and reports how each one ended.
func endless(t *testing.T, p *netnstest.Peer, address string) <-chan error {
	t.Helper()
	var l net.Listener
	p.Do(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	ended := make(chan error, 100)
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer func() { _ = c.Close() }()
				for {
					if _, err := c.Write(make([]byte, 64<<10)); err != nil {
						ended <- err
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		served.Wait()
	})
	return ended
}

func flowOfConn(c net.Conn, protocol uint8) netguard.Flow {
	of := func(a net.Addr) netip.AddrPort { return netip.MustParseAddrPort(a.String()) }
	return netguard.Flow{Protocol: protocol, Source: of(c.LocalAddr()), Dest: of(c.RemoteAddr())}
}

// mapped connects an IPv6 socket to an IPv4 address.
func mapped(t *testing.T, address string) net.Conn {
	t.Helper()
	to := netip.MustParseAddrPort(address)
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "mapped")
	defer func() { _ = file.Close() }()
	if err = unix.Connect(fd, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}); err != nil {
		t.Fatal(err)
	}
	c, err := net.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func dial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout(network, address, 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wasOpen cuts a flow and tells whether it was open.
func wasOpen(t *testing.T, c *Cutter, f netguard.Flow) bool {
	t.Helper()
	open, err := c.Cut(t.Context(), []netguard.Flow{f})
	if err != nil {
		t.Fatal(err)
	}
	return len(open) == 1 && open[0] == f
}

func TestAConnectionThatHasEndedWasNotOpen(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	guarded(t)
	l, err := net.Listen("tcp", "127.0.0.1:4000")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	here := dial(t, "tcp", "127.0.0.1:4000")
	there, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	f := flowOfConn(here, unix.IPPROTO_TCP)
	// This end closes first and stays in TIME_WAIT.
	if err := errors.Join(here.Close(), there.Close()); err != nil {
		t.Fatal(err)
	}
	markOf(t, f) // the connection table still has it
	if wasOpen(t, newCutter(t), f) {
		t.Error("a connection whose program closed it was open")
	}
}

func TestCutEndsADownloadOnBothSides(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	p := linked(t)
	guarded(t)
	cutter := newCutter(t)
	for name, test := range map[string]struct {
		address string
		dial    func(address string) net.Conn
	}{
		"over IPv4":                   {peer4 + ":4000", func(a string) net.Conn { return dial(t, "tcp", a) }},
		"over IPv6":                   {"[" + peer6 + "]:4000", func(a string) net.Conn { return dial(t, "tcp", a) }},
		"over IPv4 on an IPv6 socket": {peer4 + ":4001", func(a string) net.Conn { return mapped(t, a) }},
	} {
		t.Run(name, func(t *testing.T) {
			ended := endless(t, p, test.address)
			c := test.dial(test.address)
			defer func() { _ = c.Close() }()
			if _, err := io.ReadFull(c, make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
			local := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, c)
				local <- err
			}()
			f := flowOfConn(c, unix.IPPROTO_TCP)
			start := time.Now()
			if !wasOpen(t, cutter, f) {
				t.Error("an open connection was not open")
			}
			if err := <-local; !errors.Is(err, unix.ECONNABORTED) {
				t.Errorf("the program saw %v, want an aborted connection", err)
			}
			if err := <-ended; !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
				t.Errorf("the server saw %v, want a reset", err)
			}
			if took := time.Since(start); took > soon {
				t.Errorf("it took %v, want at most %v", took, soon)
			}
			if wasOpen(t, cutter, f) {
				t.Error("what is gone was open")
			}
		})
	}
}

func TestCutSparesAListenerOnTheSamePort(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	guarded(t)
	l, err := net.Listen("tcp", "127.0.0.1:4000")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	gone := netguard.Flow{
		Protocol: unix.IPPROTO_TCP,
		Source:   netip.MustParseAddrPort("127.0.0.1:4000"),
		Dest:     netip.MustParseAddrPort("127.0.0.1:5000"),
	}
	if wasOpen(t, newCutter(t), gone) {
		t.Error("a connection that never was is open")
	}
	if err := dial(t, "tcp", "127.0.0.1:4000").Close(); err != nil {
		t.Error(err)
	}
}

// What the far side still sends arrives: a QUIC client that heard nothing
// would wait, one that hears something answers, and is refused at once.
func TestCutRefusesWhatADatagramFlowSends(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	p := linked(t)
	guarded(t)
	cutter := newCutter(t)
	for _, address := range []string{peer4 + ":443", "[" + peer6 + "]:443"} {
		var server net.PacketConn
		p.Do(func() (err error) {
			server, err = net.ListenPacket("udp", address)
			return err
		})
		defer func() { _ = server.Close() }()
		c := dial(t, "udp", address)
		defer func() { _ = c.Close() }()
		send := func() error {
			_, err := c.Write([]byte{0x40, 1, 2, 3})
			return err
		}
		if err := send(); err != nil {
			t.Fatal(err)
		}
		buffer := make([]byte, 10)
		_, client, err := server.ReadFrom(buffer)
		if err != nil {
			t.Fatal(err)
		}
		setOtherBits(t, cutter, flowOfConn(c, unix.IPPROTO_UDP))
		if !wasOpen(t, cutter, flowOfConn(c, unix.IPPROTO_UDP)) {
			t.Errorf("%s: the flow was not open", address)
		}
		if _, err := server.WriteTo(buffer, client); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(soon))
		if n, err := c.Read(buffer); n == 0 {
			t.Errorf("%s: no answer arrived: %v", address, err)
		}
		if err := send(); err == nil {
			t.Errorf("%s: sending went on", address)
		}
		if got, want := markOf(t, flowOfConn(c, unix.IPPROTO_UDP)), otherBits|netguard.MarkRefuse; got != want {
			t.Errorf("%s: mark %#x, want %#x", address, got, want)
		}
	}
}

const otherBits uint32 = 0xc000_0055

// setOtherBits gives the entry of f a mark of ours and of others.
func setOtherBits(t *testing.T, c *Cutter, f netguard.Flow) {
	t.Helper()
	const messageNew, attributeMark = 0, 8
	mark := netfilter.Attribute{Type: attributeMark, Data: netfilter.Uint32Bytes(otherBits | netguard.MarkAccept)}
	if err := c.track(f, messageNew, mark); err != nil {
		t.Fatal(err)
	}
	if got := markOf(t, f); got != otherBits|netguard.MarkAccept {
		t.Fatalf("setting a mark made it %#x", got)
	}
}

// markOf finds the connection table's entry of f and its mark.
func markOf(t *testing.T, f netguard.Flow) uint32 {
	t.Helper()
	c, err := ct.Dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	entries, err := c.Dump(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if flowOf(&e) == f {
			return e.Mark
		}
	}
	t.Fatalf("no entry for %+v", f)
	return 0
}

func TestADatagramFlowWhoseSocketIsClosedWasNotOpen(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	guarded(t)
	cutter := newCutter(t)
	for _, address := range []string{"127.0.0.1:4000", "[::1]:4000"} {
		server, err := net.ListenPacket("udp", address)
		if err != nil {
			t.Fatal(err)
		}
		connected := dial(t, "udp", address)
		free, err := net.ListenPacket("udp", net.JoinHostPort(connected.LocalAddr().(*net.UDPAddr).IP.String(), "0"))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(write(connected), writeTo(free, server.LocalAddr())); err != nil {
			t.Fatal(err)
		}
		for _, local := range []interface {
			LocalAddr() net.Addr
			Close() error
		}{connected, free} {
			f := netguard.Flow{
				Protocol: unix.IPPROTO_UDP, Source: netip.MustParseAddrPort(local.LocalAddr().String()),
				Dest: netip.MustParseAddrPort(address),
			}
			setOtherBits(t, cutter, f)
			if !wasOpen(t, cutter, f) {
				t.Errorf("%v: a flow with a socket was not open", f)
			}
			setOtherBits(t, cutter, f)
			if err := local.Close(); err != nil {
				t.Fatal(err)
			}
			if wasOpen(t, cutter, f) {
				t.Errorf("%v: a flow whose socket is closed was open", f)
			}
		}
		_ = server.Close()
	}
}

func write(c net.Conn) error {
	_, err := c.Write([]byte{0x40})
	return err
}

func writeTo(c net.PacketConn, a net.Addr) error {
	_, err := c.WriteTo([]byte{0x40}, a)
	return err
}

func TestCutOfForwardedConnections(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	server := linked(t)
	client := netnstest.NewPeer(t)
	client.Link("idt-inner", []string{"198.51.100.1/24"}, "idt-client", []string{"198.51.100.2/24"})
	client.Run("ip", "route", "add", "default", "via", "198.51.100.1")
	server.Run("ip", "route", "add", "default", "via", "192.0.2.1")
	netnstest.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	guarded(t)
	ended := endless(t, server, peer4+":4000")
	var c net.Conn
	client.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", peer4+":4000", time.Second)
		return err
	})
	defer func() { _ = c.Close() }()
	if _, err := io.ReadFull(c, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	cutter := newCutter(t)
	setOtherBits(t, cutter, flowOfConn(c, unix.IPPROTO_TCP)) // as the agent does
	start := time.Now()
	if !wasOpen(t, cutter, flowOfConn(c, unix.IPPROTO_TCP)) {
		t.Error("the forwarded connection was not open")
	}
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the client saw %v, want a reset", err)
	}
	if took := time.Since(start); took > soon {
		t.Errorf("it took %v, want at most %v", took, soon)
	}
	// The far end notices when it sends next.
	if err := <-ended; !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
		t.Errorf("the server saw %v, want a reset", err)
	}
}

func TestCutSaysWhichFlowIsNoFlow(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	mixed := netguard.Flow{Protocol: unix.IPPROTO_TCP, Source: netip.MustParseAddrPort("192.0.2.1:1"), Dest: netip.MustParseAddrPort("[2001:db8::1]:2")}
	if _, err := newCutter(t).Cut(t.Context(), []netguard.Flow{mixed, {}}); err == nil {
		t.Error("Cut accepted flows between two families and without addresses")
	}
}

func TestEndsOfMarkedConnectionsAreReported(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	guarded(t)
	ends, err := SubscribeEnds()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ends.Close() }()
	// An agent that begins anew goes on with the same subscription.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err = ends.Run(ctx, func(netguard.Flow) {}, func() {}); err != nil {
		t.Errorf("the first Run ended with %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	reported, done := make(chan netguard.Flow, 10), make(chan error)
	go func() { done <- ends.Run(ctx, func(f netguard.Flow) { reported <- f }, func() {}) }()

	l, err := net.Listen("tcp", "[::1]:4000")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	unmarked, marked := dial(t, "tcp", "[::1]:4000"), dial(t, "tcp", "[::1]:4000")
	defer func() { _, _ = unmarked.Close(), marked.Close() }()
	cutter := newCutter(t)
	setOtherBits(t, cutter, flowOfConn(marked, unix.IPPROTO_TCP))
	for _, c := range []net.Conn{unmarked, marked} {
		wasOpen(t, cutter, flowOfConn(c, unix.IPPROTO_TCP))
	}
	want := flowOfConn(marked, unix.IPPROTO_TCP)
	select {
	case got := <-reported:
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
			t.Errorf("first end reported (-want +got):\n%s", diff)
		}
	case <-time.After(2 * time.Second):
		t.Error("no end was reported")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run ended with %v", err)
	}
}
