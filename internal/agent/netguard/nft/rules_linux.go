package nft

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"interdict/internal/agent/netguard"
)

const tableName = "interdict"

// The names of chains, see the package comment.
const (
	chainOutput        = "output"
	chainForward       = "forward"
	chainInput         = "input"
	chainRefuseOutput  = "refuse_output"
	chainRefuseForward = "refuse_forward"
	chainFlow          = "undecided"
	chainInspect       = "inspect"
	chainQUIC          = "quic"
	chainBare4         = "bare4"
	chainBare6         = "bare6"
	chainAnswers       = "answers"
	chainRefuse        = "refuse"
	chainAddresses     = "addresses"
	chainRefuseAddress = "refuse_address"
)

// Priorities of the base chains, and so their order.
const (
	priorityQueue  nftables.ChainPriority = -149
	priorityRefuse nftables.ChainPriority = -140
)

// portDNS is the port name servers answer from.
const portDNS = 53

// Counter names one of the table's packet counters.
type Counter string

// The counters.
const (
	CounterQueuedFlow     Counter = "queued_flow"
	CounterQueuedDNS      Counter = "queued_dns"
	CounterQueuedAddress  Counter = "queued_address"
	CounterAccepted       Counter = "accepted_connections"
	CounterRefused        Counter = "refused_connections"
	CounterRefusedPackets Counter = "refused_packets"
	CounterRefusedAddress Counter = "refused_address_packets"
)

func counters() []Counter {
	return []Counter{
		CounterQueuedFlow, CounterQueuedDNS, CounterQueuedAddress, CounterAccepted,
		CounterRefused, CounterRefusedPackets, CounterRefusedAddress,
	}
}

// program writes the whole table into one batch. It never deletes a base
// chain: the kernel drops every packet that waits in a queue when one goes.
type program struct {
	conn     *nftables.Conn
	table    *nftables.Table
	queueing Queueing
	config   netguard.Config
}

// write puts chains, counters and rules into the batch. The table must have
// no rules, and must have the sets.
func (p *program) write() {
	p.chains()
	for _, c := range counters() {
		p.conn.AddObj(&nftables.NamedObj{
			Table: p.table, Name: string(c), Type: nftables.ObjTypeCounter, Obj: &expr.Counter{},
		})
	}
	p.entries()
	p.flow()
	p.inspect()
	p.answers()
	p.refusals()
}

// chains adds every chain; all must be there before a rule names one.
func (p *program) chains() {
	base := func(name string, hook *nftables.ChainHook, priority nftables.ChainPriority) {
		policy := nftables.ChainPolicyAccept
		p.conn.AddChain(&nftables.Chain{
			Table: p.table, Name: name, Type: nftables.ChainTypeFilter,
			Hooknum: hook, Priority: &priority, Policy: &policy,
		})
	}
	base(chainOutput, nftables.ChainHookOutput, priorityQueue)
	base(chainForward, nftables.ChainHookForward, priorityQueue)
	base(chainInput, nftables.ChainHookInput, priorityQueue)
	base(chainRefuseOutput, nftables.ChainHookOutput, priorityRefuse)
	base(chainRefuseForward, nftables.ChainHookForward, priorityRefuse)
	for _, name := range []string{
		chainFlow, chainInspect, chainQUIC, chainBare4, chainBare6,
		chainAnswers, chainRefuse, chainAddresses, chainRefuseAddress,
	} {
		p.conn.AddChain(&nftables.Chain{Table: p.table, Name: name})
	}
}

// rule appends one rule to a chain: matches, then actions.
func (p *program) rule(chain string, parts ...match) {
	var exprs []expr.Any
	for _, part := range parts {
		exprs = append(exprs, part...)
	}
	p.conn.AddRule(&nftables.Rule{Table: p.table, Chain: &nftables.Chain{Name: chain}, Exprs: exprs})
}

// queue is the pair of actions that counts a packet and hands it over.
func (p *program) queue(c Counter, q netguard.Queue) match {
	return match{count(c), p.queueing.toQueue(q, p.config)}
}

// entries fills the base chains. The first rule is all that a packet of an
// accepted connection meets.
func (p *program) entries() {
	accepted := connectionMark(netguard.MarkAccept)
	p.rule(chainOutput, accepted, match{accept()})
	p.rule(chainOutput, match{goTo(chainFlow)})

	p.rule(chainForward, accepted, match{accept()})
	p.forwarded(chainForward, replying(), metaOutputKind, chainAnswers)
	p.rule(chainForward, replying(), match{accept()})
	p.forwarded(chainForward, nil, metaInputKind, chainFlow)

	p.rule(chainInput, accepted, match{accept()})
	p.rule(chainInput, replying(), match{goTo(chainAnswers)})

	p.rule(chainRefuseOutput, replying(), match{accept()})
	p.rule(chainRefuseOutput, match{goTo(chainAddresses)})

	p.rule(chainRefuseForward, replying(), match{accept()})
	p.forwarded(chainRefuseForward, nil, metaInputKind, chainAddresses)
}

// forwarded sends forwarded packets on to another chain: all of them on a
// gateway, else those of containers and virtual machines, which are known by
// the kind of their interface.
func (p *program) forwarded(chain string, when match, side expr.MetaKey, to string) {
	if p.config.Gateway {
		p.rule(chain, when, match{goTo(to)})
		return
	}
	for _, name := range []string{"veth", "bridge"} {
		p.rule(chain, when, kind(side, name), match{goTo(to)})
	}
}

// flow fills the chain of connections that are not accepted.
func (p *program) flow() {
	p.rule(chainFlow, connectionMark(netguard.MarkRefuse), match{goTo(chainRefuse)})
	// The host, or what is behind it, is the server here.
	p.rule(chainFlow, replying(), match{accept()})
	// Whoever turned tracking off did it for speed, and without it nobody
	// can tell a server's packets from a client's.
	p.rule(chainFlow, trackState(expr.CtStateBitUNTRACKED), match{accept()})

	p.rule(chainFlow, packetMark(netguard.MarkAccept), setConnectionMark(netguard.MarkAccept),
		clearPacketMark(), match{count(CounterAccepted), accept()})
	p.rule(chainFlow, packetMark(netguard.MarkRefuse), setConnectionMark(netguard.MarkRefuse),
		clearPacketMark(), match{count(CounterRefused), goTo(chainRefuse)})
	// An invalid packet has no connection, and gets no further than the use
	// of its mark in the rules above. The answer counts for that packet
	// alone; asking again would never end.
	p.rule(chainFlow, packetMark(netguard.MarkAccept), clearPacketMark(), match{accept()})
	p.rule(chainFlow, packetMark(netguard.MarkRefuse), clearPacketMark(), match{goTo(chainRefuse)})
	p.rule(chainFlow, packetMark(netguard.MarkMask), clearPacketMark(), match{goTo(chainInspect)})

	p.exempt(chainFlow)
	address := p.queue(CounterQueuedAddress, netguard.QueueAddress)
	p.rule(chainFlow, trackState(expr.CtStateBitNEW), dest4(setRefused4), address)
	p.rule(chainFlow, trackState(expr.CtStateBitNEW), dest6(setRefused6), address)
	p.rule(chainFlow, trackState(expr.CtStateBitNEW), dest4(setWatched4), address)
	p.rule(chainFlow, trackState(expr.CtStateBitNEW), dest6(setWatched6), address)
	p.rule(chainFlow, match{goTo(chainInspect)})
}

// exempt accepts packets to the endpoints that are never touched.
func (p *program) exempt(chain string) {
	for _, proto := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		p.rule(chain, protocol(proto), endpoint4(setExempt4), match{accept()})
		p.rule(chain, protocol(proto), endpoint6(setExempt6), match{accept()})
	}
}

// inspect fills the chains that find what can carry a name.
func (p *program) inspect() {
	tcp, udp := protocol(unix.IPPROTO_TCP), protocol(unix.IPPROTO_UDP)
	p.rule(chainInspect, udp, match{goTo(chainQUIC)})
	p.rule(chainInspect, tcp, destPort(portDNS), match{accept()})
	p.bareJumps(chainInspect, tcp)
	p.rule(chainInspect, tcp, p.queue(CounterQueuedFlow, netguard.QueueFlow))
	p.bare()

	// A client pads every datagram with an Initial to 1200 bytes at least
	// (RFC 9000, section 14.1), and servers discard shorter ones. Its first
	// two bits are ones (section 17.2, and RFC 9287 only after the
	// handshake); version zero is a server's negotiation.
	const shortest = 8 + 1200
	th := expr.PayloadBaseTransportHeader
	p.rule(chainQUIC, destPort(portDNS), match{accept()})
	p.rule(chainQUIC, match{
		payload(th, 4, 2), &expr.Cmp{Op: expr.CmpOpGte, Register: register, Data: net16(shortest)},
		payload(th, 8, 1), masked([]byte{0xc0}, []byte{0}), equals([]byte{0xc0}),
		payload(th, 9, 4), &expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: make([]byte, 4)},
	}, p.queue(CounterQueuedFlow, netguard.QueueFlow))
}

// bareJumps accepts TCP segments without payload.
func (p *program) bareJumps(chain string, when match) {
	p.rule(chain, when, family(unix.NFPROTO_IPV4), match{jumpTo(chainBare4)})
	p.rule(chain, when, family(unix.NFPROTO_IPV6), match{jumpTo(chainBare6)})
}

// bare fills the chains that know a TCP segment without payload: its packet
// is as long as its headers. nftables cannot add, so there is one rule for
// each length of the TCP header, the usual ones first. A packet with IPv4
// options or IPv6 extension headers is longer than that and counts as
// payload, as does a SYN that carries data (RFC 7413). One set of pairs would
// do as well, but nft up to 1.0.6 crashes when it lists such a set.
func (p *program) bare() {
	network, transport := expr.PayloadBaseNetworkHeader, expr.PayloadBaseTransportHeader
	for _, words := range []uint16{8, 10, 5, 6, 7, 9, 11, 12, 13, 14, 15} {
		header := match{
			payload(transport, 12, 1), masked([]byte{0xf0}, []byte{0}), equals([]byte{byte(words << 4)}),
		}
		const ipv4Header = 20
		p.rule(chainBare4, header, match{payload(network, 2, 2), equals(net16(ipv4Header + 4*words)), accept()})
		p.rule(chainBare6, header, match{payload(network, 4, 2), equals(net16(4 * words)), accept()})
	}
}

// answers fills the chain of packets towards whoever opened a connection. On
// a refused connection they pass: what they provoke, a segment or a QUIC
// acknowledgement, is refused on its way out, and that tells the client at
// once. Refusing the answers would tell the server alone and leave the client
// waiting, a QUIC client until its idle timeout of 30 seconds or so.
func (p *program) answers() {
	dns := p.queue(CounterQueuedDNS, netguard.QueueDNS)
	p.rule(chainAnswers, protocol(unix.IPPROTO_UDP), sourcePort(portDNS), dns)
	tcp := append(protocol(unix.IPPROTO_TCP), sourcePort(portDNS)...)
	p.bareJumps(chainAnswers, tcp)
	p.rule(chainAnswers, tcp, dns)
}

// refusals fills the chains that say no. A reset passes, since it is what
// ends the connection on the far side; so does an ICMP error about a refused
// connection, since it is the refusal itself: the kernel counts it to the
// connection that caused it, mark and all, as related. What else there is, a
// ping to an address that is refused to some, is a connection of its own.
func (p *program) refusals() {
	tcp := protocol(unix.IPPROTO_TCP)
	reset := reject(rejectTCPReset, 0)
	prohibit := reject(rejectICMPX, icmpxAdminProhibit)

	p.exempt(chainRefuse)
	p.rule(chainRefuse, tcp, hasReset(), match{accept()})
	p.rule(chainRefuse, tcp, match{count(CounterRefusedPackets), reset})
	p.rule(chainRefuse, protocol(unix.IPPROTO_UDP), match{count(CounterRefusedPackets), prohibit})
	own := trackState(expr.CtStateBitNEW | expr.CtStateBitESTABLISHED)
	p.rule(chainRefuse, own, match{count(CounterRefusedPackets), prohibit})

	p.rule(chainAddresses, dest4(setRefused4), match{goTo(chainRefuseAddress)})
	p.rule(chainAddresses, dest6(setRefused6), match{goTo(chainRefuseAddress)})
	p.exempt(chainRefuseAddress)
	p.rule(chainRefuseAddress, tcp, hasReset(), match{accept()})
	p.rule(chainRefuseAddress, tcp, match{count(CounterRefusedAddress), reset})
	p.rule(chainRefuseAddress, match{count(CounterRefusedAddress), prohibit})
}
