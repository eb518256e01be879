package nfqueue

import (
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"interdict/internal/agent/netguard"
	"interdict/internal/agent/netguard/nft"
	"interdict/internal/agent/netguard/nft/netnstest"
)

// peerWatched are the addresses of the server machine.
func peerWatched() netguard.Config {
	var c netguard.Config
	for _, a := range []string{peer4, peer6} {
		c.Watched = append(c.Watched, netguard.Range{From: netip.MustParseAddr(a), To: netip.MustParseAddr(a)})
	}
	return c
}

// ping sends an echo request (RFC 792) and reports whether it is answered.
func ping(t *testing.T, address string, id byte) bool {
	t.Helper()
	c, err := net.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	request := []byte{8, 0, 0xf7, 0xfe - id, 0, id, 0, 1}
	if _, err := c.WriteTo(request, &net.IPAddr{IP: net.ParseIP(address)}); err != nil {
		return false
	}
	_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	for {
		reply := make([]byte, 1500)
		n, _, err := c.ReadFrom(reply)
		if err != nil {
			return false
		}
		// An error is no answer.
		if n >= len(request) && reply[0] == 0 && reply[5] == id {
			return true
		}
	}
}

func TestTheAnswerAboutAWatchedAddressIsObeyed(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	both(t, func(t *testing.T, _, peer string) {
		t.Helper()
		p := linkedOnce(t)
		echo(t, p, at(peer, 4000))
		echoUDP(t, p, at(peer, 4000))
		g := guarded(t, peerWatched())
		listening(t, always(netguard.Refuse), nil)
		for range 2 {
			if _, err := net.DialTimeout("tcp", at(peer, 4000), time.Second); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("connecting: %v, want a refusal", err)
			}
		}
		c := dial(t, "udp", at(peer, 4000))
		if err := exchange(c, []byte("x")); err == nil || errors.Is(err, unix.ETIMEDOUT) {
			t.Errorf("sending a datagram: %v, want a refusal", err)
		}
		counts, err := g.Counters(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if counts[nft.CounterQueuedAddress] < 3 || counts[nft.CounterRefusedPackets] < 3 {
			t.Errorf("counters %v, want three first packets queued and refused", counts)
		}
	})
}

func TestAPingToAWatchedAddressIsAskedAbout(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	linked(t)
	guarded(t, peerWatched())
	var refuse atomic.Bool
	j := &judge{decide: func(netguard.Packet) netguard.Verdict {
		if refuse.Load() {
			return netguard.Verdict{Decision: netguard.Refuse}
		}
		return netguard.Verdict{Decision: netguard.Pass}
	}}
	listening(t, j, nil)
	if !ping(t, peer4, 1) {
		t.Error("a ping that may pass is not answered")
	}
	refuse.Store(true)
	if ping(t, peer4, 2) {
		t.Error("a ping that is refused is answered")
	}
	if n := len(j.seen(netguard.QueueAddress)); n != 2 {
		t.Errorf("%d packets were queued, want 2", n)
	}
}

func TestWithoutAListenerAWatchedAddressIsLeftToTheFailMode(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	echo(t, linked(t), at(peer4, 4000))
	guarded(t, peerWatched())
	if err := exchange(dial(t, "tcp", at(peer4, 4000)), []byte("hello")); err != nil {
		t.Errorf("failing open: %v", err)
	}
	closed := peerWatched()
	closed.FailClosed = true
	guarded(t, closed)
	if c, err := net.DialTimeout("tcp", at(peer4, 4000), 300*time.Millisecond); err == nil {
		_ = c.Close()
		t.Error("failing closed: it was connected to")
	}
}
