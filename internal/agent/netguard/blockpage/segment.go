package blockpage

import (
	"encoding/binary"

	"interdict/internal/agent/sniff"
)

// hopLimit keeps a segment from ever being forwarded.
const hopLimit = 1

// Segment returns the packet that carries a response to a request as if the
// server had sent it, and with it the connection's end: lengths and checksums
// are right. The response must be one that [Response] made.
func (r *Request) Segment(packet, response []byte) []byte {
	asked := packet[r.segment.IPHeader:r.segment.Header]
	t := make([]byte, tcpLength, tcpLength+timestampsLength+2+len(response))
	binary.BigEndian.PutUint16(t[0:], r.segment.Dest.Port())
	binary.BigEndian.PutUint16(t[2:], r.segment.Source.Port())
	copy(t[4:8], asked[8:12]) // What the program expects next.
	binary.BigEndian.PutUint32(t[8:], r.segment.Seq+uint32(len(r.segment.Payload)))
	t[13] = byte(sniff.FlagACK | sniff.FlagPSH | sniff.FlagFIN)
	copy(t[14:16], asked[14:16]) // Any window will do: nothing more will be taken.
	if r.timestamps != nil {
		// A connection that began with timestamps has them in every segment
		// (RFC 7323, section 3.2). The newest of the server's that the
		// program has seen is not too old to be taken.
		t = append(t, optionNone, optionNone, optionTimestamps, timestampsLength)
		t = append(append(t, r.timestamps[6:10]...), r.timestamps[2:6]...)
	}
	t[12] = byte(len(t) / 4 << 4)
	t = append(t, response...)

	from, to := r.segment.Dest.Addr(), r.segment.Source.Addr()
	pseudo := sum(sum(uint64(len(t))+sniff.ProtocolTCP, from.AsSlice()), to.AsSlice())
	binary.BigEndian.PutUint16(t[16:], ^fold(sum(pseudo, t)))

	var ip []byte
	if from.Is4() {
		ip = make([]byte, ipv4Length, ipv4Length+len(t))
		ip[0], ip[8], ip[9] = 4<<4|ipv4Length/4, hopLimit, sniff.ProtocolTCP
		binary.BigEndian.PutUint16(ip[2:], uint16(ipv4Length+len(t)))
		ip[6] = 0x40 // Don't fragment.
		copy(ip[12:], from.AsSlice())
		copy(ip[16:], to.AsSlice())
		binary.BigEndian.PutUint16(ip[10:], ^fold(sum(0, ip)))
	} else {
		ip = make([]byte, ipv6Length, ipv6Length+len(t))
		ip[0], ip[6], ip[7] = 6<<4, sniff.ProtocolTCP, hopLimit
		binary.BigEndian.PutUint16(ip[4:], uint16(len(t)))
		copy(ip[8:], from.AsSlice())
		copy(ip[24:], to.AsSlice())
	}
	return append(ip, t...)
}

// sum adds the 16-bit words of b to a running sum, and fold makes a sum the
// Internet checksum's (RFC 1071), not yet complemented.
func sum(s uint64, b []byte) uint64 {
	for ; len(b) >= 2; b = b[2:] {
		s += uint64(binary.BigEndian.Uint16(b))
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
