// Package presence knows which devices are connected to this server, what is
// to be told to them, and what they last said of themselves, here or to
// another server. It decides nothing about devices and writes nothing down;
// it remembers what is to be written.
package presence

import (
	"sync"
	"time"

	"interdict/internal/fleet"
	"interdict/internal/store"
)

// Table has what devices say of themselves. The server a device is connected
// to knows it first and writes it down in batches.
type Table struct {
	// server is what this server is called in states.
	server string

	// mu guards the following.
	mu     sync.RWMutex
	states map[fleet.DeviceID]store.DeviceState
	dirty  map[fleet.DeviceID]bool
	// remoteAt is when other servers' states were last read.
	remoteAt time.Time
}

// NewTable returns a table that knows nothing, for a server.
func NewTable(server string) *Table {
	return &Table{server: server, states: make(map[fleet.DeviceID]store.DeviceState), dirty: make(map[fleet.DeviceID]bool)}
}

// Get returns the state of a device, the zero value if it is not known.
func (p *Table) Get(id fleet.DeviceID) store.DeviceState {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.states[id]
}

// Update alters the state of a device, which Take returns next, and returns
// it.
func (p *Table) Update(id fleet.DeviceID, now time.Time, alter func(*store.DeviceState)) store.DeviceState {
	p.mu.Lock()
	defer p.mu.Unlock()
	state := p.states[id]
	state.Device, state.UpdatedAt = id, now
	alter(&state)
	p.states[id], p.dirty[id] = state, true
	return state
}

// Forget forgets a device.
func (p *Table) Forget(id fleet.DeviceID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.states, id)
	delete(p.dirty, id)
}

// Take returns the states to be written down: those that were updated since it
// was called last.
func (p *Table) Take() []store.DeviceState {
	p.mu.Lock()
	defer p.mu.Unlock()
	states := make([]store.DeviceState, 0, len(p.dirty))
	for id := range p.dirty {
		states = append(states, p.states[id])
	}
	clear(p.dirty)
	return states
}

// Retry marks states again that could not be written.
func (p *Table) Retry(states []store.DeviceState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, state := range states {
		if _, known := p.states[state.Device]; known {
			p.dirty[state.Device] = true
		}
	}
}

// Leaving reports whether Take would return devices that are no longer
// connected here. They may have come to another server meanwhile, so what other
// servers wrote should be learned first.
func (p *Table) Leaving() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for id := range p.dirty {
		if p.states[id].Server == "" {
			return true
		}
	}
	return false
}

// Learn takes what other servers wrote, unless it is known better here.
func (p *Table) Learn(states []store.DeviceState, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remoteAt = now
	for i := range states {
		p.learn(&states[i])
	}
}

// learn is called with mu held. When a device goes from one server to another,
// the one that it left may notice last: it has no say then.
func (p *Table) learn(written *store.DeviceState) {
	id := written.Device
	have, known := p.states[id]
	newer := written.UpdatedAt.After(have.UpdatedAt)
	next := have
	switch {
	case !known:
		next = *written
	case have.Server == p.server && written.Server == "" && newer:
		p.dirty[id] = true
	case have.Server == "" && written.Server != "" && written.Server != p.server:
		next = *written
		delete(p.dirty, id)
	case newer:
		next = *written
	}
	for _, other := range []*store.DeviceState{&have, written} {
		if other.Applied.At.After(next.Applied.At) {
			next.Applied = other.Applied
		}
		if other.LastSeen.After(next.LastSeen) {
			next.LastSeen = other.LastSeen
		}
	}
	p.states[id] = next
}

// RemoteAge says when Learn was last called, and how long ago that is.
func (p *Table) RemoteAge(now time.Time) (since time.Time, age time.Duration) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.remoteAt, now.Sub(p.remoteAt)
}
