package control

import (
	"context"
	"time"
)

// forgetInterval is how often old events are looked for. The first time is
// after one of them: a clock that is wrong at the start may be right by then.
const forgetInterval = time.Hour

// forgetLoop deletes what is older than the retention, until ctx ends.
func (s *Service) forgetLoop(ctx context.Context) {
	for s.retention > 0 && wait(ctx, forgetInterval) {
		if err := s.forget(ctx); err != nil && ctx.Err() == nil {
			s.logger.ErrorContext(ctx, "deleting old events", "error", err)
		}
	}
}

func (s *Service) forget(ctx context.Context) error {
	events, alerts, err := s.store.Forget(ctx, s.now().Add(-s.retention))
	if events+alerts > 0 {
		s.logger.InfoContext(ctx, "deleted old events", "events", events, "alerts", alerts, "retention", s.retention)
	}
	return err
}
