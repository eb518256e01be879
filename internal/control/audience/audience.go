// Package audience decides which devices share a bundle and what is in it,
// and keeps the bundles ready to be sent.
//
// An audience is all devices with the same effective settings and the same
// groups among those that any tag, indicator or revocation mentions. A
// Compiler turns the configuration into a Snapshot: one set of records for
// each audience. A Publisher signs the sets and packs them for the way, whole
// or as differences.
//
// What follows from what, and how long it is remembered:
//
//	a device's properties and the rules of groups  ->  its groups
//	its groups, and all that mentions any of them  ->  its audience
//	what is said to the audience                   ->  its set of records
//
// A rule is asked again only if it changed or the device did. Audiences are
// found again by those of a device's groups that something mentions, and by
// all devices only if something else than devices and rules changed. A set is
// made again only if what it is made of changed.
//
// The group "device:ID" has one device, and any scope may mention it. Devices
// that nothing mentions are not told apart by it.
//
// What is on trial counts for the devices of the canary: for them the policies
// and tags are what they become.
//
// The package is pure: it reads no store and no clock.
package audience

import (
	"maps"
	"slices"
	"time"

	"interdict/internal/bundle"
	"interdict/internal/bypass"
	"interdict/internal/cloudapp"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/staging"
)

// Device is what the configuration says about one device, and what the device
// says of itself: its host name, operating system, architecture and the
// agent's version are there too.
type Device struct {
	fleet.Device

	// Static are the ids of the groups it is a static member of.
	Static []string
}

// State is the configuration at one revision.
type State struct {
	Revision uint64
	// At is when it was read. What has ended by then does not count; with
	// the zero time nothing has.
	At         time.Time
	Devices    map[fleet.DeviceID]Device
	Groups     map[string]fleet.Group
	Policies   map[string]fleet.Policy
	Taggings   map[string]cloudapp.Tagging
	Indicators map[string]indicator.Indicator
	// Rollouts are staged changes; those on trial count.
	Rollouts    map[string]staging.Rollout
	Revocations map[string]bypass.ScopedRevocation
	// Features has those that were switched; the others are on.
	Features map[fleet.Feature]bool
}

// NewState returns an empty state.
func NewState() *State {
	return &State{
		Devices: make(map[fleet.DeviceID]Device), Groups: make(map[string]fleet.Group),
		Policies: make(map[string]fleet.Policy), Taggings: make(map[string]cloudapp.Tagging),
		Indicators: make(map[string]indicator.Indicator), Rollouts: make(map[string]staging.Rollout),
		Revocations: make(map[string]bypass.ScopedRevocation), Features: make(map[fleet.Feature]bool),
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
	Everything  bool
	Devices     map[fleet.DeviceID]bool
	Groups      bool
	Policies    bool
	Taggings    bool
	Features    bool
	Rollouts    bool
	Revocations bool
	Indicators  map[string]bool
}

// said reports whether something else changed than who is in which group.
func (c *Changed) said() bool { return c.records() || c.Policies || len(c.Indicators) > 0 }

// records reports whether something changed that becomes records of its own,
// other than custom indicators, which have their own count.
func (c *Changed) records() bool {
	return c.Everything || c.Taggings || c.Features || c.Rollouts || c.Revocations
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
	broken   map[string]error
}

// placement is where a device belongs.
type placement struct {
	groups   []string
	os       string
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

// Target returns what decides which scopes cover a device: its groups, the
// group that it is by itself, and its operating system.
func (s *Snapshot) Target(id fleet.DeviceID) fleet.Target {
	p := s.devices[id]
	return fleet.Target{Groups: withItself(p.groups, id), OS: p.os}
}

// Members counts the devices in a group.
func (s *Snapshot) Members(groupID string) int {
	n := 0
	for _, p := range s.devices {
		if _, in := slices.BinarySearch(p.groups, groupID); in {
			n++
		}
	}
	return n
}

// Broken returns, by group, why a rule that was accepted once does not compile
// any more; such a group has its static members only. The caller must not
// alter it.
func (s *Snapshot) Broken() map[string]error { return s.broken }

// Audiences returns every audience once, in no order.
func (s *Snapshot) Audiences() []*Audience {
	seen := make(map[*Audience]bool)
	for _, p := range s.devices {
		seen[p.audience] = true
	}
	return slices.Collect(maps.Keys(seen))
}

func withItself(groups []string, id fleet.DeviceID) []string {
	return append(slices.Clip(groups), fleet.DeviceGroup(id))
}
