// Package appeal has the use cases of users who do not leave it at a refusal:
// they ask for access, which an administrator grants for a while or denies,
// and they go on after warnings, which an administrator can see and take back.
//
// It decides which allow indicators grant access, and until when a revocation
// has to be remembered. What users may ask for and when they may go on is
// settled on the device, in package appeal of the agent.
package appeal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"interdict/internal/bundle"
	"interdict/internal/control"
	"interdict/internal/control/audience"
	"interdict/internal/control/find"
	"interdict/internal/control/upkeep"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/store"
)

// Config is what a Service needs.
type Config struct {
	// Control and Store are required; the store is the one of Control.
	Control *control.Service
	Store   *store.Store
	// Retention is how long requests are kept after they came in or were
	// decided, but at least as long as an approval can last; 0 means for ever.
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
	retention time.Duration
	logger    *slog.Logger

	upkeep upkeep.Loop
}

// New returns a Service.
func New(c Config) (*Service, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("setting up the appeals: %w", err)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Service{control: c.Control, store: c.Store, retention: c.Retention, logger: c.Logger}, nil
}

// Start begins to delete in the background what need not be kept any longer.
// It returns at once; Shutdown ends the work.
func (s *Service) Start(ctx context.Context) error {
	s.upkeep.Start(ctx, func(ctx context.Context) {
		if err := s.Forget(ctx); err != nil && ctx.Err() == nil {
			s.logger.ErrorContext(ctx, "deleting old requests and revocations", "error", err)
		}
	})
	return nil
}

// Shutdown ends the work in the background.
func (s *Service) Shutdown(context.Context) error {
	s.upkeep.Shutdown()
	return nil
}

// Forget deletes the revocations that can end nothing any more, the requests
// that were kept for long enough, and those that wait for an answer though
// their device was deleted. The work in the background calls it from time to
// time.
func (s *Service) Forget(ctx context.Context) error {
	err := s.forgetRevocations(ctx)
	n, orphansErr := s.store.ForgetOrphanedRequests(ctx)
	var oldErr error
	if s.retention > 0 {
		var old int64
		old, oldErr = s.store.ForgetAccessRequests(ctx, s.control.Now().Add(-max(s.retention, maxApproval)))
		n += old
	}
	if n > 0 {
		s.logger.InfoContext(ctx, "deleted requests for access", "requests", n)
	}
	return errors.Join(err, orphansErr, oldErr)
}

// tell has a device ask for its users' requests, wherever it is connected. It
// asks again when it connects, so that it did not work is logged only.
func (s *Service) tell(ctx context.Context, id fleet.DeviceID) {
	m := bundle.Message{Type: bundle.MessageRequests}
	if s.control.Tell(id, m) {
		return
	}
	err := s.control.Write(ctx, func(tx *store.Tx) error { return s.control.TellElsewhere(tx, id, m) })
	if err != nil {
		s.logger.WarnContext(ctx, "telling a device that requests were decided", "device", id, "error", err)
	}
}

// findDevice returns the id of the device with an id or a name.
func (s *Service) findDevice(ctx context.Context, ref string) (id fleet.DeviceID, err error) {
	err = s.control.Read(ctx, func(state *audience.State, _ *audience.Snapshot) (err error) {
		id, err = find.Device(state, ref)
		return err
	})
	return id, err
}

// filter is what lists of this package are limited by.
type filter struct {
	// device and app are ids or names as people write them, and then ids.
	device, app, user string
}

// resolve replaces names by ids. What is not known may have been deleted or
// have left the catalog, so it is taken for an id.
func (s *Service) resolve(f filter) filter {
	s.control.Look(func(state *audience.State, _ *audience.Snapshot) {
		if id, err := find.Device(state, f.device); f.device != "" && err == nil {
			f.device = string(id)
		}
	})
	if a, err := s.control.FindApp(f.app); f.app != "" && err == nil {
		f.app = a.ID
	}
	return f
}

// explain says why a list is empty: it is NotFound if a filter names a device
// that does not exist.
func (s *Service) explain(ctx context.Context, f filter) error {
	if f.device == "" {
		return nil
	}
	_, err := s.findDevice(ctx, f.device)
	return err
}

// deviceName returns what a device is called, "" if it was deleted.
func (s *Service) deviceName(id fleet.DeviceID) (name string) {
	s.control.Look(func(state *audience.State, _ *audience.Snapshot) { name = state.Devices[id].Name })
	return name
}

// invalid makes a fault of one field.
func invalid(about, field, rule string, args ...any) error {
	var faults fault.Fields
	faults.Add(field, rule, args...)
	return faults.Err("%s", about)
}
