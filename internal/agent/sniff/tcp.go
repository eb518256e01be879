package sniff

// maxTunnels bounds how many proxies can be named one inside the other.
const maxTunnels = 4

// protocol is what a TCP connection was recognised as.
type protocol uint8

const (
	protoUnknown protocol = iota
	protoTLS
	protoHTTP
	protoSOCKS5
	protoSOCKS4
)

// TCP reads what the client of one TCP connection sends. It is made by
// [NewTCP].
type TCP struct {
	// base is the sequence number of the stream's first byte; begun says
	// whether it is known.
	base  uint32
	begun bool
	in    stream

	// start is where the current protocol begins: behind the requests that
	// opened a tunnel, if there were any.
	start   int
	tunnels int
	proto   protocol
	tls     tlsReader
	http    httpReader

	// found is the answer so far.
	found Finding
}

// NewTCP returns a reader for a connection of which nothing was seen yet.
func NewTCP() *TCP { return &TCP{} }

// Add takes the payload of one segment and returns what is known after it.
//
// The first segment with a payload is the start of the stream: on a host's
// own connections it is sent first. Later ones may come repeated, overlapping
// or out of order; sequence numbers wrap. Add keeps no reference to payload
// and copies nothing when the first segment says it all. Once the finding is
// not Undecided, the reader lets go of its memory and repeats itself.
func (t *TCP) Add(seq uint32, payload []byte) Finding {
	if t.found.State != Undecided || len(payload) == 0 {
		return t.found
	}
	first := !t.begun
	if first {
		t.base, t.begun = seq, true
		t.advance(payload[:min(len(payload), MaxHeld)])
		if t.found.State != Undecided {
			return t.found
		}
	}
	// The difference of sequence numbers is taken modulo 2^32 and read as
	// signed (RFC 9293, section 3.4).
	fits := t.in.add(int(int32(seq-t.base)), payload)
	if !first {
		t.advance(t.in.inOrder())
	}
	if !fits && t.found.State == Undecided {
		t.giveUp()
	}
	if t.found.State != Undecided {
		t.in, t.tls = stream{}, tlsReader{}
	}
	return t.found
}

// Held returns the number of bytes the reader keeps of the connection.
func (t *TCP) Held() int { return cap(t.in.buf) + cap(t.tls.hello) }

// advance reads on, with all bytes in order since the connection's start. It
// ends when more are needed or the finding is final.
func (t *TCP) advance(data []byte) {
	for t.start < len(data) {
		f, length := t.read(data[t.start:])
		f = t.throughTunnel(f)
		// A tunnel's request that named only an address is not the end:
		// what goes through the tunnel may say the name.
		tunnel := length > 0 && f.Reason == ReasonAddress && t.tunnels < maxTunnels
		if !tunnel {
			t.found = f
			return
		}
		f.State, f.Reason = Undecided, ReasonNone
		t.found = f
		t.start += length
		t.tunnels++
		t.proto, t.http = protoUnknown, httpReader{}
	}
}

// read recognises the protocol at the start of data, once, and lets its
// reader go on. Length is not zero when data starts with a complete request
// for a tunnel: the number of its bytes.
func (t *TCP) read(data []byte) (f Finding, length int) {
	if t.proto == protoUnknown {
		t.proto = recognise(data[0])
	}
	switch t.proto {
	case protoTLS:
		return t.tls.read(data), 0
	case protoHTTP:
		return t.http.read(data)
	case protoSOCKS5:
		return readSOCKS5(data)
	case protoSOCKS4:
		return readSOCKS4(data)
	default:
		return nameless(ReasonProtocol), 0
	}
}

// recognise tells the protocols apart, which their first byte suffices for.
// The readers check the rest.
func recognise(first byte) protocol {
	switch {
	case first == recordHandshake:
		return protoTLS
	case first == socks5Version:
		return protoSOCKS5
	case first == socks4Version:
		return protoSOCKS4
	case isToken(first), first == '\r', first == '\n':
		return protoHTTP
	default:
		return protoUnknown
	}
}

// throughTunnel adds to a finding where the tunnel leads in which it was
// made.
func (t *TCP) throughTunnel(f Finding) Finding {
	if t.tunnels == 0 || f.Addr.IsValid() {
		return f
	}
	f.Addr = t.found.Addr
	if f.Port == 0 {
		f.Port = t.found.Port
	}
	if f.Evidence == "" {
		f.Evidence = t.found.Evidence
	}
	return f
}

// giveUp ends a stream that has outgrown the bounds.
func (t *TCP) giveUp() {
	f := nameless(ReasonLimit)
	if t.proto == protoTLS {
		f = t.tls.giveUp(t.in.inOrder()[t.start:])
	}
	t.found = t.throughTunnel(f)
}
