package control

import (
	"context"
	"errors"
	"time"

	"interdict/internal/indicator"
	"interdict/internal/store"
)

func firstExpiry(indicators map[string]indicator.Indicator) time.Time {
	var first time.Time
	for _, i := range indicators {
		if !i.ExpiresAt.IsZero() && (first.IsZero() || i.ExpiresAt.Before(first)) {
			first = i.ExpiresAt
		}
	}
	return first
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
	_, err := s.Change(ctx, func(tx *store.Tx) error {
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
			tx.Audit(s.Entry(System("expiry"), "indicator.expire", id, i, nil))
		}
		return nil
	})
	return err
}
