package blockpage

import (
	"strconv"
	"strings"

	"interdict/internal/agent/sniff"
	"interdict/internal/agent/wording"
	"interdict/internal/event"
)

// Request is a request that can be answered.
type Request struct {
	// Head says that the answer has no body.
	Head bool
	// HTML says that the program shows web pages. Any other gets plain text.
	HTML     bool
	Language wording.Language

	// segment is what carried the request, and timestamps its option of
	// that name, nil if it has none.
	segment    sniff.Packet
	timestamps []byte
}

// Lengths of headers without options.
const (
	ipv4Length = 20
	ipv6Length = 40
	tcpLength  = 20
)

// Read reads the request in a packet. ok is false for whatever must not be
// answered.
func Read(packet []byte) (r Request, ok bool) {
	pkt, err := sniff.ParsePacket(packet)
	if err != nil || !plain(pkt) {
		return Request{}, false
	}
	r.segment = pkt
	r.timestamps, ok = timestampsOf(packet[pkt.IPHeader+tcpLength : pkt.Header])
	if !ok {
		return Request{}, false
	}
	// Only what names its host all by itself is a request from its beginning.
	f := sniff.NewTCP().Add(pkt.Seq, pkt.Payload)
	if f.State != sniff.Named || f.Evidence != event.EvidenceHTTPHost {
		return Request{}, false
	}
	return r, r.readHead(pkt.Payload)
}

// plain reports whether a packet is an ordinary segment of an open TCP
// connection between two addresses that need no zone. Options and extension
// headers can change where a packet goes.
func plain(pkt sniff.Packet) bool {
	const congestion = 0xc0 // ECE and CWR (RFC 3168)
	if pkt.Protocol != sniff.ProtocolTCP || pkt.Flags&^(sniff.FlagPSH|congestion) != sniff.FlagACK {
		return false
	}
	from, to := pkt.Source.Addr(), pkt.Dest.Addr()
	header := ipv6Length
	if from.Is4() {
		header = ipv4Length
	}
	return pkt.IPHeader == header && !from.IsLinkLocalUnicast() && !to.IsLinkLocalUnicast() && !to.IsMulticast()
}

// The kinds of TCP options that are looked at (RFC 9293, section 3.1; RFC
// 7323, section 3.2).
const (
	optionEnd        = 0
	optionNone       = 1
	optionTimestamps = 8

	timestampsLength = 10
)

// timestampsOf returns the timestamps option among a segment's options, nil
// if there is none. ok is false for options that make no sense.
func timestampsOf(options []byte) (found []byte, ok bool) {
	for len(options) > 0 {
		switch options[0] {
		case optionEnd:
			return found, true
		case optionNone:
			options = options[1:]
			continue
		}
		if len(options) < 2 || int(options[1]) < 2 || int(options[1]) > len(options) {
			return nil, false
		}
		length := int(options[1])
		if options[0] == optionTimestamps {
			if length != timestampsLength {
				return nil, false
			}
			found = options[:length]
		}
		options = options[length:]
	}
	return found, true
}

// readHead reads the head of the request (RFC 9112), and reports whether it is
// complete, without a body, and of a method that changes nothing. It is
// strict: all that is given up is a page.
func (r *Request) readHead(payload []byte) bool {
	const end = "\r\n\r\n"
	head, whole := strings.CutSuffix(string(payload), end)
	if !whole || strings.Contains(head, end) {
		return false
	}
	first, rest, _ := strings.Cut(head, "\r\n")
	if strings.ContainsAny(first, "\r\n") || !r.readLine(first) {
		return false
	}
	var accept, language []string
	for line := range strings.SplitSeq(rest, "\r\n") {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.ContainsAny(line, "\r\n") || strings.ContainsAny(name, " \t") {
			return false
		}
		switch strings.ToLower(name) {
		case "content-length", "transfer-encoding", "expect":
			return false
		case "accept":
			accept = append(accept, value)
		case "accept-language":
			language = append(language, value)
		}
	}
	r.HTML = takesHTML(strings.Join(accept, ","))
	r.Language = wording.OfHeader(strings.Join(language, ","))
	return true
}

// readLine reads the request line.
func (r *Request) readLine(line string) bool {
	fields := strings.Split(line, " ")
	if len(fields) != 3 || fields[2] != "HTTP/1.1" && fields[2] != "HTTP/1.0" {
		return false
	}
	r.Head = fields[0] == "HEAD"
	return r.Head || fields[0] == "GET"
}

// takesHTML reports whether an Accept field (RFC 9110, section 12.5.1) asks
// for HTML by its name. Programs that take anything are better off with text.
func takesHTML(accept string) bool {
	for part := range strings.SplitSeq(accept, ",") {
		media, parameters, _ := strings.Cut(part, ";")
		if strings.EqualFold(strings.TrimSpace(media), "text/html") {
			weight, weighted := strings.CutPrefix(strings.TrimSpace(parameters), "q=")
			q, err := strconv.ParseFloat(weight, 64)
			return !weighted || err == nil && q > 0
		}
	}
	return false
}
