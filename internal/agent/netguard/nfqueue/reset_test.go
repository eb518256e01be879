package nfqueue

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

// segment4 and segment6 are a client's first payload.
func segment4() []byte {
	p := make([]byte, 20+20+5)
	p[0], p[3], p[8], p[9] = 0x45, byte(len(p)), 64, protocolTCP
	copy(p[12:], []byte{192, 0, 2, 1, 192, 0, 2, 2})
	return fillTCP(p, 20)
}

func segment6() []byte {
	p := make([]byte, 40+20+5)
	p[0], p[5], p[6], p[7] = 0x60, 25, protocolTCP, 64
	copy(p[8:], netip.MustParseAddr("2001:db8::1").AsSlice())
	copy(p[24:], netip.MustParseAddr("2001:db8::2").AsSlice())
	return fillTCP(p, 40)
}

func fillTCP(p []byte, at int) []byte {
	copy(p[at:], []byte{0x9c, 0x40, 0x01, 0xbb, 1, 2, 3, 4, 5, 6, 7, 8, 5 << 4, 0x18, 1, 0, 0, 0, 0, 0})
	copy(p[at+20:], "hello")
	return p
}

// checksum is the checksum of the internet protocols (RFC 1071); zero if one
// that is right is among parts.
func checksum(sum uint32, parts ...[]byte) uint16 {
	for _, p := range parts {
		for i, b := range p {
			sum += uint32(b) << (8 * (1 - i%2))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func TestResetForAnswersInTheClientsName(t *testing.T) {
	for name, test := range map[string]struct {
		packet []byte
		header int
		to     string
	}{
		"IPv4": {segment4(), 20, "192.0.2.2"},
		"IPv6": {segment6(), 40, "2001:db8::2"},
	} {
		reset, to, ok := resetFor(test.packet)
		if !ok || to != netip.MustParseAddr(test.to) || len(reset) != test.header+20 {
			t.Errorf("%s: resetFor = %x to %v, %v, want a header to %s", name, reset, to, ok, test.to)
			continue
		}
		tcp := reset[test.header:]
		if !bytes.Equal(tcp[:12], test.packet[test.header:test.header+12]) || tcp[13] != flagRST|flagACK {
			t.Errorf("%s: TCP header %x, want ports and numbers of the segment and a reset", name, tcp)
		}
		addresses := reset[12:20]
		if test.header == 40 {
			addresses = reset[8:40]
		}
		if sum := checksum(protocolTCP+tcpLength, addresses, tcp); sum != 0 {
			t.Errorf("%s: checksum %#x of %x is off by %#x", name, binary.BigEndian.Uint16(tcp[16:]), tcp, sum)
		}
	}
}

func TestResetForLeavesAllElseAlone(t *testing.T) {
	udp, syn, short := segment4(), segment6(), segment4()[:39]
	udp[9], syn[40+13] = 17, flagSYN
	long := segment4()
	long[0] = 0x4f
	for name, packet := range map[string][]byte{
		"nothing": nil, "a datagram": udp, "a SYN": syn, "a cut header": short, "more options than packet": long, "version 5": {0x50},
	} {
		if reset, _, ok := resetFor(packet); ok {
			t.Errorf("%s: resetFor(%x) = %x, want none", name, packet, reset)
		}
	}
}

func FuzzResetFor(f *testing.F) {
	f.Add(segment4())
	f.Add(segment6())
	f.Add([]byte{0x4f})
	f.Fuzz(func(t *testing.T, packet []byte) {
		reset, to, ok := resetFor(packet)
		if ok && (len(reset) != 40 && len(reset) != 60 || !to.IsValid()) {
			t.Errorf("resetFor(%x) = %x to %v", packet, reset, to)
		}
	})
}
