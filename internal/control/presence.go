package control

import (
	"context"
	"time"

	"interdict/internal/bundle"
	"interdict/internal/control/presence"
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

func (s *Service) loadPresence(ctx context.Context) error {
	return s.store.View(ctx, func(tx *store.Tx) error {
		states, err := tx.DeviceStates(time.Time{})
		s.presence.Learn(states, s.now())
		return err
	})
}

// freshPresence makes sure that what other servers heard is known here.
func (s *Service) freshPresence(ctx context.Context) error {
	now := s.now()
	since, age := s.presence.RemoteAge(now)
	if !s.store.Shared() || age < remoteInterval {
		return nil
	}
	return s.learnPresence(ctx, since, now)
}

// learnPresence reads what other servers wrote since a time.
func (s *Service) learnPresence(ctx context.Context, since, now time.Time) error {
	return s.store.View(ctx, func(tx *store.Tx) error {
		states, err := tx.DeviceStates(since.Add(-remoteOverlap))
		if err == nil {
			s.presence.Learn(states, now)
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
			for _, id := range s.hub.IDs() {
				s.presence.Update(id, now, func(d *store.DeviceState) { d.Server, d.LastSeen = s.instance, now })
			}
		}
		if err := s.flushPresence(ctx); err != nil && ctx.Err() == nil {
			s.logger.ErrorContext(ctx, "writing down which devices are connected", "error", err)
		}
	}
}

func (s *Service) flushPresence(ctx context.Context) error {
	if s.store.Shared() && s.presence.Leaving() {
		now := s.now()
		since, _ := s.presence.RemoteAge(now)
		if err := s.learnPresence(ctx, since, now); err != nil {
			return err
		}
	}
	states := s.presence.Take()
	if err := s.store.PutDeviceStates(ctx, states...); err != nil {
		s.presence.Retry(states)
		return err
	}
	return nil
}

// fill adds to a device what is not configuration. s.mu is held.
func (s *Service) fill(d *fleet.Device) {
	state := s.presence.Get(d.ID)
	d.LastSeen, d.Applied = state.LastSeen, state.Applied
	now := s.now()
	switch {
	case s.hub.Connected(d.ID):
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
func (s *Service) Connect(ctx context.Context, id fleet.DeviceID, facts Facts) (*presence.Session, error) {
	if err := s.Known(ctx, id); err != nil {
		return nil, err
	}
	s.note(id, facts)
	now := s.now()
	session := s.hub.Open(id, func() bundle.Message {
		m := bundle.Message{Type: bundle.MessageHello, PingSeconds: int(PingInterval / time.Second), Now: now.UTC()}
		if a := s.snapshot.Load().Of(id); a != nil {
			m.Version, m.Digest = a.Version, a.Digest
		}
		return m
	}, func() { s.gone(id) })
	s.presence.Update(id, now, func(d *store.DeviceState) {
		d.Server, d.LastSeen = s.instance, now
	})
	return session, nil
}

// gone notes that a device's session ended, unless it has a newer one.
func (s *Service) gone(id fleet.DeviceID) {
	if s.hub.Connected(id) {
		return
	}
	if !s.enrolled(id) {
		return
	}
	now := s.now()
	s.presence.Update(id, now, func(d *store.DeviceState) { d.Server, d.LastSeen = "", now })
}
