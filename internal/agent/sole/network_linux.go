package sole

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"interdict/internal/fault"
)

// claimName is an abstract socket: those names are of a network namespace, as
// the packet filter is, and the kernel frees them when the process ends,
// however it does (unix(7)).
const claimName = "@interdict-agent"

// Network makes this process the only agent in the network namespace of the
// calling thread: two would write the same table in turns. Without privileges
// anybody may take the name, so only root or our own user is believed to be an
// agent; against others the claim is given up with a warning, and release does
// nothing.
func Network(log *slog.Logger) (release func() error, err error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", claimName)
	if err == nil {
		// Nobody is ever answered: that the name is taken says everything.
		return listener.Close, nil
	}
	if !errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("claiming the packet filter of this network: %w", err)
	}
	holder, holderErr := claimant()
	if holderErr != nil || holder.Uid != 0 && int(holder.Uid) != os.Geteuid() {
		log.Warn("a program that is no agent has taken the name by which agents find each other; this one runs all the same",
			"name", claimName, "error", holderErr)
		return func() error { return nil }, nil
	}
	if holder.Pid == 0 {
		return nil, fault.New(fault.Conflict, "another agent, in another container, holds the packet filter of this network").
			WithHint("stop that one, or run this one in a network namespace of its own").Because(err)
	}
	return nil, fault.New(fault.Conflict, "another agent, process %d, holds the packet filter of this network", holder.Pid).
		WithHint("see it with: ps -fp %d; stop it, or run this one in a network namespace of its own", holder.Pid).Because(err)
}

// claimant is who listens on the name.
func claimant() (*unix.Ucred, error) {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "unix", claimName)
	if err != nil {
		return nil, fmt.Errorf("asking who holds the packet filter: %w", err)
	}
	defer func() { _ = conn.Close() }()
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("asking who holds the packet filter: a %T is no socket", conn)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("asking who holds the packet filter: %w", err)
	}
	var holder *unix.Ucred
	var optErr error
	err = raw.Control(func(fd uintptr) { holder, optErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, optErr); err != nil {
		return nil, fmt.Errorf("asking who holds the packet filter: %w", err)
	}
	return holder, nil
}
