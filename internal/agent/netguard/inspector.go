package netguard

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"interdict/internal/agent/sniff"
	"interdict/internal/agent/verdict"
	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// InspectorConfig is what an Inspector needs.
type InspectorConfig struct {
	// Now is the clock. Required.
	Now func() time.Time
	// Report takes what is worth an event. It must not block and must see
	// to it that Observation.Done is called. Required.
	Report func(Observation)
	// Owner names the process behind a local flow. It is asked after an
	// answer of a name server was passed on, and before a connection without
	// a name is judged whose address has names that matter, in both cases
	// under OwnerTimeout. Optional: without it names are learned for nobody
	// in particular.
	Owner func(ctx context.Context, f Flow) (pid int, ok bool)
	// Users tells whose a user id is. Optional: without it users are known
	// by their id alone, so that what is for a name or a group is for none
	// of them.
	Users Users
	// Panicked is told of what was recovered from a panic where Handle had
	// returned already; the packet gets the answer of one that is judged too
	// late. Optional.
	Panicked func(cause any)
	// Used is told of every connection that is judged by a name, whatever
	// comes of it. It is called with a lock held: it must not block, nor call
	// the Inspector. Optional.
	Used func(f Flow, host string)
	// Replier answers requests that are refused. Optional: without it no
	// Observation has Explain.
	Replier Replier
}

// Observation is something an Inspector decided that is worth an event.
type Observation struct {
	Time     time.Time
	Decision verdict.Decision
	// Flow is the connection in its first packet's direction; for an answer
	// of a name server, the query's.
	Flow        Flow
	Destination event.Destination
	Evidence    event.Evidence
	// UID owns the sending socket; HasUID tells whether it is known.
	UID    uint32
	HasUID bool
	// Cut is true when the connection was already open.
	Cut bool
	// Done must be called once, from any goroutine, when the owner of Flow
	// has been looked up: until then the connection waits, since a program
	// that is refused may be gone a millisecond later.
	Done func()
	// Explain has the refused request answered with a page. It is nil where
	// that is not possible. It must be called before Done, and does nothing
	// the second time or when it comes too late.
	Explain func(Explanation)
}

// Stats are an Inspector's counters since it was made.
type Stats struct {
	// Named and Nameless count connections that were decided.
	Named, Nameless uint64
	// Refused and Audited count decisions on connections and on answers.
	Refused, Audited uint64
	// Explained counts refused requests that were answered with a page.
	Explained uint64
	// Malformed counts packets that could not be read and were passed on.
	Malformed uint64
	// GaveUp counts connections for which a bound was reached before a name.
	GaveUp uint64
	// Answers counts answers of name servers; Rewritten those that were
	// changed, Unwritable those that ought to have been and could not.
	Answers, Rewritten, Unwritable uint64
	// Live and Undecided are the connections being remembered now.
	Live, Undecided int
}

// Inspector is the Handler that judges: it reads names out of packets, asks
// the ruleset, and remembers which live connection has which name, so that a
// new ruleset can end what it refuses.
//
// Nothing is held back to wait for more: a segment that does not complete a
// name is passed on at once, since no server can answer half a ClientHello.
// What waits is only a connection that is about to be refused or reported,
// for as long as its owner is looked up.
type Inspector struct {
	cfg InspectorConfig

	// mu guards rules, flows and names. A decision and the record of its
	// flow are made under one lock, so that SetRuleset misses none.
	mu    sync.Mutex
	rules *verdict.Ruleset
	flows *flowTable
	names *learnedNames

	// owners and users have a slot for every packet that waits for an Owner
	// or for Users.
	owners, users chan struct{}
	pending       sync.WaitGroup

	named, nameless, refused, audited, malformed, gaveUp atomic.Uint64
	answers, rewritten, unwritable, explained            atomic.Uint64
}

var _ Handler = (*Inspector)(nil)

// NewInspector returns an Inspector that lets everything pass until it is
// given a ruleset.
func NewInspector(cfg InspectorConfig) (*Inspector, error) {
	if cfg.Now == nil || cfg.Report == nil {
		return nil, errors.New("making an inspector: Now and Report are required")
	}
	return &Inspector{
		cfg: cfg, flows: newFlowTable(), names: newLearnedNames(),
		owners: make(chan struct{}, waitingForOwner), users: make(chan struct{}, waitingForUser),
	}, nil
}

// SetRuleset makes rs the judge of all that follows, and returns the live
// connections that it refuses, for the caller to cut and to report. Their
// Done does nothing.
func (in *Inspector) SetRuleset(rs *verdict.Ruleset) []Observation {
	now := in.cfg.Now()
	in.mu.Lock()
	defer in.mu.Unlock()
	in.rules = rs
	var cut []Observation
	for _, open := range []map[Flow]verdict.Subject{in.flows.live, in.flows.met} {
		for f, s := range open {
			s.User = in.latest(s.User)
			d := rs.Decide(s, now)
			if !d.Refuses() {
				continue
			}
			in.flows.forget(f)
			in.flows.refuse(f, now)
			in.refused.Add(1)
			cut = append(cut, cutObservation(f, s, d, now))
		}
	}
	return cut
}

func cutObservation(f Flow, s verdict.Subject, d verdict.Decision, now time.Time) Observation {
	o := Observation{
		Time: now, Decision: d, Flow: f, Destination: destinationOf(f, s),
		Evidence: s.Evidence, Cut: true, Done: func() {},
	}
	if s.User != nil {
		o.UID, o.HasUID = s.User.UID, true
	}
	return o
}

// Forget drops what is known of a connection that has ended.
func (in *Inspector) Forget(f Flow) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.flows.forget(f)
}

// Stats returns the counters.
func (in *Inspector) Stats() Stats {
	in.mu.Lock()
	live, undecided := len(in.flows.live), len(in.flows.undecided)
	in.mu.Unlock()
	return Stats{
		Named: in.named.Load(), Nameless: in.nameless.Load(), Refused: in.refused.Load(), Audited: in.audited.Load(), Explained: in.explained.Load(),
		Malformed: in.malformed.Load(), GaveUp: in.gaveUp.Load(), Answers: in.answers.Load(),
		Rewritten: in.rewritten.Load(), Unwritable: in.unwritable.Load(), Live: live, Undecided: undecided,
	}
}

// Wait returns when no packet is waiting for its owner any more. Handle must
// not be called meanwhile.
func (in *Inspector) Wait() { in.pending.Wait() }

// Handle judges one packet. See Handler.
func (in *Inspector) Handle(p Packet, answer func(Verdict)) {
	pkt, err := sniff.ParsePacket(p.Data)
	if err != nil && p.Queue == QueueAddress {
		answer(Verdict{Decision: in.judgeOther(p)})
		return
	}
	if err != nil {
		// A packet we cannot read is no reason to break a connection.
		in.malformed.Add(1)
		answer(Verdict{Decision: Pass})
		return
	}
	switch p.Queue {
	case QueueFlow:
		in.handleFlow(p, pkt, answer)
	case QueueDNS:
		in.handleDNS(p, pkt, answer)
	case QueueAddress:
		in.handleAddress(p, pkt, answer)
	default:
		answer(Verdict{Decision: Pass})
	}
}

// outcome is what becomes of a packet: its verdict, and the observation it has
// to wait for, if any.
type outcome struct {
	verdict  Verdict
	observed *Observation
	// subject is what was judged and rules what judged it, where an observed
	// connection was decided.
	subject verdict.Subject
	rules   *verdict.Ruleset
	// request is the packet of a refused request that may be answered.
	request *Packet
}

func decided(d Decision) outcome { return outcome{verdict: Verdict{Decision: d}} }

// settle answers with an outcome. It is called without mu.
func (in *Inspector) settle(o outcome, answer func(Verdict)) {
	if o.observed == nil {
		answer(o.verdict)
		return
	}
	h := &held{in: in, outcome: o, answer: answer}
	o.observed.Done = h.release
	if o.request != nil {
		o.observed.Explain = h.explain
	}
	in.cfg.Report(*o.observed)
}

// review returns the verdict of an outcome that had to wait. Where new rules
// refuse by now what the earlier ones accepted, it is Refuse: SetRuleset has
// given the connection out to be cut, and accepting it after that would undo
// the cut.
func (in *Inspector) review(o outcome) Verdict {
	if o.rules == nil || o.verdict.Decision != Accept {
		return o.verdict
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.rules == o.rules {
		return o.verdict
	}
	if d := in.rules.Decide(o.subject, in.cfg.Now()); d.Refuses() {
		return Verdict{Decision: Refuse}
	}
	return o.verdict
}

// handleFlow reads on in a connection that is not decided yet.
func (in *Inspector) handleFlow(p Packet, pkt sniff.Packet, answer func(Verdict)) {
	f := Flow{Protocol: pkt.Protocol, Source: pkt.Source, Dest: pkt.Dest}
	o, q := in.judgeFlow(p, f, pkt)
	if q == nil {
		in.settle(o, answer)
		return
	}
	in.ask(p, f, *q, func(s verdict.Subject) {
		in.mu.Lock()
		o := in.decide(p, f, s)
		in.mu.Unlock()
		in.settle(in.explainable(o, p, *q), answer)
	})
}

// judgeFlow returns the outcome of a packet; or, when that depends on who
// sends it, what there is to find out.
func (in *Inspector) judgeFlow(p Packet, f Flow, pkt sniff.Packet) (outcome, *question) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.rules == nil {
		return decided(Pass), nil
	}
	now := in.cfg.Now()
	opening := in.flows.undecided[f] == nil
	finding := in.flows.read(f, pkt, now)
	if d, ok := in.flows.decidedBefore(f, finding, now); ok {
		return decided(d), nil
	}
	q := question{subject: subjectOf(f, finding), opening: opening}
	q.subject.User, q.whose = in.userOf(p)
	switch {
	case finding.State == sniff.Undecided:
		return decided(Pass), nil
	case finding.State == sniff.Named:
		in.named.Add(1)
	case finding.Reason == sniff.ReasonLimit:
		in.gaveUp.Add(1)
		if in.rules.FailMode() == fleet.FailClosed {
			return decided(Refuse), nil
		}
		in.nameFromLookups(&q, now)
	default:
		in.nameless.Add(1)
		in.nameFromLookups(&q, now)
	}
	if q.names != nil || q.whose && in.rules.AsksWho(q.subject) {
		return outcome{}, &q
	}
	return in.explainable(in.decide(p, f, q.subject), p, q), nil
}

// decide asks the ruleset about a connection and remembers it when it may go
// on. The caller holds mu.
func (in *Inspector) decide(p Packet, f Flow, s verdict.Subject) outcome {
	now := in.cfg.Now()
	d := in.rules.Decide(s, now)
	if in.cfg.Used != nil && s.Host != "" {
		in.cfg.Used(f, s.Host)
	}
	o := decided(Accept)
	if d.Refuses() {
		o = decided(Refuse)
		in.flows.refuse(f, now)
	} else {
		in.flows.accept(f, s)
	}
	if !reportedAtFirstPacket(d, f, s) && in.counts(d) {
		o.subject, o.rules = s, in.rules
		o.observed = &Observation{
			Time: now, Decision: d, Flow: f, Destination: destinationOf(f, s),
			Evidence: s.Evidence, UID: p.UID, HasUID: p.HasUID,
		}
	}
	return o
}

// counts counts a decision and tells whether it is worth an event: an allow
// leaves none.
func (in *Inspector) counts(d verdict.Decision) bool {
	switch {
	case !d.Reports():
		return false
	case d.Refuses():
		in.refused.Add(1)
	default:
		in.audited.Add(1)
	}
	return true
}

// reportedAtFirstPacket tells whether an address decided, which was reported
// when the connection's first packet was seen, see handleAddress. An address
// that was asked of a proxy shows in no first packet.
func reportedAtFirstPacket(d verdict.Decision, f Flow, s verdict.Subject) bool {
	return !d.Refuses() && d.Step == verdict.StepAddress && s.Addr == f.Dest.Addr().Unmap()
}

// subjectOf is what the ruleset is asked about a connection whose bytes say
// where it goes. Through a proxy that is not where its packets go.
func subjectOf(f Flow, finding sniff.Finding) verdict.Subject {
	s := verdict.Subject{
		Host: finding.Host, Path: boundedPath(finding.Path), Addr: f.Dest.Addr().Unmap(), Port: f.Dest.Port(), Evidence: finding.Evidence,
	}
	if finding.Addr.IsValid() || finding.Evidence == event.EvidenceHTTPConnect || finding.Evidence == event.EvidenceSOCKS5 {
		s.Addr = finding.Addr
	}
	if finding.Port != 0 {
		s.Port = finding.Port
	}
	return s
}

// boundedPath is what is remembered and reported of a request's path: its
// canonical form, which is printable ASCII, cut to what a url indicator can
// have. No indicator tells two paths apart behind that.
func boundedPath(path string) string {
	if path == "" {
		return ""
	}
	path = indicator.CanonicalPath(path)
	return path[:min(len(path), indicator.MaxURL)]
}

func destinationOf(f Flow, s verdict.Subject) event.Destination {
	d := event.Destination{Host: s.Host, IP: s.Addr, Port: s.Port, Protocol: "tcp"}
	if f.Protocol == sniff.ProtocolUDP {
		d.Protocol = "udp"
		if s.Evidence == event.EvidenceQUICSNI {
			d.Protocol = "quic"
		}
	}
	if s.Path != "" && s.Host != "" {
		d.URL = "http://" + s.Host + s.Path
	}
	return d
}
