//go:build !linux

package sockdiag

import (
	"errors"
	"net/netip"
)

// Conn asks the kernel about sockets. There is none on this system.
type Conn struct{}

// Open fails: the mechanism is Linux's.
func Open() (*Conn, error) {
	return nil, errors.New("opening the socket monitor: only Linux has one")
}

// OpenAt fails: the mechanism is Linux's.
func OpenAt(string) (*Conn, error) { return Open() }

// Close does nothing.
func (*Conn) Close() error { return nil }

// Find is never called: Open fails.
func (*Conn) Find(uint8, netip.AddrPort, netip.AddrPort) (Socket, error) {
	return Socket{}, ErrNotFound
}
