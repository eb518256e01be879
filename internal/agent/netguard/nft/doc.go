// Package nft holds the kernel's half of packet judgement on Linux: the
// nftables table that decides which packets reach the agent, remembers its
// answers in the connection mark and refuses known-bad addresses by itself.
// How packets reach the agent is the business of package nfqueue; what they
// mean, of package netguard.
//
// Everything is in one table, `inet interdict`, which nobody else owns:
//
//	output, forward, input          base chains, priority -149: after
//	                                connection tracking and mangle, before
//	                                NAT and every filter
//	  undecided saves answers, finds addresses
//	  inspect   finds payloads that can carry a name and queues them
//	  quic      likewise for UDP
//	  bare4/6   lets TCP segments without payload go
//	  answers   queues the answers of name servers
//	  refuse    refuses a connection whose mark says so
//	refuse_output, refuse_forward   base chains, priority -140
//	  addresses refuses what goes to the sets refused4 and refused6
//
// The second pair of base chains stands apart because a queue with bypass
// and no listener accepts the packet, which ends a base chain: what is in
// the sets must stay refused while the agent is dead.
//
// An answer comes back as NF_REPEAT with a packet mark. The kernel then runs
// the same base chain again, whose rules move the bits into the connection
// mark and clear them in the packet mark. Policy routing therefore never
// sees them, and the kernel, which compares the mark before and after, does
// not route the packet anew. Only the bits of netguard.MarkMask are ever
// written, by masked operations that old kernels know too.
//
// A packet mark with both bits set asks the rules to go on with a packet
// that the address queue has seen, so that a watched address is reported
// and its connection is inspected like any other.
//
// Loopback is no exception: a proxy on the host itself is a way out.
//
// The queue statement of nftables is a module of its own that some kernels
// lack; there the NFQUEUE target of xtables does the same through nft's
// compatibility layer. New finds out which.
package nft
