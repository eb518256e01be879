package control

import (
	"context"
	"sync"
	"time"

	"interdict/internal/bundle"
	"interdict/internal/fleet"
	"interdict/internal/store"
)

const (
	// flushInterval is how soon it is written down who came and went.
	flushInterval = time.Second
	// seenInterval is how often it is written down who is still there.
	seenInterval = time.Minute
	// seenGrace is how long another server's word counts that a device is
	// connected to it.
	seenGrace = 150 * time.Second
	// remoteInterval is how old what other servers wrote may be.
	remoteInterval = 300 * time.Millisecond
	// remoteOverlap makes up for clocks of servers that differ.
	remoteOverlap = 10 * time.Second
)

// presence is what devices say of themselves. The server a device is
// connected to knows it first and writes it down in batches.
type presence struct {
	// mu guards the following.
	mu     sync.RWMutex
	states map[fleet.DeviceID]store.DeviceState
	dirty  map[fleet.DeviceID]bool
	// remoteAt is when other servers' states were last read.
	remoteAt time.Time
}

func newPresence() *presence {
	return &presence{states: make(map[fleet.DeviceID]store.DeviceState), dirty: make(map[fleet.DeviceID]bool)}
}

func (p *presence) get(id fleet.DeviceID) store.DeviceState {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.states[id]
}

// update alters the state of a device, to be written down at the next flush,
// and returns it.
func (p *presence) update(id fleet.DeviceID, now time.Time, alter func(*store.DeviceState)) store.DeviceState {
	p.mu.Lock()
	defer p.mu.Unlock()
	state := p.states[id]
	state.Device, state.UpdatedAt = id, now
	alter(&state)
	p.states[id], p.dirty[id] = state, true
	return state
}

func (p *presence) forget(id fleet.DeviceID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.states, id)
	delete(p.dirty, id)
}

// take returns the states to be written down.
func (p *presence) take() []store.DeviceState {
	p.mu.Lock()
	defer p.mu.Unlock()
	states := make([]store.DeviceState, 0, len(p.dirty))
	for id := range p.dirty {
		states = append(states, p.states[id])
	}
	clear(p.dirty)
	return states
}

// retry marks states again that could not be written.
func (p *presence) retry(states []store.DeviceState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, state := range states {
		if _, known := p.states[state.Device]; known {
			p.dirty[state.Device] = true
		}
	}
}

// learn takes what other servers wrote, unless it is known better here.
func (p *presence) learn(states []store.DeviceState, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remoteAt = now
	for _, state := range states {
		if have, known := p.states[state.Device]; !known || state.UpdatedAt.After(have.UpdatedAt) {
			p.states[state.Device] = state
		}
	}
}

func (p *presence) remoteAge(now time.Time) (since time.Time, age time.Duration) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.remoteAt, now.Sub(p.remoteAt)
}

func (s *Service) loadPresence(ctx context.Context) error {
	return s.store.View(ctx, func(tx *store.Tx) error {
		states, err := tx.DeviceStates(time.Time{})
		s.presence.learn(states, s.now())
		return err
	})
}

// freshPresence makes sure that what other servers heard is known here.
func (s *Service) freshPresence(ctx context.Context) error {
	now := s.now()
	since, age := s.presence.remoteAge(now)
	if !s.store.Shared() || age < remoteInterval {
		return nil
	}
	return s.store.View(ctx, func(tx *store.Tx) error {
		states, err := tx.DeviceStates(since.Add(-remoteOverlap))
		if err == nil {
			s.presence.learn(states, now)
		}
		return err
	})
}

// presenceLoop writes presence down in batches, until ctx ends.
func (s *Service) presenceLoop(ctx context.Context) {
	seen := s.now()
	for wait(ctx, flushInterval) {
		if now := s.now(); now.Sub(seen) >= seenInterval {
			seen = now
			for _, id := range s.hub.ids() {
				s.presence.update(id, now, func(d *store.DeviceState) { d.Server, d.LastSeen = s.instance, now })
			}
		}
		if err := s.flushPresence(ctx); err != nil && ctx.Err() == nil {
			s.logger.ErrorContext(ctx, "writing down which devices are connected", "error", err)
		}
	}
}

func (s *Service) flushPresence(ctx context.Context) error {
	states := s.presence.take()
	if err := s.store.PutDeviceStates(ctx, states...); err != nil {
		s.presence.retry(states)
		return err
	}
	return nil
}

// fill adds to a device what is not configuration. s.mu is held.
func (s *Service) fill(d *fleet.Device) {
	state := s.presence.get(d.ID)
	d.LastSeen, d.Applied = state.LastSeen, state.Applied
	d.Hostname, d.OS, d.OSVersion = state.Facts.Hostname, state.Facts.OS, state.Facts.OSVersion
	d.Arch, d.AgentVersion = state.Facts.Arch, state.Facts.AgentVersion
	now := s.now()
	switch {
	case s.hub.connected(d.ID):
		d.Online, d.LastSeen = true, now
	case s.store.Shared() && state.Server != "" && state.Server != s.instance:
		d.Online = now.Sub(state.LastSeen) < seenGrace
	}
	snapshot := s.snapshot.Load()
	d.Groups = snapshot.Groups(d.ID)
	if a := snapshot.Of(d.ID); a != nil {
		d.Desired, d.DesiredSince = a.Digest, snapshot.Since(d.ID)
	}
}

// Connect opens the session of a device that is connected by a stream. The
// caller closes it.
func (s *Service) Connect(ctx context.Context, id fleet.DeviceID, facts Facts) (*Session, error) {
	if err := s.known(ctx, id); err != nil {
		return nil, err
	}
	facts = clip(facts)
	now := s.now()
	session := s.hub.open(id, func() bundle.Message {
		m := bundle.Message{Type: bundle.MessageHello, PingSeconds: int(PingInterval / time.Second), Now: now.UTC()}
		if a := s.snapshot.Load().Of(id); a != nil {
			m.Version, m.Digest = a.Version, a.Digest
		}
		return m
	}, func() { s.gone(id) })
	s.presence.update(id, now, func(d *store.DeviceState) {
		d.Server, d.LastSeen = s.instance, now
		if facts != (Facts{}) {
			d.Facts = facts
		}
	})
	return session, nil
}

// gone notes that a device's session ended, unless it has a newer one.
func (s *Service) gone(id fleet.DeviceID) {
	if s.hub.connected(id) {
		return
	}
	if _, known := s.device(id); !known {
		return
	}
	now := s.now()
	s.presence.update(id, now, func(d *store.DeviceState) { d.Server, d.LastSeen = "", now })
}

// maxFact bounds the length of what a device says of itself.
const maxFact = 255

func clip(f Facts) Facts {
	for _, text := range []*string{&f.Hostname, &f.OS, &f.OSVersion, &f.Arch, &f.AgentVersion} {
		*text = clipText(*text, maxFact)
	}
	return f
}
