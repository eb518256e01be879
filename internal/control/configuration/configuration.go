// Package configuration reads from the store what audiences are compiled of:
// all of it, or the documents that changes touched. What follows from it is
// package audience's to decide.
package configuration

import (
	"errors"
	"fmt"

	"interdict/internal/bypass"
	"interdict/internal/control/audience"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/staging"
	"interdict/internal/store"
)

// An Edit brings a state up to what was read, and says what that changed.
type Edit func(*audience.State) audience.Changed

// ReadAll reads the whole configuration.
func ReadAll(tx *store.Tx) (Edit, error) {
	fresh := audience.NewState()
	err := errors.Join(
		readInto(tx.Groups(), fresh.Groups, func(g *fleet.Group) string { return g.ID }),
		readInto(tx.Policies(), fresh.Policies, func(p *fleet.Policy) string { return p.ID }),
		readInto(tx.Indicators(), fresh.Indicators, func(i *indicator.Indicator) string { return i.ID }),
		readInto(tx.Rollouts(), fresh.Rollouts, func(r *staging.Rollout) string { return r.ID }),
		readInto(tx.Revocations(), fresh.Revocations, func(r *bypass.ScopedRevocation) string { return r.ID }),
		readTaggings(tx, fresh), readFeatures(tx, fresh), readDevices(tx, fresh),
	)
	if err != nil {
		return nil, err
	}
	return func(s *audience.State) audience.Changed {
		changed := audience.Changed{Everything: true, Devices: make(map[fleet.DeviceID]bool)}
		for id := range s.Devices {
			changed.Devices[id] = true
		}
		*s = *fresh
		return changed
	}, nil
}

func readInto[T any](docs store.Docs[T], into map[string]T, key func(*T) string) error {
	all, err := docs.All()
	for i := range all {
		into[key(&all[i])] = all[i]
	}
	return err
}

func readTaggings(tx *store.Tx, into *audience.State) error {
	all, err := tx.Taggings().All()
	for _, t := range all {
		into.Taggings[t.AppID] = t
	}
	return err
}

func readFeatures(tx *store.Tx, into *audience.State) error {
	all, err := tx.Features().All()
	for _, f := range all {
		into.Features[f.Name] = f.Enabled
	}
	return err
}

func readDevices(tx *store.Tx, into *audience.State) error {
	all, err := tx.Devices().All()
	if err != nil {
		return err
	}
	members, err := tx.Memberships()
	if err != nil {
		return err
	}
	static := make(map[fleet.DeviceID][]string)
	for _, m := range members {
		static[m.DeviceID] = append(static[m.DeviceID], m.GroupID)
	}
	for _, d := range all {
		into.Devices[d.ID] = audience.Device{Device: d, Static: static[d.ID]}
	}
	return nil
}

// ReadTouched reads the documents that changes touched.
func ReadTouched(tx *store.Tx, touched []store.Touched) (Edit, error) {
	edits := make([]edit, 0, len(touched))
	for _, t := range touched {
		one, err := readOne(tx, t)
		if err != nil {
			return nil, err
		}
		edits = append(edits, one)
	}
	return func(s *audience.State) audience.Changed {
		changed := audience.Changed{Devices: make(map[fleet.DeviceID]bool), Indicators: make(map[string]bool)}
		for _, apply := range edits {
			apply(s, &changed)
		}
		return changed
	}, nil
}

// edit puts one document into a state.
type edit = func(*audience.State, *audience.Changed)

func readOne(tx *store.Tx, t store.Touched) (edit, error) {
	switch t.Kind {
	case store.KindDevice:
		return readDevice(tx, fleet.DeviceID(t.ID))
	case store.KindGroup:
		return readDoc(tx.Groups(), t.ID, func(s *audience.State, c *audience.Changed) map[string]fleet.Group {
			c.Groups = true
			return s.Groups
		})
	case store.KindPolicy:
		return readDoc(tx.Policies(), t.ID, func(s *audience.State, c *audience.Changed) map[string]fleet.Policy {
			c.Policies = true
			return s.Policies
		})
	case store.KindIndicator:
		return readDoc(tx.Indicators(), t.ID, func(s *audience.State, c *audience.Changed) map[string]indicator.Indicator {
			c.Indicators[t.ID] = true
			return s.Indicators
		})
	case store.KindRollout:
		return readDoc(tx.Rollouts(), t.ID, func(s *audience.State, c *audience.Changed) map[string]staging.Rollout {
			c.Rollouts = true
			return s.Rollouts
		})
	case store.KindRevocation:
		return readDoc(tx.Revocations(), t.ID, func(s *audience.State, c *audience.Changed) map[string]bypass.ScopedRevocation {
			c.Revocations = true
			return s.Revocations
		})
	case store.KindTagging:
		return readTagging(tx, t.ID)
	case store.KindFeature:
		return readFeature(tx, t.ID)
	default:
		return nil, fmt.Errorf("following a change to %s %q: the kind is not known", t.Kind, t.ID)
	}
}

// readDoc reads a document, and returns the edit that puts it into the map
// that in returns, or removes it from there if it is gone.
func readDoc[T any](docs store.Docs[T], id string, in func(*audience.State, *audience.Changed) map[string]T) (edit, error) {
	v, err := docs.Get(id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return func(s *audience.State, c *audience.Changed) { delete(in(s, c), id) }, nil
	case err != nil:
		return nil, err
	}
	return func(s *audience.State, c *audience.Changed) { in(s, c)[id] = v }, nil
}

func readTagging(tx *store.Tx, id string) (edit, error) {
	t, err := tx.Taggings().Get(id)
	gone := errors.Is(err, store.ErrNotFound)
	if err != nil && !gone {
		return nil, err
	}
	return func(s *audience.State, c *audience.Changed) {
		c.Taggings = true
		s.Taggings[id] = t
		if gone {
			delete(s.Taggings, id)
		}
	}, nil
}

func readFeature(tx *store.Tx, id string) (edit, error) {
	f, err := tx.Features().Get(id)
	if err != nil {
		return nil, err
	}
	return func(s *audience.State, c *audience.Changed) {
		c.Features = true
		s.Features[f.Name] = f.Enabled
	}, nil
}

func readDevice(tx *store.Tx, id fleet.DeviceID) (edit, error) {
	d, err := tx.Devices().Get(string(id))
	if errors.Is(err, store.ErrNotFound) {
		return func(s *audience.State, c *audience.Changed) {
			c.Devices[id] = true
			delete(s.Devices, id)
		}, nil
	}
	if err != nil {
		return nil, err
	}
	members, err := tx.GroupsOf(id)
	if err != nil {
		return nil, err
	}
	device := audience.Device{Device: d}
	for _, m := range members {
		device.Static = append(device.Static, m.GroupID)
	}
	return func(s *audience.State, c *audience.Changed) {
		c.Devices[id] = true
		s.Devices[id] = device
	}, nil
}
