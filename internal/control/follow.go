package control

import (
	"context"
	"strings"
	"time"
)

const (
	// pollInterval is the safety net under notices between servers.
	pollInterval = 5 * time.Second
	// reconnectDelay is how long to wait when listening fails.
	reconnectDelay = time.Second
)

// follow keeps up with changes by other servers, until ctx ends. It calls begun
// when it listens to them, or could not the first time.
func (s *Service) follow(ctx context.Context, begun func()) {
	if !s.store.Shared() {
		begun()
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
		err := s.store.Listen(ctx, func() { begun(); s.catchUp(ctx) }, func(message string) { s.hear(ctx, message) })
		begun()
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
	if notice, ok := strings.CutPrefix(message, noticeTell); ok {
		s.hearTell(ctx, notice)
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
