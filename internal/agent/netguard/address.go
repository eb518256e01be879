package netguard

import (
	"net/netip"

	"interdict/internal/agent/sniff"
	"interdict/internal/agent/verdict"
	"interdict/internal/event"
)

// handleAddress judges the first packet of a connection to an address that is
// refused or watched.
func (in *Inspector) handleAddress(p Packet, pkt sniff.Packet, answer func(Verdict)) {
	f := Flow{Protocol: pkt.Protocol, Source: pkt.Source, Dest: pkt.Dest}
	q := question{subject: verdict.Subject{Addr: pkt.Dest.Addr(), Port: pkt.Dest.Port(), Evidence: event.EvidenceIP}}
	q.subject.User, q.whose = in.userOf(p)
	if !q.whose || !in.asksWho(q.subject) {
		in.settle(in.judgeAddress(p, f, q.subject), answer)
		return
	}
	in.ask(p, f, q, func(s verdict.Subject) { in.settle(in.judgeAddress(p, f, s), answer) })
}

// judgeAddress decides by the address alone. Where the address does not refuse
// the connection, what it says later does, or may.
func (in *Inspector) judgeAddress(p Packet, f Flow, s verdict.Subject) outcome {
	in.mu.Lock()
	defer in.mu.Unlock()
	o := decided(Pass)
	if in.rules == nil {
		return o
	}
	now := in.cfg.Now()
	d := in.rules.Decide(s, now)
	if d.Step != verdict.StepAddress {
		in.flows.meet(f, s)
		return o
	}
	if d.Refuses() {
		o = decided(Refuse)
		in.flows.refuse(f, now)
	} else {
		in.flows.meet(f, s)
	}
	if in.counts(d) {
		o.observed = &Observation{
			Time: now, Decision: d, Flow: f, Destination: destinationOf(f, s),
			Evidence: s.Evidence, UID: p.UID, HasUID: p.HasUID,
		}
	}
	return o
}

// judgeOther decides about a packet to a refused or watched address that is
// neither TCP nor UDP, such as a ping. It makes no event.
func (in *Inspector) judgeOther(p Packet) Decision {
	addr := destAddr(p.Data)
	s := verdict.Subject{Addr: addr, Evidence: event.EvidenceIP}
	s.User, _ = in.userOf(p)
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.rules == nil || !addr.IsValid() {
		in.malformed.Add(1)
		return Pass
	}
	if d := in.rules.Decide(s, in.cfg.Now()); d.Step == verdict.StepAddress && d.Refuses() {
		in.refused.Add(1)
		return Refuse
	}
	return Pass
}

// destAddr is where an IP packet goes; invalid if it is none.
func destAddr(packet []byte) netip.Addr {
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(packet[16:20]))
	case len(packet) >= 40 && packet[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(packet[24:40]))
	default:
		return netip.Addr{}
	}
}
