package sniff

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// Protocol numbers (RFC 9293, RFC 768) as [Packet.Protocol] has them.
const (
	ProtocolTCP = 6
	ProtocolUDP = 17
)

// TCPFlags are the flags of a TCP segment (RFC 9293, section 3.1).
type TCPFlags uint8

// The flags that matter to somebody who watches connections.
const (
	FlagFIN TCPFlags = 1 << iota
	FlagSYN
	FlagRST
	FlagPSH
	FlagACK
)

// ErrFragment says that a packet is a fragment of another, which has to be
// put together before it can be read.
var ErrFragment = errors.New("the packet is a fragment")

// Sizes of headers, and IPv6 extension headers (RFC 8200, section 4; RFC
// 4302, section 2).
const (
	ipv4Header = 20
	ipv6Header = 40
	tcpHeader  = 20
	udpHeader  = 8

	extHopByHop    = 0
	extRouting     = 43
	extFragment    = 44
	extAuth        = 51
	extDestination = 60
	extLeast       = 8
)

// Packet is a TCP or UDP packet taken apart.
type Packet struct {
	// Protocol is ProtocolTCP or ProtocolUDP.
	Protocol     uint8
	Source, Dest netip.AddrPort
	// Seq is the sequence number of the first byte of a TCP segment's
	// payload: a SYN has one of its own before it (RFC 9293, section 3.4),
	// also when it carries data (RFC 7413). Flags are the segment's. Both
	// are zero for UDP.
	Seq   uint32
	Flags TCPFlags
	// IPHeader is the number of bytes before the TCP or UDP header,
	// extension headers included; Header the number before the payload.
	IPHeader, Header int
	// Payload shares its memory with the packet.
	Payload []byte
}

// ParsePacket takes an IPv4 or IPv6 packet apart. Checksums are not checked:
// where the kernel hands packets over, network hardware may not have filled
// them in yet. Bytes behind the packet are ignored. A fragment gives an error
// that is [ErrFragment]. Anything but TCP and UDP is an error too, and so is a
// source-routed packet, whose destination is not where it goes.
func ParsePacket(data []byte) (Packet, error) {
	if len(data) == 0 {
		return Packet{}, errors.New("reading a packet: it is empty")
	}
	var p Packet
	var err error
	var ip network
	switch version := data[0] >> 4; version {
	case 4:
		ip, err = parseIPv4(data)
	case 6:
		ip, err = parseIPv6(data)
	default:
		err = fmt.Errorf("version %d is not 4 or 6", version)
	}
	if err == nil {
		p, err = parseTransport(data[:ip.total], ip)
	}
	if err != nil {
		return Packet{}, fmt.Errorf("reading a packet of %d bytes: %w", len(data), err)
	}
	return p, nil
}

// network is what an IP header says.
type network struct {
	source, dest netip.Addr
	protocol     uint8
	// header is the number of bytes before the transport header, total
	// that of the packet.
	header, total int
}

func parseIPv4(b []byte) (network, error) {
	if len(b) < ipv4Header {
		return network{}, errors.New("the IPv4 header is cut off")
	}
	const moreFragmentsAndOffset = 0x3fff
	header, total := int(b[0]&0x0f)*4, int(binary.BigEndian.Uint16(b[2:]))
	if total == 0 {
		total = len(b) // longer than 64 KiB: the kernel's "BIG TCP"
	}
	switch {
	case header < ipv4Header || header > total:
		return network{}, fmt.Errorf("a header length of %d is wrong", header)
	case total > len(b):
		return network{}, fmt.Errorf("%d bytes were announced", total)
	case binary.BigEndian.Uint16(b[6:])&moreFragmentsAndOffset != 0:
		return network{}, ErrFragment
	}
	return network{
		source:   netip.AddrFrom4([4]byte(b[12:])),
		dest:     netip.AddrFrom4([4]byte(b[16:])),
		protocol: b[9],
		header:   header,
		total:    total,
	}, nil
}

func parseIPv6(b []byte) (network, error) {
	if len(b) < ipv6Header {
		return network{}, errors.New("the IPv6 header is cut off")
	}
	total := ipv6Header + int(binary.BigEndian.Uint16(b[4:]))
	if total == ipv6Header {
		total = len(b) // a jumbogram: see parseIPv4
	}
	if total > len(b) {
		return network{}, fmt.Errorf("%d bytes were announced", total)
	}
	n := network{
		source:   netip.AddrFrom16([16]byte(b[8:])),
		dest:     netip.AddrFrom16([16]byte(b[24:])),
		protocol: b[6],
		header:   ipv6Header,
		total:    total,
	}
	return n.skipExtensions(b[:total])
}

// skipExtensions goes through the extension headers up to the transport's.
func (n network) skipExtensions(b []byte) (network, error) {
	for {
		rest := b[n.header:]
		switch n.protocol {
		case extHopByHop, extDestination, extRouting, extFragment, extAuth:
		default:
			return n, nil
		}
		if len(rest) < extLeast {
			return network{}, errors.New("an extension header is cut off")
		}
		size := (int(rest[1]) + 1) * 8
		switch {
		case n.protocol == extRouting && rest[3] != 0:
			return network{}, errors.New("the packet is source-routed")
		case n.protocol == extFragment && binary.BigEndian.Uint16(rest[2:])&0xfff9 != 0:
			return network{}, ErrFragment
		case n.protocol == extFragment: // an atomic one (RFC 6946)
			size = extLeast
		case n.protocol == extAuth:
			size = (int(rest[1]) + 2) * 4
		}
		if size > len(rest) {
			return network{}, errors.New("an extension header is cut off")
		}
		n.protocol = rest[0]
		n.header += size
	}
}

// parseTransport reads the TCP or UDP header of the packet b.
func parseTransport(b []byte, ip network) (Packet, error) {
	p := Packet{Protocol: ip.protocol, IPHeader: ip.header}
	t := b[ip.header:]
	size := udpHeader
	switch ip.protocol {
	case ProtocolTCP:
		if len(t) < tcpHeader {
			return Packet{}, errors.New("the TCP header is cut off")
		}
		p.Seq, p.Flags = payloadSeq(t), TCPFlags(t[13])
		if size = int(t[12]>>4) * 4; size < tcpHeader || size > len(t) {
			return Packet{}, fmt.Errorf("a TCP header length of %d is wrong", size)
		}
	case ProtocolUDP:
		if len(t) < udpHeader {
			return Packet{}, errors.New("the UDP header is cut off")
		}
		// Zero stands for a jumbogram (RFC 2675, section 4).
		if n := int(binary.BigEndian.Uint16(t[4:])); n != 0 {
			if n < udpHeader || n > len(t) {
				return Packet{}, fmt.Errorf("a UDP length of %d is wrong", n)
			}
			t = t[:n]
		}
	default:
		return Packet{}, fmt.Errorf("protocol %d is neither TCP nor UDP", ip.protocol)
	}
	p.Source = netip.AddrPortFrom(ip.source, binary.BigEndian.Uint16(t))
	p.Dest = netip.AddrPortFrom(ip.dest, binary.BigEndian.Uint16(t[2:]))
	p.Header = ip.header + size
	p.Payload = t[size:]
	return p, nil
}

// payloadSeq is Packet.Seq of a TCP segment.
func payloadSeq(t []byte) uint32 {
	seq := binary.BigEndian.Uint32(t[4:])
	if TCPFlags(t[13])&FlagSYN != 0 {
		seq++
	}
	return seq
}

// ReplaceUDPPayload returns a new packet that is data, a whole UDP packet,
// with another payload: lengths and checksums are right.
func ReplaceUDPPayload(data, payload []byte) ([]byte, error) {
	return replacePayload(data, payload, ProtocolUDP)
}

// ReplaceTCPPayload returns a new packet that is data, a whole TCP segment,
// with another payload, which must be as long as the old one: sequence
// numbers count it.
func ReplaceTCPPayload(data, payload []byte) ([]byte, error) {
	return replacePayload(data, payload, ProtocolTCP)
}

func replacePayload(data, payload []byte, protocol uint8) ([]byte, error) {
	p, err := ParsePacket(data)
	if err != nil {
		return nil, fmt.Errorf("replacing a payload: %w", err)
	}
	total := p.Header + len(payload)
	switch {
	case p.Protocol != protocol:
		return nil, fmt.Errorf("replacing a payload: the protocol is %d and not %d", p.Protocol, protocol)
	case total > 0xffff:
		return nil, fmt.Errorf("replacing a payload: %d bytes do not fit into a packet", len(payload))
	case protocol == ProtocolTCP && len(payload) != len(p.Payload):
		return nil, fmt.Errorf("replacing a payload of %d bytes by %d: a segment keeps its length",
			len(p.Payload), len(payload))
	}
	out := make([]byte, 0, total)
	out = append(append(out, data[:p.Header]...), payload...)
	sealIP(out)
	sealTransport(out, p)
	return out, nil
}

// sealIP writes lengths and, for IPv4, the header checksum (RFC 791, section
// 3.1).
func sealIP(b []byte) {
	if b[0]>>4 == 6 {
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-ipv6Header))
		return
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[10:], 0)
	binary.BigEndian.PutUint16(b[10:], ^fold(sum(0, b[:int(b[0]&0x0f)*4])))
}

// sealTransport writes the UDP length and the checksum, which covers a pseudo
// header of addresses, length and protocol (RFC 768; RFC 9293, section 3.1;
// RFC 8200, section 8.1).
func sealTransport(b []byte, p Packet) {
	t := b[p.IPHeader:]
	at := 16
	if p.Protocol == ProtocolUDP {
		binary.BigEndian.PutUint16(t[4:], uint16(len(t)))
		at = 6
	}
	check := t[at : at+2]
	clear(check)
	pseudo := uint64(len(t)) + uint64(p.Protocol)
	pseudo = sum(pseudo, p.Source.Addr().AsSlice())
	pseudo = sum(pseudo, p.Dest.Addr().AsSlice())
	c := ^fold(sum(pseudo, t))
	if c == 0 && p.Protocol == ProtocolUDP {
		c = 0xffff // zero would say that there is no checksum
	}
	binary.BigEndian.PutUint16(check, c)
}

// sum adds the 16-bit words of b to a running sum, and fold makes a sum the
// Internet checksum's (RFC 1071), not yet complemented.
func sum(s uint64, b []byte) uint64 {
	for ; len(b) >= 2; b = b[2:] {
		s += uint64(b[0])<<8 | uint64(b[1])
	}
	if len(b) == 1 {
		s += uint64(b[0]) << 8
	}
	return s
}

func fold(s uint64) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
