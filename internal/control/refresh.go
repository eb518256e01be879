package control

import (
	"context"
	"fmt"
	"time"

	"interdict/internal/control/configuration"
	"interdict/internal/store"
)

const (
	// maxFollowed is how many documents are read one by one to catch up;
	// beyond it reading everything is faster.
	maxFollowed = 2000
	// catchUpTime bounds how long it may take after a change was written.
	catchUpTime = time.Minute
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
	var apply configuration.Edit
	var revision uint64
	err := s.store.View(ctx, func(tx *store.Tx) error {
		var err error
		if revision, err = tx.Revision(); err != nil {
			return err
		}
		if current == nil {
			apply, err = configuration.ReadAll(tx)
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
			apply, err = configuration.ReadTouched(tx, touched)
		} else {
			apply, err = configuration.ReadAll(tx)
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
func (s *Service) compile(revision uint64, apply configuration.Edit) error {
	if s.snapshot.Load() != nil {
		// At the start nobody knows.
		s.moments.Note(revision, s.now())
	}
	s.mu.Lock()
	changed := apply(s.state)
	s.state.Revision, s.state.At = revision, s.now()
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
			s.hub.End(id)
			s.presence.Forget(id)
		}
	}
	s.hub.Nudge(snapshot, moved)
	return nil
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

// Change runs a change of the configuration in the store and catches up with
// it. What was written is valid even if catching up fails, which is logged and
// tried again.
func (s *Service) Change(ctx context.Context, fn func(*store.Tx) error) (Change, error) {
	began := s.now()
	revision, err := s.store.Change(ctx, fn)
	if err != nil {
		return Change{}, err
	}
	s.moments.Note(revision, began)
	// The change is made: that the caller goes away must not delay it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), catchUpTime)
	defer cancel()
	if err := s.refresh(ctx, revision); err != nil {
		s.logger.ErrorContext(ctx, "catching up with a change", "revision", revision, "error", err)
	}
	return Change{Revision: revision}, nil
}
