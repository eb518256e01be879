package control

import (
	"context"
	"errors"
	"sync"
	"time"

	"interdict/internal/bundle"
	"interdict/internal/control/input"
	"interdict/internal/fleet"
	"interdict/internal/store"
)

const (
	// maxNoted bounds how many devices' facts are written in one change.
	maxNoted = 1000
	// noteInterval is how long to wait between two such changes, so that a
	// device which says something else all the time does not keep every server
	// compiling.
	noteInterval = 50 * time.Millisecond
)

// Describe puts into a device what it says of itself, made fit to be kept.
func Describe(d *fleet.Device, f bundle.Facts) {
	for _, fact := range []struct {
		into *string
		text string
	}{{&d.Hostname, f.Hostname}, {&d.OS, f.OS}, {&d.OSVersion, f.OSVersion}, {&d.Arch, f.Arch}, {&d.AgentVersion, f.AgentVersion}} {
		*fact.into = input.Clip(fact.text, input.MaxFact)
	}
}

// sameFacts reports whether two states of a device say the same of it.
func sameFacts(a, b *fleet.Device) bool {
	return a.Hostname == b.Hostname && a.OS == b.OS && a.OSVersion == b.OSVersion && a.Arch == b.Arch && a.AgentVersion == b.AgentVersion
}

// notes are facts that are to be written: what the groups of devices depend on
// is configuration, and a fleet that is upgraded says something new all at
// once.
type notes struct {
	// mu guards the following.
	mu    sync.Mutex
	facts map[fleet.DeviceID]bundle.Facts
	// taken are those that are being written.
	taken map[fleet.DeviceID]bundle.Facts
	// ready has something while there is something to be taken.
	ready chan struct{}
}

func newNotes() *notes {
	return &notes{facts: make(map[fleet.DeviceID]bundle.Facts), ready: make(chan struct{}, 1)}
}

func (n *notes) add(id fleet.DeviceID, f bundle.Facts) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.facts[id] = f
	n.wake()
}

// wake is called with mu held.
func (n *notes) wake() {
	select {
	case n.ready <- struct{}{}:
	default:
	}
}

// about reports whether something else than what is known of a device may be
// about to be written.
func (n *notes) about(id fleet.DeviceID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, waiting := n.facts[id]
	_, taken := n.taken[id]
	return waiting || taken
}

// take returns the facts of some devices, for done to hear what became of it.
func (n *notes) take() map[fleet.DeviceID]bundle.Facts {
	n.mu.Lock()
	defer n.mu.Unlock()
	taken := make(map[fleet.DeviceID]bundle.Facts)
	n.taken = taken
	for id, f := range n.facts {
		if len(taken) == maxNoted {
			n.wake()
			break
		}
		taken[id] = f
		delete(n.facts, id)
	}
	return taken
}

// done ends what take began. What could not be written is put back, unless
// something newer has come.
func (n *notes) done(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	taken := n.taken
	n.taken = nil
	if err == nil {
		return
	}
	for id, f := range taken {
		if _, newer := n.facts[id]; !newer {
			n.facts[id] = f
		}
	}
	n.wake()
}

// note has a device's facts written if they are not what is known of it. It
// does not wait for that.
func (s *Service) note(id fleet.DeviceID, f bundle.Facts) {
	if f == (bundle.Facts{}) {
		return
	}
	s.mu.RLock()
	known := s.state.Devices[id].Device
	s.mu.RUnlock()
	now := known
	Describe(&now, f)
	if !sameFacts(&known, &now) || s.noted.about(id) {
		s.noted.add(id, f)
	}
}

// noteLoop writes facts, until ctx ends. What comes while it does is written
// together.
func (s *Service) noteLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.noted.ready:
		}
		taken := s.noted.take()
		_, err := s.Change(ctx, func(tx *store.Tx) error { return putFacts(tx, taken) })
		s.noted.done(err)
		if err != nil && ctx.Err() == nil {
			s.logger.ErrorContext(ctx, "writing what devices say of themselves", "error", err)
			wait(ctx, flushInterval)
		}
		wait(ctx, noteInterval)
	}
}

// putFacts alters the devices of which something else is known. It is no edit:
// nobody did it, so it has no line in the audit log and makes no version.
func putFacts(tx *store.Tx, facts map[fleet.DeviceID]bundle.Facts) error {
	for id, f := range facts {
		d, err := tx.Devices().Get(string(id))
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		before := d
		if Describe(&d, f); sameFacts(&before, &d) {
			continue
		}
		if err := tx.Devices().Put(d); err != nil {
			return err
		}
	}
	return nil
}
