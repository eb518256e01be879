package nfqueue

import (
	"encoding/binary"
	"net/netip"
)

// Lengths and offsets of RFC 791, RFC 8200 and RFC 9293.
const (
	ipv4Length  = 20
	ipv6Length  = 40
	tcpLength   = 20
	protocolTCP = 6

	flagSYN = 0x02
	flagRST = 0x04
	flagACK = 0x10
)

// resetFor returns the packet that ends, on its receiver's side, the
// connection that a TCP segment belongs to, and that receiver. The segment
// itself must not have been delivered: a receiver obeys a reset whose
// sequence number is exactly the next it expects (RFC 9293, 3.10.7.4). It
// reports false for all else than TCP in plain IPv4 or IPv6, and for a SYN.
func resetFor(packet []byte) (reset []byte, to netip.Addr, ok bool) {
	if len(packet) == 0 {
		return nil, netip.Addr{}, false
	}
	switch packet[0] >> 4 {
	case 4:
		header := int(packet[0]&0xf) * 4
		if header < ipv4Length || len(packet) < header+tcpLength || packet[9] != protocolTCP {
			return nil, netip.Addr{}, false
		}
		reset = make([]byte, ipv4Length+tcpLength)
		reset[0] = 0x45
		binary.BigEndian.PutUint16(reset[2:], uint16(len(reset)))
		reset[8], reset[9] = 64, protocolTCP
		copy(reset[12:ipv4Length], packet[12:ipv4Length])
		// The kernel fills in the checksum of the IPv4 header.
		ok = turnIntoReset(reset[ipv4Length:], packet[header:], reset[12:ipv4Length])
		return reset, netip.AddrFrom4([4]byte(packet[16:20])), ok
	case 6:
		if len(packet) < ipv6Length+tcpLength || packet[6] != protocolTCP {
			return nil, netip.Addr{}, false
		}
		reset = make([]byte, ipv6Length+tcpLength)
		reset[0] = 0x60
		binary.BigEndian.PutUint16(reset[4:], tcpLength)
		reset[6], reset[7] = protocolTCP, 64
		copy(reset[8:ipv6Length], packet[8:ipv6Length])
		ok = turnIntoReset(reset[ipv6Length:], packet[ipv6Length:], reset[8:ipv6Length])
		return reset, netip.AddrFrom16([16]byte(packet[24:40])), ok
	}
	return nil, netip.Addr{}, false
}

// turnIntoReset fills reset, a TCP header, from the segment it answers for.
func turnIntoReset(reset, segment, addresses []byte) bool {
	if segment[13]&(flagSYN|flagRST) != 0 {
		return false
	}
	copy(reset[:12], segment[:12])
	reset[12] = tcpLength / 4 << 4
	reset[13] = flagRST | flagACK
	sum := uint32(protocolTCP + tcpLength)
	for _, part := range [][]byte{addresses, reset} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(reset[16:], ^uint16(sum))
	return true
}
