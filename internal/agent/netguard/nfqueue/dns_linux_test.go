package nfqueue

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"interdict/internal/agent/netguard"
	"interdict/internal/agent/netguard/nft/netnstest"
)

// withPayload returns a packet with another payload, lengths and checksums
// right: what a handler has to put into Verdict.Data.
func withPayload(packet, payload []byte) []byte {
	ip, length, pseudo := 20, 2, packet[12:20]
	if packet[0]>>4 == 6 {
		ip, length, pseudo = 40, 4, packet[8:40]
	}
	protocol := packet[9]
	if ip == 40 {
		protocol = packet[6]
	}
	transport, sum := 8, 6
	if protocol == 6 {
		transport, sum = int(packet[ip+12]>>4)*4, 16
	}
	out := append(append([]byte{}, packet[:ip+transport]...), payload...)
	size := uint16(len(out))
	if ip == 40 {
		size -= 40
	}
	binary.BigEndian.PutUint16(out[length:], size)
	segment := out[ip:]
	if protocol == 17 {
		binary.BigEndian.PutUint16(segment[4:], uint16(len(segment)))
	}
	binary.BigEndian.PutUint16(segment[sum:], 0)
	binary.BigEndian.PutUint16(segment[sum:], checksum(uint32(protocol)+uint32(len(segment)), pseudo, segment))
	if ip == 20 {
		binary.BigEndian.PutUint16(out[10:], 0)
		binary.BigEndian.PutUint16(out[10:], checksum(0, out[:20]))
	}
	return out
}

func TestAnswersOfNameServersArriveReplaced(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	const longer = "a much longer answer than the one the server gave"
	j := &judge{decide: func(p netguard.Packet) netguard.Verdict {
		if p.Queue != netguard.QueueDNS {
			return netguard.Verdict{Decision: netguard.Refuse}
		}
		payload := longer
		if p.Data[0]>>4 == 4 && p.Data[9] == 6 || p.Data[0]>>4 == 6 && p.Data[6] == 6 {
			payload = "REPLACED"
		}
		return netguard.Verdict{Decision: netguard.Replace, Data: withPayload(p.Data, []byte(payload))}
	}}
	both(t, func(t *testing.T, _, peer string) {
		t.Helper()
		p := linkedOnce(t)
		echo(t, p, at(peer, 53))
		echoUDP(t, p, at(peer, 53))
		guarded(t, netguard.Config{})
		listening(t, j, nil)
		for network, want := range map[string]string{"tcp": "REPLACED", "udp": longer} {
			c := dial(t, network, at(peer, 53))
			_ = c.SetDeadline(time.Now().Add(2 * time.Second))
			if _, err := c.Write([]byte("question")); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(want))
			if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
				t.Errorf("over %s: got %q, %v, want %q", network, got, err, want)
			}
		}
	})
}

func TestAnswersOverLoopbackAreQueuedOnce(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	l, err := net.ListenPacket("udp", "127.0.0.53:53")
	if err != nil {
		t.Fatal(err)
	}
	serveUDP(t, l)
	guarded(t, netguard.Config{})
	j := &judge{}
	listening(t, j, nil)
	if err := exchange(dial(t, "udp", "127.0.0.53:53"), []byte("question")); err != nil {
		t.Fatal(err)
	}
	seen := j.seen(netguard.QueueDNS)
	if len(seen) != 1 || seen[0].Hook != netguard.HookInput {
		t.Errorf("queued %+v, want one packet at INPUT", seen)
	}
}

// echoUDP serves UDP at an address of the peer.
func echoUDP(tb testing.TB, p *netnstest.Peer, address string) {
	tb.Helper()
	var l net.PacketConn
	p.Do(func() (err error) {
		l, err = net.ListenPacket("udp", address)
		return err
	})
	serveUDP(tb, l)
}

func serveUDP(tb testing.TB, l net.PacketConn) {
	tb.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 2048)
		for {
			n, from, err := l.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = l.WriteTo(buffer[:n], from)
		}
	}()
	tb.Cleanup(func() {
		_ = l.Close()
		<-done
	})
}
