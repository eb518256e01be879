package netguard

import (
	"time"

	"interdict/internal/agent/sniff"
	"interdict/internal/agent/verdict"
)

// The bounds of the flow table. A connection pushed out of live can no longer
// be cut when the rules change; one pushed out of undecided is read anew from
// its next segment.
const (
	maxLive      = 1 << 16
	maxUndecided = 1 << 12
	// maxHeld bounds the bytes held of all undecided connections together.
	// It is far above what clients need, who say their name in two or three
	// segments, and far below what as many connections can make us hold
	// that never say one.
	maxHeld = 16 << 20
	// undecidedFor bounds how long a connection may take to say its name.
	undecidedFor = 10 * time.Second
)

// undecided is a connection whose bytes do not name it yet.
type undecided struct {
	tcp   *sniff.TCP
	quic  *sniff.QUIC
	since time.Time
	// held is what the reader holds in bytes.
	held int
}

// flowTable remembers connections by name, within bounds.
type flowTable struct {
	undecided map[Flow]*undecided
	// held is what the readers in undecided hold in bytes.
	held int
	// live are connections that were let through, and as what.
	live map[Flow]verdict.Subject
	// met are connections of which only the first packet was seen, on its way
	// to a watched address that did not refuse it.
	met map[Flow]verdict.Subject
	// refused are UDP flows that were refused, and when.
	refused map[Flow]time.Time
	// dns are connections to name servers.
	dns map[Flow]*dnsStream
}

func newFlowTable() *flowTable {
	return &flowTable{
		undecided: make(map[Flow]*undecided), live: make(map[Flow]verdict.Subject),
		met: make(map[Flow]verdict.Subject), refused: make(map[Flow]time.Time), dns: make(map[Flow]*dnsStream),
	}
}

// read gives a packet's payload to the reader of its connection. Once the
// finding is no longer undecided the reader is gone; so is one that panics, so
// that what comes next is not given to it again.
func (t *flowTable) read(f Flow, pkt sniff.Packet, now time.Time) sniff.Finding {
	u := t.undecided[f]
	if u == nil {
		u = newUndecided(f, now)
	}
	t.drop(f)
	finding := u.add(pkt)
	switch {
	case finding.State != sniff.Undecided:
	case now.Sub(u.since) > undecidedFor:
		finding = sniff.Finding{State: sniff.Nameless, Reason: sniff.ReasonLimit, Addr: finding.Addr}
	default:
		t.keep(f, u)
	}
	return finding
}

// keep remembers an undecided connection, at the cost of others where a bound
// is reached.
func (t *flowTable) keep(f Flow, u *undecided) {
	for other := range t.undecided {
		if len(t.undecided) < maxUndecided && t.held+u.held <= maxHeld {
			break
		}
		t.drop(other)
	}
	t.undecided[f] = u
	t.held += u.held
}

// drop forgets an undecided connection, if it is one.
func (t *flowTable) drop(f Flow) {
	if u := t.undecided[f]; u != nil {
		t.held -= u.held
		delete(t.undecided, f)
	}
}

func newUndecided(f Flow, now time.Time) *undecided {
	if f.Protocol == sniff.ProtocolTCP {
		return &undecided{tcp: sniff.NewTCP(), since: now}
	}
	return &undecided{quic: sniff.NewQUIC(), since: now}
}

func (u *undecided) add(pkt sniff.Packet) (finding sniff.Finding) {
	if u.tcp != nil {
		finding = u.tcp.Add(pkt.Seq, pkt.Payload)
		u.held = u.tcp.Held()
		return finding
	}
	finding = u.quic.Add(pkt.Payload)
	u.held = u.quic.Held()
	return finding
}

// accept remembers what a connection was let through as.
func (t *flowTable) accept(f Flow, s verdict.Subject) {
	if len(t.live) >= maxLive {
		dropOne(t.live)
	}
	t.live[f] = s
	delete(t.met, f)
	delete(t.refused, f)
}

// meet remembers a connection by its first packet.
func (t *flowTable) meet(f Flow, s verdict.Subject) {
	if len(t.met) >= maxLive {
		dropOne(t.met)
	}
	t.met[f] = s
	delete(t.refused, f)
}

// refuse remembers that a connection was refused.
func (t *flowTable) refuse(f Flow, now time.Time) {
	delete(t.live, f)
	delete(t.met, f)
	if f.Protocol == sniff.ProtocolTCP {
		return
	}
	if len(t.refused) >= maxUndecided {
		dropOne(t.refused)
	}
	t.refused[f] = now
}

// decidedBefore returns what was decided about a QUIC connection whose newest
// datagram names nothing.
//
// The connection mark does not always keep such datagrams from us: two that
// wait at once, as the parts of a long ClientHello do, have an entry each in
// the connection table, and only the first one's entry stays. What the client
// sends next goes to the connection id that the server chose, under keys that
// cannot be made from it.
func (t *flowTable) decidedBefore(f Flow, finding sniff.Finding, now time.Time) (Decision, bool) {
	if f.Protocol == sniff.ProtocolTCP || finding.State != sniff.Nameless {
		return Pass, false
	}
	if at, ok := t.refused[f]; ok && now.Sub(at) <= undecidedFor {
		return Refuse, true
	}
	_, ok := t.live[f]
	return Accept, ok
}

func (t *flowTable) forget(f Flow) {
	t.drop(f)
	delete(t.live, f)
	delete(t.met, f)
	delete(t.refused, f)
	delete(t.dns, f)
}

// dropOne removes any entry: Go's iteration order makes it a random one,
// which an attacker who fills the table cannot choose.
func dropOne[V any](m map[Flow]V) {
	for f := range m {
		delete(m, f)
		return
	}
}
