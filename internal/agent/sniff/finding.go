package sniff

import (
	"net/netip"

	"interdict/internal/event"
)

// State says how far a reader has come with a flow.
type State uint8

// The states. A reader leaves Undecided once and never returns to it.
const (
	// Undecided says that more bytes are needed.
	Undecided State = iota
	// Named says that Finding.Host is the flow's name.
	Named
	// Nameless says that the flow carries no name, or that the reader gave
	// up looking for one. Finding.Reason says which.
	Nameless
)

// String is the state in one word.
func (s State) String() string {
	switch s {
	case Undecided:
		return "undecided"
	case Named:
		return "named"
	case Nameless:
		return "nameless"
	default:
		return "unknown"
	}
}

// Reason says why a flow is Nameless. Its String is fit for a metric's label.
type Reason uint8

// The reasons.
const (
	// ReasonNone is the reason of whatever is not Nameless.
	ReasonNone Reason = iota
	// ReasonProtocol says that no protocol was recognised.
	ReasonProtocol
	// ReasonNoName says that the protocol was understood and its name is
	// absent: a ClientHello without server_name, a request without Host.
	ReasonNoName
	// ReasonAddress says that an address stands where the name would be;
	// Finding.Addr has it.
	ReasonAddress
	// ReasonBadName says that what stands there cannot be a host name.
	ReasonBadName
	// ReasonMalformed says that the protocol's own rules were broken.
	ReasonMalformed
	// ReasonHTTP2 says that the connection is HTTP/2 with prior knowledge.
	ReasonHTTP2
	// ReasonVersion says that the QUIC version is not known.
	ReasonVersion
	// ReasonUndecryptable says that no Initial could be decrypted: the
	// flow was first seen in its middle, or it is not QUIC.
	ReasonUndecryptable
	// ReasonLimit says that a bound was reached before a name.
	ReasonLimit
)

// String is the reason in snake case.
func (r Reason) String() string {
	switch r {
	case ReasonNone:
		return "none"
	case ReasonProtocol:
		return "protocol"
	case ReasonNoName:
		return "no_name"
	case ReasonAddress:
		return "address"
	case ReasonBadName:
		return "bad_name"
	case ReasonMalformed:
		return "malformed"
	case ReasonHTTP2:
		return "http2"
	case ReasonVersion:
		return "version"
	case ReasonUndecryptable:
		return "undecryptable"
	case ReasonLimit:
		return "limit"
	default:
		return "unknown"
	}
}

// Finding is what a reader knows about a flow. The zero value knows nothing
// yet. A Finding holds no reference to the bytes it came from.
type Finding struct {
	State State
	// Host is the name: lower case, A-labels as they were on the wire, no
	// trailing dot. It is never an address.
	Host string
	// Addr is the address that a Host field, a CONNECT or a SOCKS request
	// named. It may be set beside Host, when the name was found in a tunnel
	// to Addr, and while State is Undecided.
	Addr netip.Addr
	// Port is the destination port of a CONNECT or SOCKS request or of an
	// absolute-form target. Zero in all other cases.
	Port uint16
	// Path is the path of an HTTP request, as sent and without its query.
	Path string
	// Evidence says how Host or Addr was recognised. SOCKS4 counts as
	// [event.EvidenceSOCKS5].
	Evidence event.Evidence
	// ECH says that the ClientHello carried encrypted_client_hello. Clients
	// send it as GREASE too: alone it proves nothing.
	ECH bool
	// Reason says why State is Nameless.
	Reason Reason
}

// nameless is the finding of a flow that carries no name.
func nameless(r Reason) Finding { return Finding{State: Nameless, Reason: r} }

// destination is the finding of a host, name or address, that was said in
// full.
func destination(host []byte, port uint16, how event.Evidence) Finding {
	name, addr, reason := parseHost(host)
	f := Finding{State: Named, Host: name, Addr: addr, Port: port, Evidence: how, Reason: reason}
	if reason != ReasonNone {
		f.State = Nameless
	}
	return f
}
