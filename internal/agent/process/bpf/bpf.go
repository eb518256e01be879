// Package bpf decides who opened a socket, by asking the kernel to write it
// down at the moment it happens.
//
// Six small programs at the root of the cgroup tree do that. Those at
// connect(2) and at sendmsg(2) on an unconnected UDP socket run in the
// context of the calling process and record it under the socket's cookie.
// One at the start of a TCP handshake, when the local address is known, and
// one at the end of a UDP socket, when it can no longer be asked, record
// which addresses belong to which cookie. Both records outlive the socket and
// the process, until newer ones push them out, so that a program that is
// refused and gone within a millisecond can still be named.
//
// The first connection of a process is also announced to user space, with a
// snapshot of its command line and of the path it was started by. Whoever
// listens reads the rest from /proc while the process lives, and has the
// snapshot if it is already gone.
//
// Several trackers on one machine do not disturb each other: each loads its
// own programs with its own maps, and attaches them beside those that are
// there. What a tracker's own network namespace does is kept apart from
// everything else by the namespace's cookie, which is compared in the
// program. Nothing is pinned: when the process that holds a Tracker dies,
// however it dies, the kernel detaches and frees everything.
//
// The programs are written with an assembler instead of C, so that neither
// building nor testing needs a C compiler. They need Linux 5.14. Where the
// kernel publishes its type information (BTF), they also remember closed UDP
// sockets, take the snapshots, and tell apart the programs which one process
// runs one after another by execve(2).
package bpf

import (
	"errors"
	"net/netip"
	"time"
)

// IP protocol numbers.
const (
	protocolTCP = 6
	protocolUDP = 17
)

// ErrNotFound says that the kernel has no record of a socket or tuple.
var ErrNotFound = errors.New("no record of this connection")

// Scope says whose sockets a Tracker records.
type Scope uint8

// The scopes.
const (
	// ScopeNamespace records the sockets of the network namespace in which
	// Open was called. It is the default.
	ScopeNamespace Scope = iota
	// ScopeMachine also records those of every other network namespace:
	// what a gateway or the host of containers forwards.
	ScopeMachine
)

// Config says what a Tracker records.
type Config struct {
	Scope Scope
	// Announce is told of the first connection of each process, and of later
	// ones at most once a second per thread name, in order. It is called
	// from one goroutine, which Close waits for. It must not block for
	// long: while it does, announcements queue up and are then lost.
	// Required.
	Announce func(Announcement)
}

// Connect is one record: who used a socket, and when.
type Connect struct {
	// PID is the id of the process (its thread group).
	PID int
	UID uint32
	GID uint32
	// NetNS is the cookie of the socket's network namespace.
	NetNS uint64
	// Cgroup is the id of the process's cgroup2.
	Cgroup uint64
	// Since is when the socket was used, counted from the machine's boot,
	// sleep included.
	Since time.Duration
	// Image tells the programs apart which a process has run: it is the
	// address of the program's arguments, which execve(2) makes random.
	// Zero where it is not known.
	Image uint64
	// Comm is the name of the calling thread, at most 15 bytes.
	Comm string
}

// Announcement is a Connect with what a process tells about itself. Both are
// as the process has them: it can lie, and the bytes can be anything.
type Announcement struct {
	Connect
	// Path is what execve(2) was called with. It may be relative.
	Path string
	// Args are the command line's arguments, each ended by a zero byte, cut
	// after 512 bytes.
	Args []byte
}

// Tuple names a socket by its ends, as its own network namespace sees them.
type Tuple struct {
	// Protocol is the IP protocol number: 6 for TCP, 17 for UDP.
	Protocol uint8
	// Local and Remote are as the socket has them: those of an unconnected
	// UDP socket are unspecified.
	Local, Remote netip.AddrPort
}
