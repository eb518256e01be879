// Package netguard decides what happens to a packet on its way out of the
// host: it holds the seam between the kernel and the agent's judgement.
//
// The seam has two halves. Config is the whole desired state of the kernel's
// rules; a Guard makes it so, again and again, and can remove every trace
// with nothing else alive. Packet and Verdict are what passes while the
// rules stand: the kernel hands over the few packets that can carry a name,
// a Handler answers each once. The mechanisms are rooms below this one
// (nft, nfqueue, conntrack on Linux); what they share is here and is pure.
package netguard

import (
	"context"
	"net/netip"
	"time"

	"interdict/internal/indicator"
)

// The connection mark. Interdict owns only the bits of MarkMask and keeps
// every other bit of a packet's or connection's mark as it found it: VPNs
// and container networks live in the same word.
const (
	MarkMask   uint32 = 0x3000_0000
	MarkAccept uint32 = 0x1000_0000
	MarkRefuse uint32 = 0x2000_0000
)

// Queue says why the kernel handed a packet over. The numbers are offsets
// to Config.QueueBase.
type Queue uint16

// The queues.
const (
	// QueueFlow carries payload packets of connections that are not decided
	// yet, in the direction of their first packet: TCP segments with
	// payload on any port, and UDP datagrams that can be QUIC Initials.
	QueueFlow Queue = 0
	// QueueDNS carries answers of name servers: UDP and TCP from port 53, at
	// INPUT, loopback included, and at FORWARD towards containers, or
	// everybody on a gateway. Queries are not queued, since an answer repeats
	// its question.
	QueueDNS Queue = 1
	// QueueAddress carries the first packet of connections to addresses in
	// Config.Refused and Config.Watched. An answer other than Refuse lets a
	// connection to a watched address go on to where names are read. An
	// address in Refused is refused whatever is answered: it is asked about
	// so that an event can be written.
	QueueAddress Queue = 2
)

// Queues is the number of queues.
const Queues = 3

// Hook is the netfilter hook at which a packet was taken.
type Hook uint8

// The hooks, numbered as in the kernel's enum nf_inet_hooks.
const (
	HookInput   Hook = 1
	HookForward Hook = 2
	HookOutput  Hook = 3
)

// Range is an inclusive span of addresses of one family.
type Range = indicator.Range

// Config is the whole desired state of the kernel's rules. The zero value
// inspects nothing: Set with it leaves no table behind.
type Config struct {
	// Inspect turns the rules on. When false nothing else counts.
	Inspect bool
	// QueueBase is the number of the first of Queues consecutive queues.
	QueueBase uint16
	// FailClosed refuses what would be queued while no agent listens.
	// The default lets it pass.
	FailClosed bool
	// Gateway inspects every forwarded connection. Otherwise only those
	// that come from a container's or virtual machine's interface are.
	Gateway bool
	// Refused are addresses that the kernel itself refuses: they stay
	// refused while the agent is dead. Sorted, disjoint.
	Refused []Range
	// Watched are addresses whose connections are asked about at their first
	// packet: to report them, or since it depends on who connects, or when,
	// whether they are refused. While no agent listens FailClosed says what
	// becomes of them. Sorted, disjoint, and disjoint from Refused.
	Watched []Range
	// Exempt are endpoints that are never queued nor refused: the server
	// this agent obeys.
	Exempt []netip.AddrPort
}

// Guard makes a Config true in the kernel.
type Guard interface {
	// Set makes the kernel's state equal to c. It is idempotent, atomic (a
	// packet sees the old rules or the new, never half) and keeps counters
	// and decided connections. It returns when the rules are in place.
	Set(ctx context.Context, c Config) error
	// CleanUp removes every trace, also one left by an earlier process.
	CleanUp(ctx context.Context) error
}

// Packet is one packet the kernel is waiting on.
type Packet struct {
	Queue Queue
	Hook  Hook
	// Data starts at the IPv4 or IPv6 header. The handler may keep it.
	Data []byte
	// Mark is the packet's mark as the kernel has it.
	Mark uint32
	// UID owns the sending socket; HasUID tells whether it is known.
	UID    uint32
	HasUID bool
	// Received is when the agent read the packet.
	Received time.Time
}

// Decision is what to do with a packet and with its connection.
type Decision uint8

// The decisions.
const (
	// Pass lets this packet go and keeps asking about its connection.
	Pass Decision = iota
	// Accept lets the packet go and its connection too, for good.
	Accept
	// Refuse refuses the connection for good: TCP gets a reset, anything
	// else ICMP administratively prohibited.
	Refuse
	// Replace lets Verdict.Data go in the packet's place.
	Replace
	// Drop discards the packet silently.
	Drop
)

// Verdict answers a packet.
type Verdict struct {
	Decision Decision
	// Data is the whole new packet from the IP header on, with lengths and
	// checksums right. Only for Replace.
	Data []byte
}

// Handler judges packets. Handle must not block; it calls answer exactly
// once, from any goroutine, now or later. A packet whose answer is slow holds
// up only its own connection.
type Handler interface {
	Handle(p Packet, answer func(Verdict))
}

// Flow names a connection by its first packet's direction.
type Flow struct {
	// Protocol is the IP protocol number: 6 for TCP, 17 for UDP.
	Protocol     uint8
	Source, Dest netip.AddrPort
}

// Cutter ends connections that are already open.
type Cutter interface {
	// Cut refuses what is left of the flows, in both directions: local TCP
	// sockets are destroyed so that their program notices at once, and the
	// connection is marked refused or forgotten. It returns the flows that
	// were still open: the kernel remembers a connection for minutes after
	// its end, when it is no longer anybody's use of anything.
	Cut(ctx context.Context, flows []Flow) (open []Flow, err error)
}
