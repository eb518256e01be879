package audience

import (
	"fmt"
	"iter"
	"maps"

	"interdict/internal/bundle"
	"interdict/internal/cloudapp"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// Config is what follows from the program rather than from the
// administrator.
type Config struct {
	Index     *cloudapp.Index
	Protected *indicator.Protected
}

// Compiler makes snapshots. It is used by one goroutine at a time.
type Compiler struct {
	config  Config
	custom  *customs
	members *members
	// plan is nil before the first compilation, and after one that failed.
	plan *plan
	// generation counts the changes to what sets are made of, other than
	// settings and custom indicators.
	generation uint64
	last       *Snapshot
	// audiences are those that devices are in, by their keys, and users how
	// many devices that are.
	audiences map[string]*Audience
	users     map[string]int
}

// New returns a Compiler that has compiled nothing yet.
func New(c Config) *Compiler {
	return &Compiler{
		config: c, custom: newCustoms(c.Protected), members: newMembers(),
		last: &Snapshot{devices: make(map[fleet.DeviceID]placement)}, audiences: make(map[string]*Audience), users: make(map[string]int),
	}
}

// Compile makes the snapshot of a state, and returns it with the devices that
// have to enforce something else than in the snapshot before. After an error
// what changed has to be said again at the next call.
func (c *Compiler) Compile(state *State, changed Changed) (*Snapshot, []fleet.DeviceID, error) {
	if err := c.custom.update(state, changed); err != nil {
		return nil, nil, err
	}
	regrouped := c.members.update(state, changed)
	if changed.records() {
		c.generation++
	}
	if c.plan == nil || changed.said() {
		c.plan = newPlan(state, c.custom)
		// What matters of groups may be something else now, for anybody.
		regrouped = nil
	}
	next, placed, err := c.place(state, changed, regrouped)
	if err != nil {
		// Who is in which group is known already, but where the devices
		// belong is not.
		c.plan = nil
		return nil, nil, err
	}
	return next, c.finish(next, placed), nil
}

// place finds the audiences of the devices that changed and of those that are
// regrouped, or of all if regrouped is nil, and returns which devices
// those are, with the ones that are gone.
func (c *Compiler) place(state *State, changed Changed, regrouped map[fleet.DeviceID]bool) (*Snapshot, []fleet.DeviceID, error) {
	next := &Snapshot{Revision: state.Revision, broken: c.members.broken()}
	var ids iter.Seq[fleet.DeviceID]
	if regrouped == nil {
		next.devices = make(map[fleet.DeviceID]placement, len(state.Devices))
		ids = c.known(state)
	} else {
		next.devices = maps.Clone(c.last.devices)
		maps.Copy(regrouped, changed.Devices)
		ids = maps.Keys(regrouped)
	}
	var placed []fleet.DeviceID
	for id := range ids {
		m := c.members.devices[id]
		if m == nil {
			delete(next.devices, id)
			placed = append(placed, id)
			continue
		}
		a, err := c.audience(state, id, m)
		if err != nil {
			return nil, nil, fmt.Errorf("compiling the audience of device %s: %w", id, err)
		}
		next.devices[id] = placement{groups: m.all, os: m.device.OS, audience: a}
		placed = append(placed, id)
	}
	return next, placed, nil
}

// known are the devices of the state, and those of before.
func (c *Compiler) known(state *State) iter.Seq[fleet.DeviceID] {
	return func(yield func(fleet.DeviceID) bool) {
		for id := range state.Devices {
			if !yield(id) {
				return
			}
		}
		for id := range c.last.devices {
			if _, still := state.Devices[id]; !still && !yield(id) {
				return
			}
		}
	}
}

// finish dates what the placed devices have to enforce, raises the versions of
// audiences where it must, forgets those without devices, and returns the
// devices that have something new.
func (c *Compiler) finish(next *Snapshot, placed []fleet.DeviceID) (moved []fleet.DeviceID) {
	raised := make(map[*Audience]*Audience)
	for _, id := range placed {
		p, known := next.devices[id]
		if !known {
			continue
		}
		before := c.last.devices[id]
		p.since = before.since
		if before.audience == nil || before.audience.Digest != p.audience.Digest {
			moved, p.since = append(moved, id), next.Revision
			if before.audience != nil && p.audience.Version < next.Revision {
				// An agent takes no lower version than it has.
				raised[p.audience] = nil
			}
		}
		next.devices[id] = p
	}
	c.raise(next, raised)
	c.forget(next, placed)
	c.last = next
	return moved
}

// raise puts the devices of audiences into ones that have the revision for
// their version, and are the same otherwise.
func (c *Compiler) raise(next *Snapshot, raised map[*Audience]*Audience) {
	if len(raised) == 0 {
		return
	}
	for a := range raised {
		higher := *a
		higher.Version = next.Revision
		raised[a], c.audiences[a.Key] = &higher, &higher
	}
	for id, p := range next.devices {
		if higher := raised[p.audience]; higher != nil {
			p.audience = higher
			next.devices[id] = p
		}
	}
}

// forget counts the devices of audiences, and forgets the audiences that the
// placed devices were the last of.
func (c *Compiler) forget(next *Snapshot, placed []fleet.DeviceID) {
	for _, id := range placed {
		if p, known := next.devices[id]; known {
			c.users[p.audience.Key]++
		}
	}
	for _, id := range placed {
		before := c.last.devices[id].audience
		if before == nil {
			continue
		}
		if c.users[before.Key]--; c.users[before.Key] == 0 {
			delete(c.users, before.Key)
			delete(c.audiences, before.Key)
		}
	}
}

// spareKeys is how many more profiles are remembered than there are devices.
const spareKeys = 1000

// audience returns the audience of a device.
func (c *Compiler) audience(state *State, id fleet.DeviceID, m *member) (*Audience, error) {
	var buffer [256]byte
	profile := c.plan.profile(buffer[:0], id, m.all, m.device.OS)
	if key, known := c.plan.keys[string(profile)]; known {
		if a := c.audiences[key]; a != nil {
			return a, nil
		}
	}
	relevant, distinct := c.plan.narrow(id, m.all)
	w := work{compiler: c, plan: c.plan, state: state, groups: distinct, variant: c.plan.variant(relevant)}
	w.effective = w.variant.resolver.Resolve(fleet.Target{Groups: relevant, OS: m.device.OS})
	key := w.key()
	if len(c.plan.keys) > 2*len(state.Devices)+spareKeys {
		clear(c.plan.keys)
	}
	c.plan.keys[string(profile)] = key
	a, err := w.audience(key)
	if err != nil {
		return nil, err
	}
	c.audiences[key] = a
	return a, nil
}

// parts say what a set was made of; sets of equal parts are equal.
type parts struct {
	generation uint64
	custom     string
}

// work is the making of one audience.
type work struct {
	compiler *Compiler
	plan     *plan
	state    *State
	// groups are those that tell audiences apart.
	groups    []string
	variant   *variant
	effective fleet.Effective
}

// audience returns the audience with a key, the one of before if its set is
// still good.
func (w *work) audience(key string) (*Audience, error) {
	c := w.compiler
	var custom []bundle.Set
	made := parts{generation: c.generation}
	if w.state.Enabled(fleet.FeatureCustomIndicators) {
		custom, made.custom = c.custom.covering(w.groups)
	}
	before := c.audiences[key]
	if before != nil && before.parts == made {
		return before, nil
	}
	sets, err := w.sets()
	if err != nil {
		return nil, err
	}
	set, err := merge(append(sets, custom...))
	if err != nil {
		return nil, err
	}
	a := &Audience{Key: key, Effective: w.effective, Set: set, Digest: set.Digest(), Version: w.state.Revision, parts: made}
	if before != nil && before.Digest == a.Digest {
		// Nothing new for its devices: what was signed stays good.
		a.Set, a.Version = before.Set, before.Version
	}
	return a, nil
}
