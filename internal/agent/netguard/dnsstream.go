package netguard

import (
	"encoding/binary"
)

// maxDNSStreams bounds the connections to name servers that are followed at
// once. One pushed out is taken up again where a message begins.
const maxDNSStreams = 1 << 10

// dnsStream follows the answers in a connection to a name server over TCP,
// where each message stands behind two bytes that say its length (RFC 1035,
// section 4.2.2), however they are cut into segments.
type dnsStream struct {
	// next is the sequence number that the following segment has to have.
	next uint32
	// prefix is what is there of a length whose message has not begun.
	prefix []byte
	// skip is what is left of a message whose beginning has been judged.
	skip int
}

// dnsPart is the beginning of a message, or all of it, within a segment.
type dnsPart struct {
	// bytes shares its memory with the segment.
	bytes []byte
	// length is the message's own.
	length int
}

// parts returns the messages that begin in a segment. A segment out of order
// is taken for the beginning of a message: what it repeats the client's TCP
// has already, as it was passed on.
func (s *dnsStream) parts(seq uint32, payload []byte) []dnsPart {
	if seq != s.next {
		*s = dnsStream{}
	}
	s.next = seq + uint32(len(payload))
	skipped := min(s.skip, len(payload))
	s.skip -= skipped
	rest := payload[skipped:]
	var all []dnsPart
	for len(rest) > 0 {
		missing := min(2-len(s.prefix), len(rest))
		s.prefix, rest = append(s.prefix, rest[:missing]...), rest[missing:]
		if len(s.prefix) < 2 || len(rest) == 0 {
			break
		}
		length := int(binary.BigEndian.Uint16(s.prefix))
		here := min(length, len(rest))
		all = append(all, dnsPart{bytes: rest[:here:here], length: length})
		s.prefix, s.skip, rest = nil, length-here, rest[here:]
	}
	return all
}
