package nfqueue

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// resetter tells the far side that a connection was refused. The kernel's
// rules reset the near side and discard the packet, which leaves the server
// waiting for the first bytes of a client that is gone.
type resetter struct {
	// mu guards the sockets, which are -1 if not open: their numbers must
	// not be used once they may mean something else.
	mu               sync.Mutex
	socket4, socket6 int
}

// newResetter opens the raw sockets. With an error it returns a resetter that
// does what it can.
func newResetter() (*resetter, error) {
	// IPPROTO_RAW says that the IP header is in the data; see raw(7).
	socket4, err4 := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW)
	socket6, err6 := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW)
	if err := errors.Join(err4, err6); err != nil {
		err = fmt.Errorf("opening raw sockets (they need CAP_NET_RAW): %w", err)
		return &resetter{socket4: socket4, socket6: socket6}, err
	}
	return &resetter{socket4: socket4, socket6: socket6}, nil
}

// reset ends the connection of a packet at its receiver, if it is TCP. It is
// a courtesy: the connection is refused whether or not it gets there.
func (r *resetter) reset(packet []byte) {
	reset, to, ok := resetFor(packet)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !ok:
	case to.Is4():
		_ = unix.Sendto(r.socket4, reset, 0, &unix.SockaddrInet4{Addr: to.As4()})
	default:
		_ = unix.Sendto(r.socket6, reset, 0, &unix.SockaddrInet6{Addr: to.As16()})
	}
}

func (r *resetter) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var faults []error
	for _, s := range []*int{&r.socket4, &r.socket6} {
		if *s < 0 {
			continue
		}
		if err := unix.Close(*s); err != nil {
			faults = append(faults, fmt.Errorf("closing a raw socket: %w", err))
		}
		*s = -1
	}
	return errors.Join(faults...)
}
