package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"interdict/internal/control/audience"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/store"
)

const (
	// maxFollowed is how many documents are read one by one to catch up;
	// beyond it reading everything is faster.
	maxFollowed = 2000
	// catchUpTime bounds how long it may take after a change was written.
	catchUpTime = time.Minute
	// pollInterval is the safety net under notices between servers.
	pollInterval = 5 * time.Second
	// reconnectDelay is how long to wait when listening fails.
	reconnectDelay = time.Second
)

// refresh brings the configuration in memory to the store's, unless it has
// revision atLeast already; 0 stands for whatever the store has.
func (s *Service) refresh(ctx context.Context, atLeast uint64) error {
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	current := s.snapshot.Load()
	if current != nil && atLeast > 0 && current.Revision >= atLeast {
		return nil
	}
	var apply func(*audience.State) audience.Changed
	var revision uint64
	err := s.store.View(ctx, func(tx *store.Tx) error {
		var err error
		if revision, err = tx.Revision(); err != nil {
			return err
		}
		if current == nil {
			apply, err = readAll(tx)
			return err
		}
		if revision == current.Revision {
			return nil
		}
		touched, complete, err := tx.ChangesSince(current.Revision, maxFollowed)
		if err != nil {
			return err
		}
		if complete {
			apply, err = readTouched(tx, touched)
		} else {
			apply, err = readAll(tx)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	if apply == nil {
		return nil
	}
	return s.compile(revision, apply)
}

// compile is called with refreshing held.
func (s *Service) compile(revision uint64, apply func(*audience.State) audience.Changed) error {
	s.mu.Lock()
	changed := apply(s.state)
	s.state.Revision = revision
	if changed.Everything || len(changed.Indicators) > 0 {
		s.nextExpiry = firstExpiry(s.state.Indicators)
	}
	// While compiling nobody alters the state: that takes refreshing.
	s.mu.Unlock()
	s.wakeExpiry()

	snapshot, moved, err := s.compiler.Compile(s.state, changed)
	if err != nil {
		return fmt.Errorf("compiling revision %d: %w", revision, err)
	}
	s.publisher.Remember(snapshot.Audiences())
	s.snapshot.Store(snapshot)
	for id := range changed.Devices {
		if snapshot.Of(id) == nil {
			s.hub.end(id)
			s.presence.forget(id)
		}
	}
	s.hub.nudge(snapshot, moved)
	return nil
}

func firstExpiry(indicators map[string]indicator.Indicator) time.Time {
	var first time.Time
	for _, i := range indicators {
		if !i.ExpiresAt.IsZero() && (first.IsZero() || i.ExpiresAt.Before(first)) {
			first = i.ExpiresAt
		}
	}
	return first
}

// readAll reads the whole configuration.
func readAll(tx *store.Tx) (func(*audience.State) audience.Changed, error) {
	fresh := audience.NewState()
	err := errors.Join(
		readInto(tx.Groups(), fresh.Groups, func(g *fleet.Group) string { return g.ID }),
		readInto(tx.Policies(), fresh.Policies, func(p *fleet.Policy) string { return p.ID }),
		readInto(tx.Indicators(), fresh.Indicators, func(i *indicator.Indicator) string { return i.ID }),
		readTaggings(tx, fresh), readFeatures(tx, fresh), readDevices(tx, fresh),
	)
	if err != nil {
		return nil, err
	}
	return func(s *audience.State) audience.Changed {
		changed := audience.Changed{Everything: true, Devices: make(map[fleet.DeviceID]bool)}
		for id := range s.Devices {
			changed.Devices[id] = true
		}
		*s = *fresh
		return changed
	}, nil
}

func readInto[T any](docs store.Docs[T], into map[string]T, key func(*T) string) error {
	all, err := docs.All()
	for i := range all {
		into[key(&all[i])] = all[i]
	}
	return err
}

func readTaggings(tx *store.Tx, into *audience.State) error {
	all, err := tx.Taggings().All()
	for _, t := range all {
		into.Taggings[t.AppID] = t
	}
	return err
}

func readFeatures(tx *store.Tx, into *audience.State) error {
	all, err := tx.Features().All()
	for _, f := range all {
		into.Features[f.Name] = f.Enabled
	}
	return err
}

func readDevices(tx *store.Tx, into *audience.State) error {
	all, err := tx.Devices().All()
	if err != nil {
		return err
	}
	members, err := tx.Memberships()
	if err != nil {
		return err
	}
	static := make(map[fleet.DeviceID][]string)
	for _, m := range members {
		static[m.DeviceID] = append(static[m.DeviceID], m.GroupID)
	}
	for _, d := range all {
		into.Devices[d.ID] = audience.Device{Device: d, Static: static[d.ID]}
	}
	return nil
}

// readTouched reads the documents that changes touched.
func readTouched(tx *store.Tx, touched []store.Touched) (func(*audience.State) audience.Changed, error) {
	edits := make([]func(*audience.State, *audience.Changed), 0, len(touched))
	for _, t := range touched {
		edit, err := readOne(tx, t)
		if err != nil {
			return nil, err
		}
		edits = append(edits, edit)
	}
	return func(s *audience.State) audience.Changed {
		changed := audience.Changed{Devices: make(map[fleet.DeviceID]bool), Indicators: make(map[string]bool)}
		for _, edit := range edits {
			edit(s, &changed)
		}
		return changed
	}, nil
}

type edit = func(*audience.State, *audience.Changed)

func readOne(tx *store.Tx, t store.Touched) (edit, error) {
	switch t.Kind {
	case store.KindDevice:
		return readDevice(tx, fleet.DeviceID(t.ID))
	case store.KindGroup:
		return readDoc(tx.Groups(), t.ID, func(s *audience.State, c *audience.Changed) map[string]fleet.Group {
			c.Groups = true
			return s.Groups
		})
	case store.KindPolicy:
		return readDoc(tx.Policies(), t.ID, func(s *audience.State, c *audience.Changed) map[string]fleet.Policy {
			c.Policies = true
			return s.Policies
		})
	case store.KindIndicator:
		return readDoc(tx.Indicators(), t.ID, func(s *audience.State, c *audience.Changed) map[string]indicator.Indicator {
			c.Indicators[t.ID] = true
			return s.Indicators
		})
	case store.KindTagging:
		return readTagging(tx, t.ID)
	case store.KindFeature:
		return readFeature(tx, t.ID)
	default:
		return nil, fmt.Errorf("following a change to %s %q: the kind is not known", t.Kind, t.ID)
	}
}

// readDoc reads a document, and returns the edit that puts it into the map
// that in returns, or removes it from there if it is gone.
func readDoc[T any](docs store.Docs[T], id string, in func(*audience.State, *audience.Changed) map[string]T) (edit, error) {
	v, err := docs.Get(id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return func(s *audience.State, c *audience.Changed) { delete(in(s, c), id) }, nil
	case err != nil:
		return nil, err
	}
	return func(s *audience.State, c *audience.Changed) { in(s, c)[id] = v }, nil
}

func readTagging(tx *store.Tx, id string) (edit, error) {
	t, err := tx.Taggings().Get(id)
	gone := errors.Is(err, store.ErrNotFound)
	if err != nil && !gone {
		return nil, err
	}
	return func(s *audience.State, c *audience.Changed) {
		c.Taggings = true
		s.Taggings[id] = t
		if gone {
			delete(s.Taggings, id)
		}
	}, nil
}

func readFeature(tx *store.Tx, id string) (edit, error) {
	f, err := tx.Features().Get(id)
	if err != nil {
		return nil, err
	}
	return func(s *audience.State, c *audience.Changed) {
		c.Features = true
		s.Features[f.Name] = f.Enabled
	}, nil
}

func readDevice(tx *store.Tx, id fleet.DeviceID) (edit, error) {
	d, err := tx.Devices().Get(string(id))
	if errors.Is(err, store.ErrNotFound) {
		return func(s *audience.State, c *audience.Changed) {
			c.Devices[id] = true
			delete(s.Devices, id)
		}, nil
	}
	if err != nil {
		return nil, err
	}
	members, err := tx.GroupsOf(id)
	if err != nil {
		return nil, err
	}
	device := audience.Device{Device: d}
	for _, m := range members {
		device.Static = append(device.Static, m.GroupID)
	}
	return func(s *audience.State, c *audience.Changed) {
		c.Devices[id] = true
		s.Devices[id] = device
	}, nil
}

// fresh makes sure that what other servers changed before the call is known
// here.
func (s *Service) fresh(ctx context.Context) error {
	if !s.store.Shared() {
		return nil
	}
	var revision uint64
	err := s.store.View(ctx, func(tx *store.Tx) (err error) {
		revision, err = tx.Revision()
		return err
	})
	if err != nil {
		return err
	}
	return s.refresh(ctx, revision)
}

// change runs a change in the store and catches up with it. What was written
// is valid even if catching up fails, which is logged and tried again.
func (s *Service) change(ctx context.Context, fn func(*store.Tx) error) (Change, error) {
	revision, err := s.store.Change(ctx, fn)
	if err != nil {
		return Change{}, err
	}
	// The change is made: that the caller goes away must not delay it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), catchUpTime)
	defer cancel()
	if err := s.refresh(ctx, revision); err != nil {
		s.logger.ErrorContext(ctx, "catching up with a change", "revision", revision, "error", err)
	}
	return Change{Revision: revision}, nil
}

// follow keeps up with changes by other servers, until ctx ends.
func (s *Service) follow(ctx context.Context) {
	if !s.store.Shared() {
		// Nobody else writes, but catching up after an own change may have
		// failed.
		s.poll(ctx)
		return
	}
	poller := make(chan struct{})
	go func() {
		defer close(poller)
		s.poll(ctx)
	}()
	for ctx.Err() == nil {
		err := s.store.Listen(ctx, func() { s.catchUp(ctx) }, func(message string) { s.hear(ctx, message) })
		if ctx.Err() == nil {
			s.logger.WarnContext(ctx, "listening for other servers", "error", err)
			wait(ctx, reconnectDelay)
		}
	}
	<-poller
}

func (s *Service) poll(ctx context.Context) {
	for wait(ctx, pollInterval) {
		s.catchUp(ctx)
	}
}

func (s *Service) catchUp(ctx context.Context) {
	if err := s.refresh(ctx, 0); err != nil && ctx.Err() == nil {
		s.logger.ErrorContext(ctx, "catching up with other servers", "error", err)
	}
}

// hear takes a notice of another server, or of this one.
func (s *Service) hear(ctx context.Context, message string) {
	if id, ok := strings.CutPrefix(message, noticeSync); ok {
		s.hub.sync(fleet.DeviceID(id))
		return
	}
	s.catchUp(ctx)
}

// wait returns false if ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (s *Service) wakeExpiry() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// expireLoop removes indicators when their time is over, until ctx ends.
func (s *Service) expireLoop(ctx context.Context) {
	for {
		timer := time.NewTimer(s.untilExpiry())
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.wake:
			timer.Stop()
		case <-timer.C:
			if err := s.expire(ctx); err != nil && ctx.Err() == nil {
				s.logger.ErrorContext(ctx, "removing expired indicators", "error", err)
			}
		}
	}
}

// expiryCheck bounds how long to wait, so that a clock that jumps is noticed,
// and how soon to try again.
const (
	expiryCheckMost  = 30 * time.Second
	expiryCheckLeast = 100 * time.Millisecond
)

func (s *Service) untilExpiry() time.Duration {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.nextExpiry.IsZero() {
		return expiryCheckMost
	}
	return min(expiryCheckMost, max(expiryCheckLeast, s.nextExpiry.Sub(s.now())))
}

// expire removes the indicators whose time is over.
func (s *Service) expire(ctx context.Context) error {
	now := s.now()
	var over []string
	s.mu.RLock()
	for id, i := range s.state.Indicators {
		if i.Expired(now) {
			over = append(over, id)
		}
	}
	s.mu.RUnlock()
	if len(over) == 0 {
		return nil
	}
	_, err := s.change(ctx, func(tx *store.Tx) error {
		for _, id := range over {
			i, err := tx.Indicators().Get(id)
			if errors.Is(err, store.ErrNotFound) {
				continue // Another server was faster.
			}
			if err != nil {
				return err
			}
			if err := tx.Indicators().Delete(id); err != nil {
				return err
			}
			tx.Audit(s.entry(system("expiry"), "indicator.expire", id, i, nil))
		}
		return nil
	})
	return err
}
