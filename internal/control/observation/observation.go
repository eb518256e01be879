// Package observation takes in what devices report and answers what was
// observed: events, the alerts that follow from them, and the audit log. It
// decides which events can be kept, and for how long; which events raise
// alerts is package alert's to decide, and the audit log is written by the use
// cases themselves.
package observation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"interdict/internal/control"
	"interdict/internal/control/upkeep"
	"interdict/internal/event"
	"interdict/internal/store"
)

// Config is what a Service needs.
type Config struct {
	// Control and Store are required; the store is the one of Control.
	Control *control.Service
	Store   *store.Store
	// Retention is how long events and alerts are kept; 0 means for ever.
	Retention time.Duration
	// Observed is told of what a device reported, once it is kept. It is
	// quick. Optional.
	Observed func([]event.Event)
	// Logger is optional.
	Logger *slog.Logger
}

func (c *Config) validate() error {
	var faults []error
	if c.Control == nil {
		faults = append(faults, errors.New("the use cases are missing"))
	}
	if c.Store == nil {
		faults = append(faults, errors.New("the store is missing"))
	}
	if c.Retention < 0 {
		faults = append(faults, fmt.Errorf("the retention %s is negative", c.Retention))
	}
	return errors.Join(faults...)
}

// Service has the use cases. It is safe for concurrent use.
type Service struct {
	control   *control.Service
	store     *store.Store
	retention time.Duration
	observed  func([]event.Event)
	logger    *slog.Logger

	upkeep upkeep.Loop
}

// New returns a Service.
func New(c Config) (*Service, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("setting up observation: %w", err)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Observed == nil {
		c.Observed = func([]event.Event) {}
	}
	return &Service{
		control: c.Control, store: c.Store, retention: c.Retention, observed: c.Observed, logger: c.Logger,
	}, nil
}

// Start begins to delete old events in the background. It returns at once;
// Shutdown ends the work.
func (s *Service) Start(ctx context.Context) error {
	if s.retention > 0 {
		s.upkeep.Start(ctx, func(ctx context.Context) {
			if err := s.forget(ctx); err != nil && ctx.Err() == nil {
				s.logger.ErrorContext(ctx, "deleting old events", "error", err)
			}
		})
	}
	return nil
}

// Shutdown ends the work in the background.
func (s *Service) Shutdown(context.Context) error {
	s.upkeep.Shutdown()
	return nil
}

func (s *Service) forget(ctx context.Context) error {
	events, alerts, err := s.store.Forget(ctx, s.control.Now().Add(-s.retention))
	if events+alerts > 0 {
		s.logger.InfoContext(ctx, "deleted old events", "events", events, "alerts", alerts, "retention", s.retention)
	}
	return err
}
