package audience

import (
	"encoding/binary"
	"maps"
	"slices"

	"interdict/internal/bundle"
	"interdict/internal/bypass"
	"interdict/internal/cloudapp"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/staging"
)

// plan is what follows from a configuration for any device, whichever devices
// and groups there are.
type plan struct {
	policies []fleet.Policy
	// names are what policies are called, by id.
	names    map[string]string
	taggings []cloudapp.Tagging
	trials   []staging.Rollout
	// variants are the policies and tags with some of the trials, by the
	// places of those.
	variants map[string]*variant
	// relevant numbers the groups that anything mentions. distinct are those
	// of them that tell apart devices with the same settings.
	relevant map[string]uint32
	distinct map[string]bool
	// devices are the numbers of those that are groups by themselves.
	devices map[fleet.DeviceID]uint32
	// platforms is true if the operating system of a device matters.
	platforms bool

	revocations []bypass.ScopedRevocation
	revoked     *fleet.Scopes
	definitions []fleet.Definition
	// keys are the keys of audiences by profile, see profile.
	keys map[string]string
	// tagged are the records of what follows from a tagging.
	tagged map[*cloudapp.Tagging]bundle.Set
}

// variant is the policies and tags as they are for some devices.
type variant struct {
	resolver *fleet.Resolver
	// taggings are those that have consequences, scopes theirs.
	taggings []cloudapp.Tagging
	scopes   *fleet.Scopes
}

func newVariant(policies []fleet.Policy, taggings []cloudapp.Tagging) *variant {
	v := &variant{resolver: fleet.NewResolver(policies)}
	var scopes []indicator.Scope
	for _, t := range taggings {
		if t.Tag.Enforced() {
			v.taggings, scopes = append(v.taggings, t), append(scopes, t.Scope.Scope)
		}
	}
	v.scopes = fleet.NewScopes(scopes)
	return v
}

// enforced returns the taggings that have consequences for a device in these
// groups.
func (v *variant) enforced(groups []string) []*cloudapp.Tagging {
	var enforced []*cloudapp.Tagging
	for _, i := range v.scopes.Covering(groups) {
		enforced = append(enforced, &v.taggings[i])
	}
	return enforced
}

func newPlan(state *State, custom *customs) *plan {
	p := &plan{
		policies: sortedValues(state.Policies), taggings: sortedValues(state.Taggings),
		trials: staging.Trials(sortedValues(state.Rollouts)), variants: make(map[string]*variant),
		relevant: make(map[string]uint32), distinct: make(map[string]bool), devices: make(map[fleet.DeviceID]uint32),
		definitions: fleet.Definitions(), keys: make(map[string]string), tagged: make(map[*cloudapp.Tagging]bundle.Set),
	}
	p.names = make(map[string]string, len(p.policies))
	for i := range p.policies {
		p.names[p.policies[i].ID] = p.policies[i].Name
	}
	for i := range p.trials {
		if after := p.trials[i].AfterPolicy; after != nil {
			p.names[after.ID] = after.Name
		}
	}
	var revoked []indicator.Scope
	for _, r := range sortedValues(state.Revocations) {
		if !state.At.IsZero() && r.Before.Add(bypass.MaxAge).Before(state.At) {
			// No bypass that it ended would last until now.
			continue
		}
		p.revocations, revoked = append(p.revocations, r), append(revoked, r.Scope)
	}
	p.revoked = fleet.NewScopes(revoked)
	p.readMentions(custom)
	return p
}

// readMentions finds out which groups matter, and for what.
func (p *plan) readMentions(custom *customs) {
	p.distinguish(p.revoked.Mentions()...)
	p.distinguish(custom.scopes.Mentions()...)
	p.readPolicies(p.policies)
	p.readTaggings(p.taggings)
	for i := range p.trials {
		t := &p.trials[i]
		p.mention(t.Canary)
		if t.AfterPolicy != nil {
			p.readPolicies([]fleet.Policy{*t.AfterPolicy})
		}
		if t.AfterTag != nil {
			// Whether one is in the canary decides which tag one has.
			p.distinguish(t.Canary)
			p.readTaggings([]cloudapp.Tagging{*t.AfterTag})
		}
	}
}

func (p *plan) readPolicies(policies []fleet.Policy) {
	r := fleet.NewResolver(policies)
	p.mention(r.Mentions()...)
	p.platforms = p.platforms || r.AsksForOS()
}

func (p *plan) readTaggings(taggings []cloudapp.Tagging) {
	for i := range taggings {
		if t := &taggings[i]; t.Tag.Enforced() {
			p.distinguish(t.Scope.Include...)
			p.distinguish(t.Scope.Exclude...)
		}
	}
}

func (p *plan) mention(groups ...string) {
	for _, g := range groups {
		if _, known := p.relevant[g]; known {
			continue
		}
		n := uint32(len(p.relevant))
		p.relevant[g] = n
		if id, itself := fleet.DeviceOf(g); itself {
			p.devices[id] = n
		}
	}
}

func (p *plan) distinguish(groups ...string) {
	p.mention(groups...)
	for _, g := range groups {
		p.distinct[g] = true
	}
}

// profile appends to text what matters of a device: those with the same
// profile have the same audience.
func (p *plan) profile(text []byte, id fleet.DeviceID, groups []string, os string) []byte {
	for _, g := range groups {
		if n, ok := p.relevant[g]; ok {
			text = binary.BigEndian.AppendUint32(text, n)
		}
	}
	if n, ok := p.devices[id]; ok {
		text = binary.BigEndian.AppendUint32(text, n)
	}
	if p.platforms {
		text = append(text, os...)
	}
	return text
}

// narrow returns what is relevant of a device's groups, and what of that tells
// audiences apart.
func (p *plan) narrow(id fleet.DeviceID, groups []string) (relevant, distinct []string) {
	if _, ok := p.devices[id]; ok {
		groups = withItself(groups, id)
	}
	for _, g := range groups {
		if _, ok := p.relevant[g]; ok {
			relevant = append(relevant, g)
		}
		if p.distinct[g] {
			distinct = append(distinct, g)
		}
	}
	return relevant, distinct
}

// variant returns the policies and tags for a device in these groups.
func (p *plan) variant(groups []string) *variant {
	var active []byte
	for i := range p.trials {
		if slices.Contains(groups, p.trials[i].Canary) {
			active = binary.BigEndian.AppendUint32(active, uint32(i))
		}
	}
	v := p.variants[string(active)]
	if v == nil {
		v = newVariant(staging.Policies(p.policies, p.trials, groups), staging.Taggings(p.taggings, p.trials, groups))
		p.variants[string(active)] = v
	}
	return v
}

func sortedValues[V any](m map[string]V) []V {
	values := make([]V, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		values = append(values, m[k])
	}
	return values
}
