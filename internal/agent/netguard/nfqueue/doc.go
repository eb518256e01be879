// Package nfqueue carries packets from the kernel's queues to a
// netguard.Handler, and its answers back (Linux, NFQUEUE). Which packets come
// is decided by package nft; what an answer does to a connection is done by
// that package's rules, to which it is passed as a packet mark.
//
// Each queue has a socket and a goroutine of its own. A packet is answered
// exactly once: by the handler, or by the queues themselves when the handler
// panics or takes longer than the deadline, and when the program ends.
package nfqueue
