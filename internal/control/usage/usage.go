// Package usage has the use cases of what cloud apps are used for by whom: it
// takes in what devices report of their connections, counts whom the rules for
// an app met with, and says what a tag would do before it is set.
//
// It decides which app a name belongs to, and how long use is kept. Names that
// belong to no app are not kept.
package usage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"interdict/internal/cloudapp"
	"interdict/internal/control"
	"interdict/internal/control/upkeep"
	"interdict/internal/store"
)

// Window is how far back use is looked at unless something else is asked for.
const Window = 30 * 24 * time.Hour

// Config is what a Service needs.
type Config struct {
	// Control and Store are required; the store is the one of Control.
	Control *control.Service
	Store   *store.Store
	// Apps are those that names can belong to.
	Apps []cloudapp.App
	// Retention is how long use is kept; 0 means for ever.
	Retention time.Duration
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
	owners    *Owners
	index     *cloudapp.Index
	retention time.Duration
	logger    *slog.Logger

	upkeep upkeep.Loop
}

// New returns a Service.
func New(c Config) (*Service, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("setting up the usage: %w", err)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Service{
		control: c.Control, store: c.Store, owners: NewOwners(c.Apps), index: cloudapp.NewIndex(c.Apps),
		retention: c.Retention, logger: c.Logger,
	}, nil
}

// Start begins to delete old use in the background. It returns at once;
// Shutdown ends the work.
func (s *Service) Start(ctx context.Context) error {
	if s.retention > 0 {
		s.upkeep.Start(ctx, func(ctx context.Context) {
			if _, err := s.Forget(ctx, s.retention); err != nil && ctx.Err() == nil {
				s.logger.ErrorContext(ctx, "deleting old use", "error", err)
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

// Forget deletes use that is older than so long, and returns how many rows that
// were. The work in the background calls it from time to time.
func (s *Service) Forget(ctx context.Context, after time.Duration) (int64, error) {
	n, err := s.store.ForgetUsage(ctx, s.control.Now().Add(-after))
	if n > 0 {
		s.logger.InfoContext(ctx, "deleted old use", "rows", n, "retention", after)
	}
	return n, err
}
