//go:build !linux

package bpf

import "errors"

// Tracker records who opens sockets. There is none on this system.
type Tracker struct{}

// Open fails: the mechanism is Linux's.
func Open(Config) (*Tracker, error) {
	return nil, errors.New("opening the connection tracker: only Linux has cgroup programs")
}

// NetNS is never called: Open fails.
func (*Tracker) NetNS() uint64 { return 0 }

// Types is never called: Open fails.
func (*Tracker) Types() error { return nil }

// ByCookie is never called: Open fails.
func (*Tracker) ByCookie(uint64) (Connect, error) { return Connect{}, ErrNotFound }

// ByTuple is never called: Open fails.
func (*Tracker) ByTuple(Tuple) (Connect, error) { return Connect{}, ErrNotFound }

// Close does nothing.
func (*Tracker) Close() error { return nil }
