package audience

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

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
	config Config
	custom *customs
	// generation counts the changes to tags and features.
	generation uint64
	profiles   map[string]*profile
	last       *Snapshot
	audiences  map[string]*Audience
}

// profile is what devices in the same groups have in common.
type profile struct {
	groups   []string
	audience *Audience
}

// New returns a Compiler that has compiled nothing yet.
func New(c Config) *Compiler {
	return &Compiler{
		config: c, custom: newCustoms(c.Protected), profiles: make(map[string]*profile),
		last: &Snapshot{devices: make(map[fleet.DeviceID]placement)}, audiences: make(map[string]*Audience),
	}
}

// Compile makes the snapshot of a state, and returns it with the devices that
// have to enforce something else than in the snapshot before.
func (c *Compiler) Compile(state *State, changed Changed) (*Snapshot, []fleet.DeviceID, error) {
	if err := c.custom.update(state, changed); err != nil {
		return nil, nil, err
	}
	if changed.Everything || changed.Taggings || changed.Features {
		c.generation++
	}
	next := c.place(state, changed)
	if err := c.compileProfiles(state, next); err != nil {
		return nil, nil, err
	}
	return c.finish(next)
}

// place finds out which groups each device is in.
func (c *Compiler) place(state *State, changed Changed) *Snapshot {
	next := &Snapshot{Revision: state.Revision}
	if changed.Everything || changed.Groups {
		next.devices = make(map[fleet.DeviceID]placement, len(state.Devices))
		for id, d := range state.Devices {
			next.devices[id] = newPlacement(state, &d)
		}
		return next
	}
	next.devices = maps.Clone(c.last.devices)
	for id := range changed.Devices {
		if d, ok := state.Devices[id]; ok {
			next.devices[id] = newPlacement(state, &d)
		} else {
			delete(next.devices, id)
		}
	}
	return next
}

func newPlacement(state *State, d *Device) placement {
	groups := groupsOf(state, d)
	return placement{groups: groups, profile: strings.Join(groups, " ")}
}

func groupsOf(state *State, d *Device) []string {
	var in []string
	for id, g := range state.Groups {
		if g.InGroup(d.Labels, d.Static) {
			in = append(in, id)
		}
	}
	slices.Sort(in)
	return in
}

// compileProfiles finds the audience of every combination of groups that
// occurs.
func (c *Compiler) compileProfiles(state *State, next *Snapshot) error {
	c.profiles = make(map[string]*profile)
	for _, p := range next.devices {
		if c.profiles[p.profile] == nil {
			c.profiles[p.profile] = &profile{groups: p.groups}
		}
	}
	w := work{
		compiler: c, state: state, policies: sortedValues(state.Policies), taggings: sortedValues(state.Taggings),
		mentioned: mentioned(state, c.custom), audiences: make(map[string]*Audience),
	}
	for _, key := range slices.Sorted(maps.Keys(c.profiles)) {
		p := c.profiles[key]
		var err error
		if p.audience, err = w.audience(p.groups); err != nil {
			return err
		}
	}
	c.audiences = w.audiences
	return nil
}

// finish puts the devices into their audiences.
func (c *Compiler) finish(next *Snapshot) (*Snapshot, []fleet.DeviceID, error) {
	var moved []fleet.DeviceID
	raised := make(map[*Audience]*Audience)
	for id, p := range next.devices {
		p.audience = c.profiles[p.profile].audience
		before := c.last.devices[id].audience
		p.since = c.last.devices[id].since
		if before == nil || before.Digest != p.audience.Digest {
			moved, p.since = append(moved, id), next.Revision
		}
		if before != nil && before.Digest != p.audience.Digest && p.audience.Version < next.Revision {
			// An agent takes no lower version than it has.
			raised[p.audience] = nil
		}
		next.devices[id] = p
	}
	for a := range raised {
		higher := *a
		higher.Version = next.Revision
		raised[a], c.audiences[a.Key] = &higher, &higher
	}
	if len(raised) > 0 {
		for id, p := range next.devices {
			if higher := raised[p.audience]; higher != nil {
				p.audience = higher
				next.devices[id] = p
			}
		}
	}
	c.last = next
	return next, moved, nil
}

// work is one compilation.
type work struct {
	compiler *Compiler
	state    *State
	policies []fleet.Policy
	taggings []cloudapp.Tagging
	// mentioned are the groups in the scopes of tags and indicators.
	mentioned map[string]bool
	audiences map[string]*Audience
}

// parts say what a set was made of; sets of equal parts are equal.
type parts struct {
	generation uint64
	custom     string
}

// audience returns the audience of devices in these groups.
func (w *work) audience(groups []string) (*Audience, error) {
	effective := fleet.Resolve(w.policies, fleet.Target{Groups: groups})
	var scoped []string
	for _, g := range groups {
		if w.mentioned[g] {
			scoped = append(scoped, g)
		}
	}
	key := audienceKey(effective, scoped)
	if a := w.audiences[key]; a != nil {
		return a, nil
	}
	a, err := w.make(key, effective, scoped)
	if err != nil {
		return nil, fmt.Errorf("compiling audience %s: %w", key, err)
	}
	w.audiences[key] = a
	return a, nil
}

func (w *work) make(key string, effective fleet.Effective, groups []string) (*Audience, error) {
	c := w.compiler
	var custom []bundle.Set
	made := parts{generation: c.generation}
	if w.state.Enabled(fleet.FeatureCustomIndicators) {
		custom, made.custom = c.custom.covering(groups)
	}
	before := c.audiences[key]
	if before != nil && before.parts == made {
		return before, nil
	}
	own, err := bundle.NewSet(slices.Values(w.records(effective, groups)))
	if err != nil {
		return nil, err
	}
	set, err := bundle.Merge(append(custom, own)...)
	if err != nil {
		return nil, err
	}
	a := &Audience{Key: key, Effective: effective, Set: set, Digest: set.Digest(), Version: w.state.Revision, parts: made}
	if before != nil && before.Digest == a.Digest {
		// Nothing new for its devices: what was signed stays good.
		a.Set, a.Version = before.Set, before.Version
	}
	return a, nil
}

// records are the settings and what follows from tags.
func (w *work) records(effective fleet.Effective, groups []string) []bundle.Record {
	records := []bundle.Record{
		bundle.Setting(fleet.SettingNetworkProtection, string(effective.Settings.NetworkProtection),
			effective.Origin[fleet.SettingNetworkProtection]),
		bundle.Setting(fleet.SettingFailMode, string(effective.Settings.FailMode), effective.Origin[fleet.SettingFailMode]),
	}
	if !w.state.Enabled(fleet.FeatureAppEnforcement) {
		return records
	}
	e := w.compiler.config.Index.Enforce(w.taggings, groups)
	for i := range e.Indicators {
		// Tagging checks this too, but the server may have moved since.
		if w.compiler.config.Protected.Check(&e.Indicators[i]) == nil {
			records = append(records, bundle.Indicator(e.Indicators[i]))
		}
	}
	for _, app := range e.Apps {
		records = append(records, bundle.App(app.ID, app.Name))
	}
	for _, s := range e.Spares {
		records = append(records, bundle.Spare(s.Domain, s.AppID))
	}
	return records
}

func mentioned(state *State, custom *customs) map[string]bool {
	groups := make(map[string]bool)
	mention := func(s indicator.Scope) {
		for _, list := range [][]string{s.Include, s.Exclude} {
			for _, g := range list {
				groups[g] = true
			}
		}
	}
	for _, t := range state.Taggings {
		if t.Tag.Enforced() {
			mention(t.Scope.Scope)
		}
	}
	for _, b := range custom.buckets {
		mention(b.scope)
	}
	return groups
}

// audienceKey is a digest of what makes an audience.
func audienceKey(e fleet.Effective, groups []string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\t%s\n", e.Settings.NetworkProtection, e.Settings.FailMode)
	fmt.Fprintf(h, "%s\t%s\n", e.Origin[fleet.SettingNetworkProtection], e.Origin[fleet.SettingFailMode])
	for _, g := range groups {
		fmt.Fprintf(h, "%s\n", g)
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

func sortedValues[V any](m map[string]V) []V {
	values := make([]V, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		values = append(values, m[k])
	}
	return values
}
