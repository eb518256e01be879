package appeal

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"interdict/internal/bypass"
	"interdict/internal/control"
	"interdict/internal/control/audience"
	"interdict/internal/control/input"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/store"
)

// Revocation says which bypasses are to end.
type Revocation struct {
	// App is the id or name of an app, or the id of an indicator that belongs
	// to none. It is empty only together with All.
	App string `json:"app,omitempty" doc:"Id or name of an app, or id of an indicator"`
	All bool   `json:"all,omitempty" doc:"Of all apps and indicators; must be given when app is not"`
	// User and Device limit it; empty means everybody, and all devices.
	User   string `json:"user,omitempty" doc:"Login name of the user whose bypasses end; missing means everybody's"`
	Device string `json:"device,omitempty" doc:"Id or name of the device; missing means all"`
}

// Revoked says what was revoked.
type Revoked struct {
	control.Change

	// Bypasses are those that the server knew of and that ended with it.
	Bypasses int `json:"bypasses" doc:"How many bypasses ended that the server knew of"`
}

// maxKnown bounds how many bypasses are looked through for what a revocation
// ends.
const maxKnown = 10_000

// RevokeBypasses ends bypasses at once, those too that the server has not heard
// of yet. Whoever is warned again may go on again.
//
// A bypass that began before the revocation ends. The former is by the device's
// clock, the latter by the server's. Where a bypass is known to have begun
// later than now, because the clock of its device is ahead, the device gets a
// revocation of its own that reaches as far.
func (s *Service) RevokeBypasses(ctx context.Context, actor control.Actor, r Revocation) (Revoked, error) {
	f, err := s.meant(ctx, &r)
	if err != nil {
		return Revoked{}, err
	}
	known, err := s.active(ctx, f, 0, maxKnown)
	if err != nil {
		return Revoked{}, err
	}
	now := s.control.Now().UTC()
	made := []bypass.ScopedRevocation{revocation(f, actor, now)}
	for device, last := range latest(known, now) {
		made = append(made, revocation(filter{device: device, app: f.app, user: f.user}, actor, last))
	}
	change, err := s.control.Change(ctx, func(tx *store.Tx) error {
		tx.Audit(s.control.Entry(actor, "bypass.revoke", f.app, nil, made))
		return replace(tx, made)
	})
	return Revoked{change, len(known)}, err
}

// meant returns the ids of what is to be revoked.
func (s *Service) meant(ctx context.Context, r *Revocation) (filter, error) {
	var faults fault.Fields
	if (r.App == "") != r.All {
		faults.Add("app", "must be given, or all in its place")
	}
	input.CheckText(&faults, "app", r.App)
	input.CheckText(&faults, "user", r.User)
	if len(r.User) > maxUser {
		faults.Add("user", "must not be longer than %d bytes", maxUser)
	}
	if err := faults.Err("the revocation is not valid"); err != nil {
		return filter{}, err
	}
	f := filter{user: r.User}
	if r.Device != "" {
		id, err := s.findDevice(ctx, r.Device)
		if err != nil {
			return filter{}, err
		}
		f.device = string(id)
	}
	if r.App == "" {
		return f, nil
	}
	app, err := s.control.FindApp(r.App)
	f.app = app.ID
	if err == nil {
		return f, nil
	}
	f.app = r.App
	return f, s.checkIndicator(ctx, r.App, err)
}

// checkIndicator returns unknown unless there is a custom indicator with an id,
// or somebody goes on past one.
func (s *Service) checkIndicator(ctx context.Context, id string, unknown error) error {
	custom := false
	s.control.Look(func(state *audience.State, _ *audience.Snapshot) { _, custom = state.Indicators[id] })
	if custom {
		return nil
	}
	found, err := s.active(ctx, filter{app: id}, 0, 1)
	if err != nil || len(found) > 0 {
		return err
	}
	return unknown
}

// revocation makes one that ends what began up to a time.
func revocation(f filter, by control.Actor, last time.Time) bypass.ScopedRevocation {
	r := bypass.ScopedRevocation{By: by.Name, Revocation: bypass.Revocation{
		ID: ulid.Make().String(), Subject: f.app, User: f.user,
		// Devices are told of whole milliseconds, and what began in the last
		// one ends as well.
		Before: last.Truncate(time.Millisecond).Add(time.Millisecond),
	}}
	if f.device != "" {
		r.Scope = indicator.Scope{Include: []string{fleet.DeviceGroup(fleet.DeviceID(f.device))}}
	}
	return r
}

// latest returns, by device, when the last of the bypasses began that began
// after now.
func latest(known []BypassView, now time.Time) map[string]time.Time {
	last := make(map[string]time.Time)
	for i := range known {
		v := &known[i]
		if at := last[string(v.Device)]; v.Since.After(now) && v.Since.After(at) {
			last[string(v.Device)] = v.Since
		}
	}
	return last
}

// replace writes revocations in the place of those that they cover: of the same
// subject, user and devices, up to an earlier time.
func replace(tx *store.Tx, made []bypass.ScopedRevocation) error {
	had, err := tx.Revocations().All()
	if err != nil {
		return err
	}
	for i := range made {
		for j := range had {
			if !covers(&made[i], &had[j]) {
				continue
			}
			if err := tx.Revocations().Delete(had[j].ID); err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		if err := tx.Revocations().Put(made[i]); err != nil {
			return err
		}
	}
	return nil
}

func covers(later, earlier *bypass.ScopedRevocation) bool {
	return later.Subject == earlier.Subject && later.User == earlier.User && slices.Equal(later.Scope.Include, earlier.Scope.Include) &&
		slices.Equal(later.Scope.Exclude, earlier.Scope.Exclude) && !later.Before.Before(earlier.Before)
}

// forgetRevocations deletes those that can end nothing any more: whatever began
// before them is over.
func (s *Service) forgetRevocations(ctx context.Context) error {
	oldest := s.control.Now().Add(-bypass.MaxAge)
	over := make(map[string]bool)
	s.control.Look(func(state *audience.State, _ *audience.Snapshot) {
		for id, r := range state.Revocations {
			if r.Before.Before(oldest) {
				over[id] = true
			}
		}
	})
	if len(over) == 0 {
		return nil
	}
	_, err := s.control.Change(ctx, func(tx *store.Tx) error {
		for _, id := range slices.Sorted(maps.Keys(over)) {
			// Another server may have been faster.
			if err := tx.Revocations().Delete(id); err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		return nil
	})
	return err
}
