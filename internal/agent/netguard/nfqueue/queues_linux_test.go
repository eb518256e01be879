package nfqueue

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"interdict/internal/agent/netguard"
	"interdict/internal/agent/netguard/nft/netnstest"
)

// holder keeps packets without an answer.
type holder struct{ held chan func(netguard.Verdict) }

func newHolder() *holder { return &holder{held: make(chan func(netguard.Verdict), 100)} }

func (h *holder) Handle(_ netguard.Packet, answer func(netguard.Verdict)) { h.held <- answer }

func TestNewNamesEveryFault(t *testing.T) {
	_, err := New(Config{Base: 65534, Deadline: -1})
	for _, want := range []string{"handler", "logger", "base 65534", "deadline"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New of a bad Config: %v, want it to name %s", err, want)
		}
	}
	if _, err := New(Config{Base: 65533, Handler: newHolder(), Logger: slog.New(slog.DiscardHandler)}); err != nil {
		t.Errorf("New with the last possible base: %v", err)
	}
}

func TestAHandlerThatPanicsCostsNoConnection(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	echo(t, linked(t), at(peer4, 4000))
	guarded(t, netguard.Config{})
	var log strings.Builder
	q := listening(t, &judge{decide: func(netguard.Packet) netguard.Verdict { panic("no parser is perfect") }},
		func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	c := dial(t, "tcp", at(peer4, 4000))
	for range 3 {
		if err := exchange(c, []byte("hello")); err != nil {
			t.Fatal(err)
		}
	}
	if n := q.Stats().Panics; n != 3 {
		t.Errorf("%d panics counted, want 3", n)
	}
	if n := strings.Count(log.String(), "no parser is perfect"); n != 1 {
		t.Errorf("%d panics logged, want 1:\n%s", n, log.String())
	}
}

func TestALatePacketGetsTheConfiguredOutcome(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	echo(t, linked(t), at(peer4, 4000))
	guarded(t, netguard.Config{})
	for name, failClosed := range map[string]bool{"it passes": false, "it is refused when failing closed": true} {
		t.Run(name, func(t *testing.T) {
			h := newHolder()
			q := listening(t, h, func(c *Config) { c.Deadline, c.FailClosed = 50*time.Millisecond, failClosed })
			defer func() {
				if err := q.Shutdown(context.Background()); err != nil {
					t.Error(err)
				}
			}()
			start := time.Now()
			err := exchange(dial(t, "tcp", at(peer4, 4000)), []byte("hello"))
			if failClosed != errors.Is(err, unix.ECONNRESET) || !failClosed && err != nil {
				t.Errorf("the connection ended with %v", err)
			}
			if took := time.Since(start); took < 50*time.Millisecond {
				t.Errorf("answered after %v, before the deadline", took)
			}
			answer := <-h.held
			answer(netguard.Verdict{Decision: netguard.Drop})
			if s := q.Stats(); s.Late != 1 || s.Waiting != 0 || s.Repeated != 0 || s.Unsent != 0 {
				t.Errorf("counted %+v, want one late packet and nothing else", s)
			}
		})
	}
}

func TestTheFirstAnswerCounts(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	echo(t, linked(t), at(peer4, 4000))
	guarded(t, netguard.Config{})
	h := newHolder()
	q := listening(t, h, nil)
	c := dial(t, "tcp", at(peer4, 4000))
	done := make(chan error)
	go func() { done <- exchange(c, []byte("hello")) }()
	answer := <-h.held
	answer(netguard.Verdict{Decision: netguard.Accept})
	answer(netguard.Verdict{Decision: netguard.Refuse})
	if err := <-done; err != nil {
		t.Errorf("the accepted connection: %v", err)
	}
	if n := q.Stats().Repeated; n != 1 {
		t.Errorf("%d repeated answers counted, want 1", n)
	}
}

func TestSettingTheRulesAgainLosesNoWaitingPacket(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	echo(t, linked(t), at(peer4, 4000))
	g := guarded(t, netguard.Config{})
	h := newHolder()
	listening(t, h, func(c *Config) { c.Deadline = 10 * time.Second })
	c := dial(t, "tcp", at(peer4, 4000))
	done := make(chan error)
	go func() { done <- exchange(c, []byte("hello")) }()
	answer := <-h.held
	if err := g.Set(t.Context(), netguard.Config{Inspect: true, QueueBase: base, Gateway: true}); err != nil {
		t.Fatal(err)
	}
	answer(netguard.Verdict{Decision: netguard.Accept})
	// A lost packet would come again after a retransmission time-out.
	if err := <-done; err != nil || retransmissions(t, c) > 0 {
		t.Errorf("the connection went on with %v after %d retransmissions", err, retransmissions(t, c))
	}
}

func TestShutdownLetsWaitingPacketsGo(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	echo(t, linked(t), at(peer4, 4000))
	guarded(t, netguard.Config{})
	h := newHolder()
	q := listening(t, h, func(c *Config) { c.Deadline = 10 * time.Second })
	c := dial(t, "tcp", at(peer4, 4000))
	done := make(chan error)
	go func() { done <- exchange(c, []byte("hello")) }()
	answer := <-h.held
	if err := q.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	answer(netguard.Verdict{Decision: netguard.Refuse})
	if err := <-done; err != nil || retransmissions(t, c) > 0 {
		t.Errorf("the connection went on with %v after %d retransmissions", err, retransmissions(t, c))
	}
}

func TestTwoAgentsCannotListen(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	listening(t, newHolder(), nil)
	q, err := New(Config{Base: base, Handler: newHolder(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Start(t.Context()); !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EPERM) {
		t.Errorf("starting a second agent: %v, want a clear error", err)
	} else {
		t.Log(err)
	}
}

func TestForwardedConnections(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	server := linked(t)
	client := netnstest.NewPeer(t)
	client.Link("idt-inner", []string{"198.51.100.1/24", "2001:db8:1::1/64"}, "idt-client", []string{"198.51.100.2/24", "2001:db8:1::2/64"})
	client.Run("ip", "route", "add", "default", "via", "198.51.100.1")
	client.Run("ip", "route", "add", "default", "via", "2001:db8:1::1")
	server.Run("ip", "route", "add", "default", "via", host4)
	server.Run("ip", "route", "add", "default", "via", host6)
	netnstest.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	from := func(t *testing.T, network, address string) (c net.Conn) {
		t.Helper()
		client.Do(func() (err error) {
			c, err = net.DialTimeout(network, address, 2*time.Second)
			return err
		})
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	both(t, func(t *testing.T, _, peer string) {
		t.Helper()
		ended := echo(t, server, at(peer, 4000))
		guarded(t, netguard.Config{})
		j := &judge{decide: func(p netguard.Packet) netguard.Verdict {
			if strings.Contains(string(p.Data), "evil") {
				return netguard.Verdict{Decision: netguard.Refuse}
			}
			return netguard.Verdict{Decision: netguard.Accept}
		}}
		q := listening(t, j, nil)
		defer func() { _ = q.Shutdown(context.Background()) }()
		good := from(t, "tcp", at(peer, 4000))
		for range 3 {
			if err := exchange(good, []byte("good")); err != nil {
				t.Fatal(err)
			}
		}
		seen := j.seen(netguard.QueueFlow)
		if len(seen) != 1 || seen[0].Hook != netguard.HookForward || seen[0].HasUID {
			t.Errorf("queued %d packets, want 1 at FORWARD without a user", len(seen))
		}
		if err := exchange(from(t, "tcp", at(peer, 4000)), []byte("evil")); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("the refused client saw %v, want a reset", err)
		}
		if err := <-ended; !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("the server saw %v, want a reset", err)
		}
		echoUDP(t, server, at(peer, 53))
		if err := exchange(from(t, "udp", at(peer, 53)), []byte("question")); err != nil {
			t.Fatal(err)
		}
		if seen := j.seen(netguard.QueueDNS); len(seen) != 1 || seen[0].Hook != netguard.HookForward {
			t.Errorf("queued %d answers of a name server, want 1 at FORWARD", len(seen))
		}
	})
}

// retransmissions is how often a TCP connection had to repeat itself.
func retransmissions(t *testing.T, c net.Conn) uint32 {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	controlErr := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if controlErr != nil || err != nil {
		t.Fatalf("reading the connection's counters: %v, %v", controlErr, err)
	}
	return info.Total_retrans
}
