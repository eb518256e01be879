// Package audience decides which devices share a bundle and what is in it,
// and keeps the bundles ready to be sent.
//
// An audience is all devices with the same effective settings and the same
// groups among those that any tag or indicator mentions. A Compiler turns the
// configuration into a Snapshot: one set of records for each audience. It
// remembers what it made, and makes only what a change altered. A Publisher
// signs the sets and packs them for the way, whole or as differences.
//
// The package is pure: it reads no store and no clock.
package audience

import (
	"interdict/internal/bundle"
	"interdict/internal/cloudapp"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// Device is what the configuration says about one device.
type Device struct {
	fleet.Device

	// Static are the ids of the groups it is a static member of.
	Static []string
}

// State is the configuration at one revision.
type State struct {
	Revision   uint64
	Devices    map[fleet.DeviceID]Device
	Groups     map[string]fleet.Group
	Policies   map[string]fleet.Policy
	Taggings   map[string]cloudapp.Tagging
	Indicators map[string]indicator.Indicator
	// Features has those that were switched; the others are on.
	Features map[fleet.Feature]bool
}

// NewState returns an empty state.
func NewState() *State {
	return &State{
		Devices: make(map[fleet.DeviceID]Device), Groups: make(map[string]fleet.Group),
		Policies: make(map[string]fleet.Policy), Taggings: make(map[string]cloudapp.Tagging),
		Indicators: make(map[string]indicator.Indicator), Features: make(map[fleet.Feature]bool),
	}
}

// Enabled reports whether a feature is on.
func (s *State) Enabled(f fleet.Feature) bool {
	on, switched := s.Features[f]
	return on || !switched
}

// Changed says what differs from the state that was compiled before. The
// maps have the ids of what was added, altered or removed.
type Changed struct {
	// Everything stands for all of it.
	Everything bool
	Devices    map[fleet.DeviceID]bool
	Groups     bool
	Policies   bool
	Taggings   bool
	Features   bool
	Indicators map[string]bool
}

// Audience is a set of records and who has to enforce it. It is immutable.
type Audience struct {
	// Key tells audiences apart, over restarts too.
	Key       string
	Effective fleet.Effective
	Set       bundle.Set
	Digest    string
	// Version is the revision since which the audience has the set, or a
	// later one, by which another device came into it.
	Version uint64
	parts   parts
}

// Snapshot says what each device has to enforce. It is immutable.
type Snapshot struct {
	Revision uint64
	devices  map[fleet.DeviceID]placement
}

// placement is where a device belongs.
type placement struct {
	groups []string
	// profile is the same for devices in the same groups.
	profile  string
	audience *Audience
	since    uint64
}

// Since returns the revision at which what a device has to enforce last
// changed, or was first compiled after the program started; 0 if the device is
// not known.
func (s *Snapshot) Since(id fleet.DeviceID) uint64 { return s.devices[id].since }

// Of returns the audience of a device, nil if the device is not known.
func (s *Snapshot) Of(id fleet.DeviceID) *Audience { return s.devices[id].audience }

// Groups returns the ids of the groups a device is in, sorted. The caller
// must not alter them.
func (s *Snapshot) Groups(id fleet.DeviceID) []string { return s.devices[id].groups }

// Members counts the devices in a group.
func (s *Snapshot) Members(groupID string) int {
	n := 0
	for _, p := range s.devices {
		for _, g := range p.groups {
			if g == groupID {
				n++
			}
		}
	}
	return n
}

// Audiences returns every audience once, in no order.
func (s *Snapshot) Audiences() []*Audience {
	seen := make(map[*Audience]bool)
	var all []*Audience
	for _, p := range s.devices {
		if !seen[p.audience] {
			seen[p.audience] = true
			all = append(all, p.audience)
		}
	}
	return all
}
