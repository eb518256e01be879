package sniff

import (
	"bytes"

	"interdict/internal/event"
)

// maxMethod bounds a method's length. The longest registered one has 17
// bytes; what has no space by then is not HTTP.
const maxMethod = 24

// httpReader reads the head of an HTTP/1 request (RFC 9112) line by line.
// Each line is looked at once.
//
// It is as lenient as servers are: empty lines before the request line, a
// bare LF, white space around a header's value and obsolete folding pass.
// Of several Host fields the first decides, so that nothing behind it need
// be waited for: a server that follows RFC 9112, section 3.2, answers 400 to
// such a request, so it reaches no site under any name.
type httpReader struct {
	// line is where the current line begins, scanned how far it has been
	// searched for its end.
	line, scanned int
	// inHeaders is set once the request line was read.
	inHeaders bool
	// tunnel says that the request is a CONNECT; found is then what it
	// named, otherwise what is known before the Host field.
	tunnel bool
	found  Finding
}

// read goes on with a request of which data are the bytes from its start on.
// Length is the number of bytes of a complete CONNECT request, else zero.
func (r *httpReader) read(data []byte) (f Finding, length int) {
	for {
		if !r.inHeaders && !plausibleStart(data[r.line:]) {
			return nameless(ReasonProtocol), 0
		}
		line, ok := r.nextLine(data)
		if !ok {
			return Finding{}, 0
		}
		if !r.inHeaders {
			f = r.requestLine(line)
		} else {
			f, length = r.headerLine(line)
		}
		if f.State != Undecided {
			return f, length
		}
	}
}

// nextLine returns the next line without its end. A header line is known to
// be whole only when the first byte behind it is there and does not continue
// it (RFC 9112, section 5.2).
func (r *httpReader) nextLine(data []byte) ([]byte, bool) {
	for {
		i := bytes.IndexByte(data[r.scanned:], '\n')
		if i < 0 {
			r.scanned = len(data)
			return nil, false
		}
		end := r.scanned + i
		line := bytes.TrimSuffix(data[r.line:end], []byte("\r"))
		if r.inHeaders && len(line) > 0 {
			if end+1 == len(data) {
				r.scanned = end
				return nil, false
			}
			if isBlank(data[end+1]) {
				r.scanned = end + 1
				continue
			}
		}
		r.line, r.scanned = end+1, end+1
		return line, true
	}
}

// requestLine reads method, target and version (RFC 9112, section 3).
func (r *httpReader) requestLine(line []byte) Finding {
	if len(line) == 0 {
		return Finding{}
	}
	method, rest, _ := bytes.Cut(line, []byte(" "))
	sp := bytes.LastIndexByte(rest, ' ')
	if sp < 0 {
		return nameless(ReasonProtocol)
	}
	target, version := bytes.TrimSpace(rest[:sp]), rest[sp+1:]
	switch {
	case bytes.Equal(line, []byte("PRI * HTTP/2.0")): // RFC 9113, section 3.4
		return nameless(ReasonHTTP2)
	case !bytes.HasPrefix(version, []byte("HTTP/1.")):
		return nameless(ReasonProtocol)
	}
	r.inHeaders = true
	return r.target(method, target)
}

// target reads a request target in one of its four forms (RFC 9112, section
// 3.2). An absolute form outranks the Host field (section 3.2.2).
func (r *httpReader) target(method, target []byte) Finding {
	scheme, rest, absolute := bytes.Cut(target, []byte("://"))
	switch {
	case bytes.Equal(method, []byte("CONNECT")):
		f := authority(target, event.EvidenceHTTPConnect)
		if f.Reason == ReasonAddress {
			r.tunnel, r.found = true, f
			return Finding{}
		}
		return f
	case len(target) > 0 && target[0] == '/':
		r.found.Path = pathOf(target)
		return Finding{}
	case bytes.Equal(target, []byte("*")):
		return Finding{}
	case absolute:
		return absoluteForm(scheme, rest)
	default:
		return nameless(ReasonMalformed)
	}
}

// absoluteForm reads what stands behind "scheme://".
func absoluteForm(scheme, rest []byte) Finding {
	host, path := rest, []byte("/")
	if i := bytes.IndexAny(rest, "/?#"); i >= 0 {
		host = rest[:i]
		if rest[i] == '/' {
			path = rest[i:]
		}
	}
	host = host[bytes.LastIndexByte(host, '@')+1:]
	f := authority(host, event.EvidenceHTTPHost)
	f.Path = pathOf(path)
	if f.Port == 0 && f.Reason != ReasonBadName {
		f.Port = defaultPort(scheme)
	}
	return f
}

func defaultPort(scheme []byte) uint16 {
	switch {
	case bytes.EqualFold(scheme, []byte("http")), bytes.EqualFold(scheme, []byte("ws")):
		return 80
	case bytes.EqualFold(scheme, []byte("https")), bytes.EqualFold(scheme, []byte("wss")):
		return 443
	default:
		return 0
	}
}

// headerLine reads a header field, or the empty line behind the last one.
func (r *httpReader) headerLine(line []byte) (f Finding, length int) {
	switch {
	case len(line) == 0 && r.tunnel:
		return r.found, r.line
	case len(line) == 0:
		f = nameless(ReasonNoName)
	case r.tunnel:
		return Finding{}, 0
	default:
		name, value, _ := bytes.Cut(line, []byte(":"))
		if !bytes.EqualFold(bytes.TrimRight(name, " \t"), []byte("Host")) {
			return Finding{}, 0
		}
		f = hostField(bytes.TrimSpace(value))
	}
	f.Path = r.found.Path
	return f, 0
}

// hostField reads the value of Host, which is empty where the target has no
// authority (RFC 9112, section 3.2). Its port says nothing that the
// connection does not know.
func hostField(value []byte) Finding {
	if len(value) == 0 {
		return nameless(ReasonNoName)
	}
	f := authority(value, event.EvidenceHTTPHost)
	f.Port = 0
	return f
}

// authority reads "host" or "host:port".
func authority(b []byte, how event.Evidence) Finding {
	host, port, ok := splitPort(b)
	if !ok {
		return nameless(ReasonBadName)
	}
	return destination(host, port, how)
}

// pathOf cuts query and fragment off.
func pathOf(target []byte) string {
	if i := bytes.IndexAny(target, "?#"); i >= 0 {
		target = target[:i]
	}
	return string(target)
}

// plausibleStart reports whether data can be the start of a request line, or
// of an empty line before it: a token and a space, as far as it goes.
func plausibleStart(data []byte) bool {
	if bytes.HasPrefix(data, []byte("\n")) || bytes.HasPrefix(data, []byte("\r\n")) || bytes.Equal(data, []byte("\r")) {
		return true
	}
	for i, c := range data {
		switch {
		case c == ' ':
			return i > 0
		case i == maxMethod || !isToken(c):
			return false
		}
	}
	return true
}

// isToken reports whether c is a tchar (RFC 9110, section 5.6.2).
func isToken(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }
