package sniff

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// ipv4 and ipv6 put a header without checksum in front of b.
func ipv4(protocol byte, b []byte) []byte {
	h := []byte{0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 7}
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(b)))
	return append(h, b...)
}

func ipv6(next byte, b []byte) []byte {
	h := make([]byte, ipv6Header)
	h[0], h[6], h[7] = 0x60, next, 64
	binary.BigEndian.PutUint16(h[4:], uint16(len(b)))
	copy(h[8:], netip.MustParseAddr("2001:db8::1").AsSlice())
	copy(h[24:], netip.MustParseAddr("2001:db8::7").AsSlice())
	return append(h, b...)
}

func udp(payload string) []byte {
	b := []byte{0xc0, 0, 0, 53, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(b[4:], uint16(udpHeader+len(payload)))
	return append(b, payload...)
}

func tcp(payload string) []byte {
	b := make([]byte, 24) // four bytes of options
	b[0], b[3], b[12], b[13] = 0xc0, 53, 6<<4, byte(FlagACK|FlagPSH)
	binary.BigEndian.PutUint32(b[4:], 0xfffffffe)
	return append(b, payload...)
}

func TestParsePacket(t *testing.T) {
	t.Parallel()
	from4, to4 := netip.MustParseAddrPort("192.0.2.1:49152"), netip.MustParseAddrPort("192.0.2.7:53")
	from6, to6 := netip.MustParseAddrPort("[2001:db8::1]:49152"), netip.MustParseAddrPort("[2001:db8::7]:53")
	extensions := []byte{extRouting, 0, 1, 4, 0, 0, 0, 0, extAuth, 0, 0, 0, 0, 0, 0, 0, extFragment, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ProtocolUDP, 0, 0, 0, 0, 0, 0, 1}
	jumbo := ipv6(ProtocolUDP, udp("x"))
	clear(jumbo[4:6])
	syn := tcp("xyz")
	syn[13] = byte(FlagSYN)
	tests := []struct {
		name string
		data []byte
		want Packet
	}{
		{"UDP over IPv4", ipv4(ProtocolUDP, udp("x")), Packet{Protocol: ProtocolUDP, Source: from4, Dest: to4, IPHeader: 20, Header: 28, Payload: []byte("x")}},
		{"UDP over IPv6", ipv6(ProtocolUDP, udp("x")), Packet{Protocol: ProtocolUDP, Source: from6, Dest: to6, IPHeader: 40, Header: 48, Payload: []byte("x")}},
		{"TCP over IPv4", ipv4(ProtocolTCP, tcp("xyz")), Packet{Protocol: ProtocolTCP, Source: from4, Dest: to4, Seq: 0xfffffffe, Flags: FlagACK | FlagPSH, IPHeader: 20, Header: 44, Payload: []byte("xyz")}},
		{"TCP without payload", ipv6(ProtocolTCP, tcp("")), Packet{Protocol: ProtocolTCP, Source: from6, Dest: to6, Seq: 0xfffffffe, Flags: FlagACK | FlagPSH, IPHeader: 40, Header: 64}},
		{"a SYN that carries data", ipv4(ProtocolTCP, syn), Packet{Protocol: ProtocolTCP, Source: from4, Dest: to4, Seq: 0xffffffff, Flags: FlagSYN, IPHeader: 20, Header: 44, Payload: []byte("xyz")}},
		{"extension headers", ipv6(extHopByHop, append(extensions, udp("x")...)), Packet{Protocol: ProtocolUDP, Source: from6, Dest: to6, IPHeader: 76, Header: 84, Payload: []byte("x")}},
		{"a jumbogram", jumbo, Packet{Protocol: ProtocolUDP, Source: from6, Dest: to6, IPHeader: 40, Header: 48, Payload: []byte("x")}},
		{"bytes behind the packet", append(ipv4(ProtocolUDP, udp("x")), "trailer"...), Packet{Protocol: ProtocolUDP, Source: from4, Dest: to4, IPHeader: 20, Header: 28, Payload: []byte("x")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := ParsePacket(tt.data)
			if err != nil {
				t.Fatal(err)
			}
			opts := cmp.Options{cmpopts.EquateComparable(netip.AddrPort{}), cmpopts.EquateEmpty()}
			if diff := cmp.Diff(tt.want, got, opts); diff != "" {
				t.Errorf("the packet is (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParsePacketRefuses(t *testing.T) {
	t.Parallel()
	fragment4 := ipv4(ProtocolUDP, udp("x"))
	fragment4[6] = 0x20
	later4 := ipv4(ProtocolUDP, udp("x"))
	later4[7] = 1
	shortUDP := udp("x")
	shortUDP[5] = 7
	longTCP := tcp("")
	longTCP[12] = 0xf0
	badIHL := ipv4(ProtocolUDP, udp("x"))
	badIHL[0] = 0x44
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"nothing", nil, "it is empty"},
		{"another version", []byte{0x50}, "version 5"},
		{"half an IPv4 header", []byte{0x45, 0}, "IPv4 header is cut off"},
		{"half an IPv6 header", []byte{0x60, 0}, "IPv6 header is cut off"},
		{"a wrong IPv4 header length", badIHL, "header length of 16"},
		{"a packet that is cut off", ipv4(ProtocolUDP, udp("x"))[:28], "29 bytes were announced"},
		{"an IPv6 packet that is cut off", ipv6(ProtocolUDP, udp("x"))[:48], "49 bytes were announced"},
		{"a first IPv4 fragment", fragment4, ErrFragment.Error()},
		{"a later IPv4 fragment", later4, ErrFragment.Error()},
		{"an IPv6 fragment", ipv6(extFragment, append([]byte{ProtocolUDP, 0, 0, 1, 0, 0, 0, 1}, udp("x")...)), ErrFragment.Error()},
		{"a source-routed packet", ipv6(extRouting, append([]byte{ProtocolUDP, 0, 4, 1, 0, 0, 0, 0}, udp("x")...)), "source-routed"},
		{"half an extension header", ipv6(extHopByHop, []byte{ProtocolUDP, 0}), "extension header is cut off"},
		{"an extension header that is too long", ipv6(extHopByHop, []byte{ProtocolUDP, 9, 0, 0, 0, 0, 0, 0}), "extension header is cut off"},
		{"ICMP", ipv4(1, make([]byte, 8)), "protocol 1 is neither"},
		{"half a UDP header", ipv4(ProtocolUDP, make([]byte, 4)), "UDP header is cut off"},
		{"half a TCP header", ipv4(ProtocolTCP, make([]byte, 19)), "TCP header is cut off"},
		{"a wrong UDP length", ipv4(ProtocolUDP, shortUDP), "UDP length of 7"},
		{"a wrong TCP header length", ipv4(ProtocolTCP, longTCP), "TCP header length of 60"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := ParsePacket(tt.data)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %v, want one with %q", err, tt.want)
			}
			if fragment := tt.want == ErrFragment.Error(); errors.Is(err, ErrFragment) != fragment {
				t.Errorf("that the error is ErrFragment is %t, want %t", !fragment, fragment)
			}
		})
	}
}

// verifyChecksums adds a packet's words up the slow way.
func verifyChecksums(t *testing.T, data []byte) {
	t.Helper()
	onesComplement := func(parts ...[]byte) uint32 {
		var s uint32
		b := bytes.Join(parts, nil)
		if len(b)%2 == 1 {
			b = append(b, 0)
		}
		for i := 0; i < len(b); i += 2 {
			s += uint32(binary.BigEndian.Uint16(b[i:]))
			s = s&0xffff + s>>16
		}
		return s
	}
	p, err := ParsePacket(data)
	if err != nil {
		t.Fatal(err)
	}
	if data[0]>>4 == 4 {
		if s := onesComplement(data[:20]); s != 0xffff {
			t.Errorf("the IPv4 header sums up to %#x, want 0xffff", s)
		}
	}
	transport := data[p.IPHeader:]
	pseudo := []byte{0, p.Protocol, byte(len(transport) >> 8), byte(len(transport))}
	if s := onesComplement(p.Source.Addr().AsSlice(), p.Dest.Addr().AsSlice(), pseudo, transport); s != 0xffff {
		t.Errorf("the segment sums up to %#x, want 0xffff", s)
	}
}

func TestReplacePayload(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		replace func(data, payload []byte) ([]byte, error)
		data    []byte
		payload string
	}{
		{"longer UDP over IPv4", ReplaceUDPPayload, ipv4(ProtocolUDP, udp("old")), "new and longer"},
		{"shorter UDP over IPv6", ReplaceUDPPayload, ipv6(ProtocolUDP, udp("old")), "n"},
		{"no UDP payload", ReplaceUDPPayload, ipv4(ProtocolUDP, udp("old")), ""},
		{"UDP behind an extension header", ReplaceUDPPayload, ipv6(extDestination, append([]byte{ProtocolUDP, 0, 1, 4, 0, 0, 0, 0}, udp("old")...)), "new one"},
		{"TCP over IPv4", ReplaceTCPPayload, ipv4(ProtocolTCP, tcp("old")), "new"},
		{"TCP over IPv6", ReplaceTCPPayload, ipv6(ProtocolTCP, tcp("old")), "new"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			before := bytes.Clone(tt.data)
			got, err := tt.replace(tt.data, []byte(tt.payload))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(tt.data, before) {
				t.Error("the old packet was changed")
			}
			p, err := ParsePacket(got)
			if err != nil {
				t.Fatal(err)
			}
			if string(p.Payload) != tt.payload || p.Header+len(tt.payload) != len(got) {
				t.Errorf("the payload is %q in %d bytes, want %q", p.Payload, len(got), tt.payload)
			}
			verifyChecksums(t, got)
		})
	}
}

// TestUDPChecksumIsNeverZero goes through all sums: zero would mean that
// there is no checksum.
func TestUDPChecksumIsNeverZero(t *testing.T) {
	t.Parallel()
	data := ipv4(ProtocolUDP, udp("old"))
	for word := range 1 << 16 {
		got, err := ReplaceUDPPayload(data, []byte{byte(word >> 8), byte(word)})
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(got[26:28], []byte{0, 0}) {
			t.Fatalf("the checksum of %#04x is zero", word)
		}
	}
}

func TestReplacePayloadRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		replace func(data, payload []byte) ([]byte, error)
		data    []byte
		payload []byte
		want    string
	}{
		{"garbage", ReplaceUDPPayload, []byte("garbage"), nil, "IPv6 header is cut off"},
		{"TCP where UDP should be", ReplaceUDPPayload, ipv4(ProtocolTCP, tcp("old")), []byte("new"), "protocol is 6"},
		{"TCP of another length", ReplaceTCPPayload, ipv4(ProtocolTCP, tcp("old")), []byte("newer"), "keeps its length"},
		{"too much for a packet", ReplaceUDPPayload, ipv4(ProtocolUDP, udp("old")), make([]byte, 65_508), "do not fit"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := tt.replace(tt.data, tt.payload); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %v, want one with %q", err, tt.want)
			}
		})
	}
}
