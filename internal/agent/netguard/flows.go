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
	// undecidedFor bounds how long a connection may take to say its name.
	undecidedFor = 10 * time.Second
)

// undecided is a connection whose bytes do not name it yet.
type undecided struct {
	tcp   *sniff.TCP
	quic  *sniff.QUIC
	since time.Time
}

// flowTable remembers connections by name, within bounds.
type flowTable struct {
	undecided map[Flow]*undecided
	// live are connections that were let through, and as what.
	live map[Flow]verdict.Subject
	// dns are connections to name servers.
	dns map[Flow]*dnsStream
}

func newFlowTable() *flowTable {
	return &flowTable{
		undecided: make(map[Flow]*undecided), live: make(map[Flow]verdict.Subject), dns: make(map[Flow]*dnsStream),
	}
}

// read gives a packet's payload to the reader of its connection. Once the
// finding is no longer undecided the reader is gone.
func (t *flowTable) read(f Flow, pkt sniff.Packet, now time.Time) sniff.Finding {
	u := t.undecided[f]
	if u == nil {
		u = newUndecided(f, now)
		if finding := u.add(pkt); finding.State != sniff.Undecided {
			return finding
		}
		if len(t.undecided) >= maxUndecided {
			dropOne(t.undecided)
		}
		t.undecided[f] = u
		return sniff.Finding{}
	}
	finding := u.add(pkt)
	if finding.State == sniff.Undecided && now.Sub(u.since) > undecidedFor {
		finding = sniff.Finding{State: sniff.Nameless, Reason: sniff.ReasonLimit, Addr: finding.Addr}
	}
	if finding.State != sniff.Undecided {
		delete(t.undecided, f)
	}
	return finding
}

func newUndecided(f Flow, now time.Time) *undecided {
	if f.Protocol == sniff.ProtocolTCP {
		return &undecided{tcp: sniff.NewTCP(), since: now}
	}
	return &undecided{quic: sniff.NewQUIC(), since: now}
}

func (u *undecided) add(pkt sniff.Packet) sniff.Finding {
	if u.tcp != nil {
		return u.tcp.Add(pkt.Seq, pkt.Payload)
	}
	return u.quic.Add(pkt.Payload)
}

// accept remembers what a connection was let through as.
func (t *flowTable) accept(f Flow, s verdict.Subject) {
	if len(t.live) >= maxLive {
		dropOne(t.live)
	}
	t.live[f] = s
}

func (t *flowTable) forget(f Flow) {
	delete(t.undecided, f)
	delete(t.live, f)
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
