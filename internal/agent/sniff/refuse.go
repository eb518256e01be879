package sniff

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/miekg/dns"
)

// ErrLength says that no refusal of the demanded length can be made.
var ErrLength = errors.New("no answer of this length is possible")

// maxReason bounds the text sent to the client: it fills one character
// string, and a refusal stays far below the smallest datagram.
const maxReason = 200

// RefuseOptions says how an answer is to be refused.
type RefuseOptions struct {
	// Reason is a sentence for people, sent where the client understands
	// extended errors. It is cut to 200 bytes, and to the room there is.
	Reason string
	// Length is the exact number of bytes that the result must have,
	// which a message in the middle of a TCP connection needs. Zero lets
	// it have the length it takes.
	Length int
}

// RefuseDNS returns the answer that takes the place of msg, itself an answer:
// NXDOMAIN, with the same id, question and flags RD, RA and CD. When msg has
// EDNS, which says that its query had it, so does the result, with the
// extended error 15, Blocked (RFC 8914, section 4.16). There is no SOA record,
// so that nobody keeps the answer (RFC 2308, section 5): when the name is
// allowed again it is back at once. A DNS cookie is handed on.
//
// Length is reached with EDNS padding (RFC 7830), or with a record of private
// type in the additional section where there is no EDNS. Lengths that have no room for
// either give an error that is ErrLength; no answer that a server sends has
// such a length.
func RefuseDNS(msg []byte, opt RefuseOptions) ([]byte, error) {
	if opt.Length > dns.MaxMsgSize {
		return nil, fmt.Errorf("refusing in %d bytes: %w", opt.Length, ErrLength)
	}
	m, err := parseMessage(msg)
	if err != nil {
		return nil, err
	}
	out := append(make([]byte, 0, max(opt.Length, dns.MinMsgSize)), msg[:m.question]...)
	const keepRD, keepRACD = 0x01, 0x90
	out[2] = 0x80 | out[2]&keepRD
	out[3] = out[3]&keepRACD | dns.RcodeNameError
	clear(out[6:dnsHeader])

	reason := cutText(strings.ToValidUTF8(opt.Reason, "?"), maxReason)
	room := opt.Length - len(out)
	old := m.edns()
	switch {
	case old != nil:
		out = m.appendEDNS(out, old, reason, opt.Length)
	case room > 0:
		out = appendFiller(out, room)
	}
	if opt.Length != 0 && len(out) != opt.Length {
		return nil, fmt.Errorf("refusing in %d bytes: %w", opt.Length, ErrLength)
	}
	return out, nil
}

// edns returns the OPT record, nil when there is none.
func (m *message) edns() *record {
	for i := range m.records {
		if rec := &m.records[i]; rec.kind == dns.TypeOPT && rec.section == sectionAdditional {
			return rec
		}
	}
	return nil
}

// optionHeader is the size of an EDNS option without its data (RFC 6891,
// section 6.1.2).
const optionHeader = 4

// appendEDNS appends an OPT record like old and fills it up until the message
// has the given length, if that is not zero and possible.
func (m *message) appendEDNS(out []byte, old *record, reason string, length int) []byte {
	const flagDO = 0x8000
	out[11] = 1 // additional records
	out = append(out, 0)
	out = binary.BigEndian.AppendUint16(out, dns.TypeOPT)
	out = binary.BigEndian.AppendUint16(out, old.class) // the server's datagram size
	out = binary.BigEndian.AppendUint32(out, old.ttl&flagDO)
	size := len(out)
	out = append(out, 0, 0)
	start := len(out)

	out = append(out, m.cookie(old)...)
	if length == 0 {
		out = appendError(out, reason)
	} else {
		out = fillEDNS(out, reason, length-len(out))
	}
	binary.BigEndian.PutUint16(out[size:], uint16(len(out)-start))
	return out
}

// fillEDNS appends options of room bytes in all: the extended error, its text
// cut to fit, and padding. It appends less where that is not possible.
func fillEDNS(out []byte, reason string, room int) []byte {
	const infoCode = 2
	if room < optionHeader {
		return out
	}
	if text := room - optionHeader - infoCode; text >= 0 {
		reason = cutText(reason, text)
		// What is left must be nothing or hold another option.
		if left := text - len(reason); left < optionHeader {
			reason += strings.Repeat(" ", left)
		}
		out = appendError(out, reason)
		room = text - len(reason)
	}
	if room >= optionHeader {
		out = binary.BigEndian.AppendUint16(out, dns.EDNS0PADDING)
		out = binary.BigEndian.AppendUint16(out, uint16(room-optionHeader))
		out = append(out, make([]byte, room-optionHeader)...)
	}
	return out
}

// appendError appends the extended error Blocked (RFC 8914, section 2).
func appendError(out []byte, reason string) []byte {
	out = binary.BigEndian.AppendUint16(out, dns.EDNS0EDE)
	out = binary.BigEndian.AppendUint16(out, uint16(2+len(reason)))
	out = binary.BigEndian.AppendUint16(out, dns.ExtendedErrorCodeBlocked)
	return append(out, reason...)
}

// cookie returns the whole COOKIE option of an OPT record: a client that has
// seen the server's cookie may drop an answer without it (RFC 7873, section
// 5.3).
func (m *message) cookie(opt *record) []byte {
	for b := m.msg[opt.data:opt.end]; len(b) >= optionHeader; {
		end := optionHeader + int(binary.BigEndian.Uint16(b[2:]))
		if end > len(b) {
			break
		}
		if binary.BigEndian.Uint16(b) == dns.EDNS0COOKIE {
			return b[:end]
		}
		b = b[end:]
	}
	return nil
}

// appendFiller appends a record of the root, room bytes long, and nothing
// when there is not room for one. Its type is of the private range (RFC 6895,
// section 3.1), so its data has no structure: where only the beginning of a
// message can be overwritten, what follows may stay as it is.
func appendFiller(out []byte, room int) []byte {
	const root, privateType = 1, 65280
	data := room - root - recordFields
	if data < 0 || data > 0xffff {
		return out
	}
	out[11] = 1 // additional records
	out = append(out, 0)
	out = binary.BigEndian.AppendUint16(out, privateType)
	out = binary.BigEndian.AppendUint16(out, dns.ClassINET)
	out = binary.BigEndian.AppendUint32(out, 0)
	out = binary.BigEndian.AppendUint16(out, uint16(data))
	return append(out, make([]byte, data)...)
}

// cutText cuts s to at most n bytes between two characters.
func cutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
