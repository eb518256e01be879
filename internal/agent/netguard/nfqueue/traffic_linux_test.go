package nfqueue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"interdict/internal/agent/netguard"
	"interdict/internal/agent/netguard/nft"
	"interdict/internal/agent/netguard/nft/netnstest"
)

const base = 300

// The two machines of most tests: the agent's host and a server.
const (
	host4, peer4 = "192.0.2.1", "192.0.2.2"
	host6, peer6 = "2001:db8::1", "2001:db8::2"
)

// judge is a handler that records packets and asks a function. A nil function
// answers Accept.
type judge struct {
	decide func(netguard.Packet) netguard.Verdict

	mu      sync.Mutex
	packets []netguard.Packet
}

func (j *judge) Handle(p netguard.Packet, answer func(netguard.Verdict)) {
	j.mu.Lock()
	j.packets = append(j.packets, p)
	j.mu.Unlock()
	v := netguard.Verdict{Decision: netguard.Accept}
	if j.decide != nil {
		v = j.decide(p)
	}
	answer(v)
}

func (j *judge) seen(q netguard.Queue) []netguard.Packet {
	j.mu.Lock()
	defer j.mu.Unlock()
	var seen []netguard.Packet
	for _, p := range j.packets {
		if p.Queue == q {
			seen = append(seen, p)
		}
	}
	return seen
}

func always(d netguard.Decision) *judge {
	return &judge{decide: func(netguard.Packet) netguard.Verdict { return netguard.Verdict{Decision: d} }}
}

// guarded puts the rules of c in place.
func guarded(tb testing.TB, c netguard.Config) *nft.Guard {
	tb.Helper()
	g, err := nft.New(nft.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	c.Inspect, c.QueueBase = true, base
	if err := g.Set(tb.Context(), c); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := errors.Join(g.CleanUp(context.Background()), g.Close()); err != nil {
			tb.Error(err)
		}
	})
	return g
}

// listening opens the queues with h behind them.
func listening(tb testing.TB, h netguard.Handler, change func(*Config)) *Queues {
	tb.Helper()
	c := Config{Base: base, Handler: h, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&c)
	}
	q, err := New(c)
	if err != nil {
		tb.Fatal(err)
	}
	if err := q.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := q.Shutdown(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return q
}

// linked makes the server machine.
func linked(tb testing.TB) *netnstest.Peer {
	tb.Helper()
	p := netnstest.NewPeer(tb)
	p.Link("idt-host", []string{host4 + "/24", host6 + "/64"}, "idt-peer", []string{peer4 + "/24", peer6 + "/64"})
	return p
}

// echo serves TCP at an address of the peer and reports how each connection
// ended.
func echo(tb testing.TB, p *netnstest.Peer, address string) <-chan error {
	tb.Helper()
	var l net.Listener
	p.Do(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	ended := make(chan error, 1000)
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				_, err := io.Copy(c, c)
				_ = c.Close()
				select {
				case ended <- err:
				default:
				}
			})
		}
	})
	tb.Cleanup(func() {
		_ = l.Close()
		served.Wait()
	})
	return ended
}

func dial(tb testing.TB, network, address string) net.Conn {
	tb.Helper()
	c, err := net.DialTimeout(network, address, 2*time.Second)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// exchange sends and expects the same back.
func exchange(c net.Conn, payload []byte) error {
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write(payload); err != nil {
		return err
	}
	back := make([]byte, len(payload))
	if _, err := io.ReadFull(c, back); err != nil {
		return err
	}
	if !bytes.Equal(back, payload) {
		return fmt.Errorf("got %q back, want %q", back, payload)
	}
	return nil
}

// both runs a subtest per address family.
func both(t *testing.T, f func(t *testing.T, host, peer string)) {
	t.Helper()
	t.Run("IPv4", func(t *testing.T) { f(t, host4, peer4) })
	t.Run("IPv6", func(t *testing.T) { f(t, host6, peer6) })
}

func at(address string, port int) string { return net.JoinHostPort(address, fmt.Sprint(port)) }

// quicLike is a datagram that the rules must take for a QUIC Initial.
func quicLike() []byte {
	d := make([]byte, 1200)
	d[0], d[4] = 0xc3, 1
	return d
}

func TestOnlyTheFirstPayloadOfAnAcceptedConnectionLeavesTheKernel(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	both(t, func(t *testing.T, _, peer string) {
		t.Helper()
		echo(t, linkedOnce(t), at(peer, 4000))
		g := guarded(t, netguard.Config{})
		j := &judge{}
		listening(t, j, nil)

		c := dial(t, "tcp", at(peer, 4000))
		if n := len(j.seen(netguard.QueueFlow)); n != 0 {
			t.Errorf("the handshake queued %d packets, want none", n)
		}
		first := bytes.Repeat([]byte("first "), 500)
		for _, payload := range [][]byte{first, []byte("second"), make([]byte, 1<<20)} {
			if err := exchange(c, payload); err != nil {
				t.Fatal(err)
			}
		}
		_ = c.Close()
		seen := j.seen(netguard.QueueFlow)
		if len(seen) != 1 {
			t.Fatalf("%d packets were queued, want 1", len(seen))
		}
		if p := seen[0]; !bytes.HasSuffix(p.Data, first) || p.Hook != netguard.HookOutput || !p.HasUID || p.UID != 0 {
			t.Errorf("queued packet of %d bytes at hook %d for user %d (%v), want the first payload whole, at %d, for user 0",
				len(p.Data), p.Hook, p.UID, p.HasUID, netguard.HookOutput)
		}
		counts, err := g.Counters(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if counts[nft.CounterQueuedFlow] != 1 || counts[nft.CounterAccepted] != 1 {
			t.Errorf("counters %v, want one packet queued and one connection accepted", counts)
		}
	})
}

// linkedOnce makes a new server machine under the same addresses: the link of
// a subtest before goes away with its machine.
func linkedOnce(t *testing.T) *netnstest.Peer {
	t.Helper()
	p := linked(t)
	t.Cleanup(func() { netnstest.RunBackground(t, "ip", "link", "del", "idt-host") })
	return p
}

func TestAPassedConnectionIsAskedAboutAgain(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	echo(t, linked(t), at(peer4, 4000))
	guarded(t, netguard.Config{})
	j := always(netguard.Pass)
	listening(t, j, nil)
	c := dial(t, "tcp", at(peer4, 4000))
	for range 3 {
		if err := exchange(c, []byte("again")); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(j.seen(netguard.QueueFlow)); n != 3 {
		t.Errorf("%d packets were queued, want 3", n)
	}
}

func TestARefusedConnectionIsResetOnBothSides(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	both(t, func(t *testing.T, _, peer string) {
		t.Helper()
		ended := echo(t, linkedOnce(t), at(peer, 4000))
		guarded(t, netguard.Config{})
		listening(t, always(netguard.Refuse), nil)
		c := dial(t, "tcp", at(peer, 4000))
		if err := exchange(c, []byte("hello")); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("the client saw %v, want a reset", err)
		}
		select {
		case err := <-ended:
			if !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("the server saw %v, want a reset", err)
			}
		case <-time.After(5 * time.Second):
			t.Error("the server was not told")
		}
	})
}

func TestARefusedDatagramFlowFailsAtOnce(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	both(t, func(t *testing.T, _, peer string) {
		t.Helper()
		echoUDP(t, linkedOnce(t), at(peer, 443))
		guarded(t, netguard.Config{})
		j := always(netguard.Refuse)
		listening(t, j, nil)
		c := dial(t, "udp", at(peer, 443))
		if err := exchange(c, []byte("no Initial")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(quicLike()); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, err := c.Read(make([]byte, 10))
		refused := errors.Is(err, unix.EACCES) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ECONNREFUSED)
		if !refused {
			t.Errorf("reading failed with %v, want an error that the kernel made", err)
		}
		if n := len(j.seen(netguard.QueueFlow)); n != 1 {
			t.Errorf("%d packets were queued, want 1", n)
		}
	})
}

func TestWithoutAListener(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	bad := netguard.Config{Refused: []netguard.Range{
		{From: netip.MustParseAddr("192.0.2.128"), To: netip.MustParseAddr("192.0.2.191")},
		{From: netip.MustParseAddr("2001:db8::bad"), To: netip.MustParseAddr("2001:db8::bad")},
	}}
	p := linked(t)
	for _, a := range []string{"192.0.2.129/24", "2001:db8::bad/64"} {
		p.Run("ip", "addr", "add", a, "dev", "idt-peer", "nodad")
	}
	for _, a := range []string{peer4, peer6, "192.0.2.129", "2001:db8::bad"} {
		echo(t, p, at(a, 4000))
	}

	t.Run("payload passes", func(t *testing.T) {
		guarded(t, bad)
		for _, a := range []string{peer4, peer6} {
			if err := exchange(dial(t, "tcp", at(a, 4000)), []byte("hello")); err != nil {
				t.Errorf("to %s: %v", a, err)
			}
		}
	})
	t.Run("known-bad addresses stay refused", func(t *testing.T) {
		guarded(t, bad)
		for _, a := range []string{"192.0.2.129", "2001:db8::bad"} {
			if _, err := net.DialTimeout("tcp", at(a, 4000), time.Second); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("connecting to %s: %v, want a refusal", a, err)
			}
			c := dial(t, "udp", at(a, 4000))
			if _, err := c.Write([]byte("x")); !errors.Is(err, unix.EPERM) {
				t.Errorf("sending to %s: %v, want EPERM", a, err)
			}
		}
	})
	t.Run("payload does not pass when failing closed", func(t *testing.T) {
		closed := bad
		closed.FailClosed = true
		guarded(t, closed)
		c := dial(t, "tcp", at(peer4, 4000))
		_ = c.SetDeadline(time.Now().Add(300 * time.Millisecond))
		_, _ = c.Write([]byte("hello"))
		if n, err := c.Read(make([]byte, 10)); n > 0 || err == nil {
			t.Errorf("read %d bytes, %v, want nothing", n, err)
		}
	})
	t.Run("exempt endpoints pass in any case", func(t *testing.T) {
		exempt := bad
		exempt.FailClosed = true
		for _, a := range []string{"192.0.2.129", "2001:db8::bad", peer4} {
			exempt.Exempt = append(exempt.Exempt, netip.MustParseAddrPort(at(a, 4000)))
		}
		guarded(t, exempt)
		for _, e := range exempt.Exempt {
			if err := exchange(dial(t, "tcp", e.String()), []byte("hello")); err != nil {
				t.Errorf("to %v: %v", e, err)
			}
		}
	})
}

func TestAddressesAreReportedOnTheirFirstPacket(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	p := linked(t)
	p.Run("ip", "addr", "add", "192.0.2.129/24", "dev", "idt-peer")
	echo(t, p, at(peer4, 4000))
	echo(t, p, "192.0.2.129:4000")
	echoUDP(t, p, at(peer4, 443))
	one := func(a string) []netguard.Range {
		return []netguard.Range{{From: netip.MustParseAddr(a), To: netip.MustParseAddr(a)}}
	}
	guarded(t, netguard.Config{Watched: one(peer4), Refused: one("192.0.2.129")})
	j := &judge{decide: func(p netguard.Packet) netguard.Verdict {
		if p.Queue == netguard.QueueAddress {
			return netguard.Verdict{Decision: netguard.Pass}
		}
		return netguard.Verdict{Decision: netguard.Accept}
	}}
	listening(t, j, nil)

	if err := exchange(dial(t, "tcp", at(peer4, 4000)), []byte("hello")); err != nil {
		t.Fatalf("to a watched address: %v", err)
	}
	if a, f := len(j.seen(netguard.QueueAddress)), len(j.seen(netguard.QueueFlow)); a != 1 || f != 1 {
		t.Errorf("watched: %d packets in the address queue and %d in the flow queue, want one each", a, f)
	}
	if err := exchange(dial(t, "udp", at(peer4, 443)), quicLike()); err != nil {
		t.Fatal(err)
	}
	if _, err := net.DialTimeout("tcp", "192.0.2.129:4000", time.Second); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("connecting to a refused address: %v, want a refusal", err)
	}
	if a, f := len(j.seen(netguard.QueueAddress)), len(j.seen(netguard.QueueFlow)); a != 3 || f != 2 {
		t.Errorf("in the end %d packets in the address queue and %d in the flow queue, want 3 and 2", a, f)
	}
}
