package audience

import (
	"fmt"
	"maps"
	"slices"

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
	audiences  map[string]*Audience
}

// New returns a Compiler that has compiled nothing yet.
func New(c Config) *Compiler {
	return &Compiler{
		config: c, custom: newCustoms(c.Protected), members: newMembers(),
		last: &Snapshot{devices: make(map[fleet.DeviceID]placement)}, audiences: make(map[string]*Audience),
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
// regrouped, or of all if regrouped is nil, and returns which devices it did
// that for.
func (c *Compiler) place(state *State, changed Changed, regrouped map[fleet.DeviceID]bool) (*Snapshot, []fleet.DeviceID, error) {
	next := &Snapshot{Revision: state.Revision, broken: c.members.broken()}
	ids := maps.Keys(state.Devices)
	if regrouped == nil {
		next.devices = make(map[fleet.DeviceID]placement, len(state.Devices))
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
			continue
		}
		target := fleet.Target{Groups: withItself(m.all, id), OS: m.device.OS}
		a, err := c.audience(state, &target)
		if err != nil {
			return nil, nil, fmt.Errorf("compiling the audience of device %s: %w", id, err)
		}
		next.devices[id] = placement{groups: m.all, os: m.device.OS, audience: a}
		placed = append(placed, id)
	}
	return next, placed, nil
}

// finish dates what the placed devices have to enforce, raises the versions of
// audiences where it must, and returns the devices that have something new.
func (c *Compiler) finish(next *Snapshot, placed []fleet.DeviceID) (moved []fleet.DeviceID) {
	raised := make(map[*Audience]*Audience)
	for _, id := range placed {
		p, before := next.devices[id], c.last.devices[id]
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
	for a := range raised {
		higher := *a
		higher.Version = next.Revision
		raised[a] = &higher
	}
	c.audiences = make(map[string]*Audience)
	for id, p := range next.devices {
		if higher := raised[p.audience]; higher != nil {
			p.audience = higher
			next.devices[id] = p
		}
		c.audiences[p.audience.Key] = p.audience
	}
	c.last = next
	return moved
}

// spareKeys is how many more profiles are remembered than there are devices.
const spareKeys = 1000

// audience returns the audience of a device.
func (c *Compiler) audience(state *State, t *fleet.Target) (*Audience, error) {
	profile := c.plan.profile(t)
	if key, known := c.plan.keys[profile]; known {
		if a := c.audiences[key]; a != nil {
			return a, nil
		}
	}
	relevant, distinct := c.plan.narrow(t.Groups)
	w := work{compiler: c, plan: c.plan, state: state, groups: distinct, variant: c.plan.variant(relevant)}
	w.effective = w.variant.resolver.Resolve(fleet.Target{Groups: relevant, OS: t.OS})
	key := w.key()
	if len(c.plan.keys) > 2*len(state.Devices)+spareKeys {
		clear(c.plan.keys)
	}
	c.plan.keys[profile] = key
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
	own, err := bundle.NewSet(slices.Values(w.records()))
	if err != nil {
		return nil, err
	}
	set, err := bundle.Merge(append(custom, own)...)
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
