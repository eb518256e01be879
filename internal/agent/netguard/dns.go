package netguard

import (
	"bytes"
	"slices"
	"time"

	"interdict/internal/agent/sniff"
	"interdict/internal/agent/verdict"
	"interdict/internal/event"
	"interdict/internal/fleet"
)

// refusalText is what a refused answer says to clients that understand
// extended DNS errors.
const refusalText = "blocked by your organisation (Interdict)"

// handleDNS learns from the answers of a name server, and rewrites one when
// its name is refused or when it would let a client hide names.
func (in *Inspector) handleDNS(p Packet, pkt sniff.Packet, answer func(Verdict)) {
	if pkt.Protocol == sniff.ProtocolTCP {
		in.handleDNSStream(p, pkt, answer)
		return
	}
	j := in.judgeAnswer(p, pkt, pkt.Payload, 0)
	o := j.outcome
	if j.rewritten != nil {
		o.verdict = in.replace(sniff.ReplaceUDPPayload(p.Data, j.rewritten))
	}
	in.learn([]judgement{j})
	in.settle(o, answer)
}

// handleDNSStream does the same for a segment of a connection over TCP, whose
// length must stay as it is. The first message that asks for an event gets
// it: clients send one question a connection, or several for one name.
func (in *Inspector) handleDNSStream(p Packet, pkt sniff.Packet, answer func(Verdict)) {
	payload := bytes.Clone(pkt.Payload)
	var all []judgement
	changed := false
	for _, part := range in.followDNS(pkt, payload) {
		msg := part.bytes
		if len(msg) < part.length {
			msg = headOf(msg)
		}
		j := in.judgeAnswer(p, pkt, msg, part.length)
		if j.rewritten != nil {
			copy(part.bytes, j.rewritten)
			changed = true
		}
		all = append(all, j)
	}
	o := decided(Pass)
	if changed {
		o.verdict = in.replace(sniff.ReplaceTCPPayload(p.Data, payload))
	}
	for _, j := range all {
		if o.observed == nil {
			o.observed = j.outcome.observed
		}
	}
	in.learn(all)
	in.settle(o, answer)
}

// followDNS returns the messages that begin in a segment. They share their
// memory with payload, a copy of the segment's.
func (in *Inspector) followDNS(pkt sniff.Packet, payload []byte) []dnsPart {
	f := Flow{Protocol: pkt.Protocol, Source: pkt.Dest, Dest: pkt.Source}
	in.mu.Lock()
	defer in.mu.Unlock()
	s := in.flows.dns[f]
	if s == nil {
		if len(in.flows.dns) >= maxDNSStreams {
			dropOne(in.flows.dns)
		}
		s = &dnsStream{next: pkt.Seq}
		in.flows.dns[f] = s
	}
	return s.parts(pkt.Seq, payload)
}

// headOf returns, for the beginning of a message that goes on in a later
// segment, a message with its header and question alone. A refusal with the
// whole message's length hides what follows: it ends in a filler that the
// later segments are part of. What cannot be read comes back as it is.
func headOf(msg []byte) []byte {
	const header, fields = 12, 4
	end := header
	for end < len(msg) && msg[end] != 0 && msg[end] < 0x40 {
		end += 1 + int(msg[end])
	}
	end += 1 + fields
	if end > len(msg) {
		return msg
	}
	head := bytes.Clone(msg[:end])
	clear(head[6:header])
	return head
}

// judgement is what was made of one answer.
type judgement struct {
	outcome outcome
	// rewritten takes the message's place; nil leaves it as it is.
	rewritten []byte
	query     Flow
	answer    sniff.DNSAnswer
	at        time.Time
	learn     bool
}

// judgeAnswer decides about one message. A length other than zero is one that
// a rewritten message must have. A message that cannot be read or rewritten
// passes as it is.
func (in *Inspector) judgeAnswer(p Packet, pkt sniff.Packet, msg []byte, length int) judgement {
	in.answers.Add(1)
	j := judgement{outcome: decided(Pass), query: Flow{Protocol: pkt.Protocol, Source: pkt.Dest, Dest: pkt.Source}, at: in.cfg.Now()}
	a, err := sniff.ParseDNSAnswer(msg)
	if err != nil {
		in.malformed.Add(1)
		return j
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.rules == nil || in.rules.Mode() == fleet.ModeDisabled {
		return j
	}
	// Who asks is nobody in particular: a resolver service asks for all.
	s := verdict.Subject{Host: a.Name, Lookup: true, Evidence: event.EvidenceDNS}
	d := in.rules.Decide(s, j.at)
	refuse := d.Refuses() || a.Name == sniff.CanaryDomain && d.Action == ""
	switch {
	case refuse:
		j.rewritten = in.rewrite(sniff.RefuseDNS(msg, sniff.RefuseOptions{Reason: refusalText, Length: length}))
	case a.HasECH:
		stripped, _, err := sniff.StripECH(msg)
		j.rewritten = in.rewrite(stripped, err)
	}
	j.answer, j.learn = a, !refuse && len(a.Addrs) > 0 && len(a.Name) <= maxLearnedName
	if in.counts(d) {
		dest := destinationOf(j.query, s)
		dest.Port = pkt.Source.Port()
		j.outcome.observed = &Observation{
			Time: j.at, Decision: d, Flow: j.query, Destination: dest, Evidence: event.EvidenceDNS, UID: p.UID, HasUID: p.HasUID,
		}
	}
	return j
}

// learn remembers the addresses of the answers in one packet: at once for
// nobody in particular, since a client that has its answer may connect, and
// soon after for the process that asked. The answer does not wait for that.
func (in *Inspector) learn(all []judgement) {
	if !slices.ContainsFunc(all, func(j judgement) bool { return j.learn }) {
		return
	}
	in.remember(all, 0)
	if in.cfg.Owner == nil {
		return
	}
	in.withOwner(all[0].query, func(pid int) {
		if pid != 0 {
			in.remember(all, pid)
		}
	})
}

func (in *Inspector) remember(all []judgement, pid int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, j := range all {
		if !j.learn {
			continue
		}
		for _, addr := range j.answer.Addrs {
			in.names.learn(addr, j.answer.Name, pid, j.answer.TTL, j.at)
		}
	}
}

// rewrite counts what became of rewriting a message, and returns it or nil.
func (in *Inspector) rewrite(msg []byte, err error) []byte {
	if err != nil {
		in.unwritable.Add(1)
		return nil
	}
	in.rewritten.Add(1)
	return msg
}

// replace is the verdict that puts a packet in the place of another.
func (in *Inspector) replace(data []byte, err error) Verdict {
	if err != nil {
		in.unwritable.Add(1)
		return Verdict{Decision: Pass}
	}
	return Verdict{Decision: Replace, Data: data}
}
