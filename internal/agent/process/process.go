// Package process decides who owns a connection: the process and the user
// behind a local socket.
//
// The name of a connection decides its verdict, never its process; what is
// found here only fills in the event. A look-up is therefore allowed to be
// slow and to fail, and never runs inside a serial queue handler. The
// mechanisms are rooms below this one: sockdiag finds the socket of a flow,
// procfs reads what a process is, bpf remembers at connect time who opened a
// socket, which is the only way to name a process that has exited since.
package process

import (
	"context"
	"errors"
	"net/netip"

	"interdict/internal/event"
)

// ErrNotFound says that no process could be named for a flow.
var ErrNotFound = errors.New("no process owns this flow")

// Flow names one connection as this host's sockets see it.
type Flow struct {
	// Protocol is the IP protocol number: 6 for TCP, 17 for UDP.
	Protocol uint8
	// Local is the source of outbound packets, Remote their destination.
	Local, Remote netip.AddrPort
}

// Owner is who a flow belongs to.
type Owner struct {
	Process event.Process
	User    event.User
}

// Finder finds the owner of a flow. Find returns as much as is known
// together with ErrNotFound (wrapped) when no process could be named; it
// ends early when ctx does. It is safe for concurrent use.
type Finder interface {
	Find(ctx context.Context, f Flow) (Owner, error)
}
