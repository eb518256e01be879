// Package inquiry has the use case behind "why is this blocked, or not, on
// that machine?": it gathers the facts, from the configuration, from what
// devices reported and, if the device is connected, from the device itself.
// What follows from them is package explain's to decide.
package inquiry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"interdict/internal/bundle"
	"interdict/internal/cloudapp"
	"interdict/internal/control"
	"interdict/internal/control/audience"
	"interdict/internal/control/find"
	"interdict/internal/control/input"
	"interdict/internal/event"
	"interdict/internal/explain"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/store"
)

// Config is what a Service needs.
type Config struct {
	// Control and Store are required; the store is the one of Control.
	Control *control.Service
	Store   *store.Store
	// Apps are those that names can belong to.
	Apps []cloudapp.App
	// AnswerTime is how long devices are waited for; 0 means 3 s.
	AnswerTime time.Duration
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
	return errors.Join(faults...)
}

// usualAnswerTime is long for a device that is connected, and short for
// somebody who waits.
const usualAnswerTime = 3 * time.Second

// Service has the use case. It is safe for concurrent use.
type Service struct {
	control *control.Service
	store   *store.Store
	index   *cloudapp.Index
	owners  owners
	patient time.Duration
	logger  *slog.Logger

	// mu guards open.
	mu sync.Mutex
	// open are the questions of this server, by their ids.
	open map[string]question
}

// New returns a Service.
func New(c Config) (*Service, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("setting up the inquiries: %w", err)
	}
	if c.AnswerTime == 0 {
		c.AnswerTime = usualAnswerTime
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Service{
		control: c.Control, store: c.Store, index: cloudapp.NewIndex(c.Apps), owners: newOwners(c.Apps),
		patient: c.AnswerTime, logger: c.Logger, open: make(map[string]question),
	}, nil
}

// Query asks why a destination is blocked, or not.
type Query struct {
	// Target is a host, an address or a URL. Of a URL the path counts if it
	// is one of plain HTTP, since nobody can see others.
	Target string
	// Device is an id or a name.
	Device string
	// User is the login name of one of the device's users; empty for anybody.
	User string
	// Expect is what ought to be, blocked or allowed; empty for nothing.
	Expect explain.Outcome
}

// maxUser bounds a login name in bytes.
const maxUser = 256

// Explain answers a query. It takes as long as the device does to answer, if
// that is connected.
func (s *Service) Explain(ctx context.Context, q Query) (explain.Chain, error) {
	subject, err := q.subject()
	if err != nil {
		return explain.Chain{}, err
	}
	device, err := s.control.Device(ctx, q.Device)
	if err != nil {
		return explain.Chain{}, err
	}
	facts := explain.Facts{Subject: subject, Answer: s.ask(ctx, &device.Device, subject)}
	if ctx.Err() != nil {
		return explain.Chain{}, ctx.Err()
	}
	if facts.Answer != nil && facts.Answer.NoUser {
		return explain.Chain{}, fault.New(fault.NotFound, "device %s knows no user %q", device.Name, q.User).
			WithHint("on the device, list them with: getent passwd")
	}
	// The device's word was worth waiting for, so what is known of it may have
	// changed.
	if device, err = s.control.Device(ctx, string(device.ID)); err != nil {
		return explain.Chain{}, err
	}
	facts.Now = s.control.Now()
	facts.Device = explain.Device{Device: device.Device, User: userOf(subject, facts.Answer)}
	facts.Policies.Effective = device.Effective
	facts.GroupName = s.name
	facts.Policies.Name = s.policyName
	expired, err := s.expired(ctx, subject)
	if err != nil {
		return explain.Chain{}, err
	}
	err = s.control.Read(ctx, func(state *audience.State, snapshot *audience.Snapshot) error {
		g := gathering{service: s, state: state, facts: &facts, target: snapshot.Target(device.ID), expired: expired}
		g.gather()
		return nil
	})
	if err != nil {
		return explain.Chain{}, err
	}
	if facts.Events, err = s.events(ctx, device.ID, subject); err != nil {
		return explain.Chain{}, err
	}
	return explain.Explain(facts, q.Expect), nil
}

// subject reads what is asked about.
func (q *Query) subject() (explain.Subject, error) {
	var faults fault.Fields
	subject, ok := parseTarget(q.Target)
	if !ok {
		faults.Add("target", "must be a host name, an address or a URL")
	}
	input.CheckText(&faults, "user", q.User)
	if len(q.User) > maxUser {
		faults.Add("user", "must not be longer than %d bytes", maxUser)
	}
	subject.User = q.User
	if q.Expect != "" && q.Expect != explain.OutcomeBlocked && q.Expect != explain.OutcomeAllowed {
		faults.Add("expect", "must be blocked or allowed")
	}
	return subject, faults.Err("the question is not valid")
}

// userOf is the user that is asked about, if the device said who that is.
func userOf(subject explain.Subject, a *bundle.Answer) *indicator.User {
	if subject.User == "" || a == nil || a.Error != "" {
		return nil
	}
	return &indicator.User{UID: a.UID, Name: subject.User, Groups: a.UserGroups}
}

func (s *Service) name(id string) (name string) {
	s.control.Look(func(state *audience.State, _ *audience.Snapshot) { name = find.Name(state, id) })
	return name
}

func (s *Service) policyName(id string) (name string) {
	s.control.Look(func(state *audience.State, _ *audience.Snapshot) { name = state.Policies[id].Name })
	return name
}

// maxEvents bounds among how many of a device's newest events one about a
// destination is looked for.
const maxEvents = 200

// events returns the device's newest event about a destination, of the user
// that is asked about, if it is among its newest.
func (s *Service) events(ctx context.Context, id fleet.DeviceID, subject explain.Subject) ([]event.Event, error) {
	var found []event.Event
	err := s.control.View(ctx, func(tx *store.Tx) error {
		all, err := tx.Events(store.EventQuery{Device: string(id), Host: subject.Host, User: subject.User, Limit: maxEvents})
		for i := range all {
			d := &all[i].Destination
			if subject.Host != "" && strings.EqualFold(d.Host, subject.Host) || subject.Host == "" && d.IP == subject.IP {
				found = append(found, all[i].Event)
				break
			}
		}
		return err
	})
	return found, err
}
