// Package rollout has the use cases of staged changes: a change of a policy or
// of a tag that one group of devices, the canary, tries out before everybody
// has it. What follows from a trial for a device is package staging's to
// decide.
//
// While a trial runs its target stays as it was, and nobody may change it, so
// there is one trial for a target at a time. Trials end by command, or by
// themselves: after a while, or when too many connections of the canary were
// refused. Every server that shares the database looks after all trials; who
// comes first ends one, as each end is decided anew in its transaction.
package rollout

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"interdict/internal/control"
)

// Config is what a Service needs.
type Config struct {
	// Control is required.
	Control *control.Service
	// Logger is optional.
	Logger *slog.Logger
}

// Service has the use cases. It is safe for concurrent use.
type Service struct {
	control *control.Service
	logger  *slog.Logger

	// wake has something while a device has reported what may end a trial.
	wake       chan struct{}
	stop       context.CancelFunc
	background sync.WaitGroup
}

// New returns a Service.
func New(c Config) (*Service, error) {
	if c.Control == nil {
		return nil, errors.New("setting up the rollouts: the use cases are missing")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Service{control: c.Control, logger: c.Logger, wake: make(chan struct{}, 1), stop: func() {}}, nil
}

const (
	// evaluateInterval is how often trials are looked at when nothing is
	// reported.
	evaluateInterval = 3 * time.Second
	// evaluateGap is the least time between two looks, however much is
	// reported.
	evaluateGap = 200 * time.Millisecond
)

// Start begins to end trials in the background. It returns at once; Shutdown
// ends the work.
func (s *Service) Start(ctx context.Context) error {
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.background.Go(func() { s.evaluateLoop(ctx) })
	return nil
}

// Shutdown ends the work in the background.
func (s *Service) Shutdown(context.Context) error {
	s.stop()
	s.background.Wait()
	return nil
}

func (s *Service) evaluateLoop(ctx context.Context) {
	tick := time.NewTicker(evaluateInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-tick.C:
		}
		if err := s.Evaluate(ctx); err != nil && ctx.Err() == nil {
			s.logger.ErrorContext(ctx, "looking after the trials of rollouts", "error", err)
		}
		gap := time.NewTimer(evaluateGap)
		select {
		case <-ctx.Done():
			gap.Stop()
			return
		case <-gap.C:
		}
	}
}
