package fleet

import (
	"cmp"
	"slices"
	"strings"

	"interdict/internal/indicator"
)

// Target is what decides which policies reach a device.
type Target struct {
	// Groups are the ids of the groups it is in, and "device:ID" for itself.
	Groups []string
	// OS is what it runs, as runtime.GOOS says it.
	OS string
}

// Effective is what results for one device: every setting with a value, and
// the policy each value came from (empty for a default).
type Effective struct {
	Settings Settings          `json:"settings"`
	Origin   map[string]string `json:"origin"`
	// Conflicts are settings that policies of the same priority make
	// differently.
	Conflicts []Conflict `json:"conflicts,omitempty"`
}

// Conflict says that two policies of the same priority make a setting
// differently. The stricter value is in force; where neither is stricter, that
// of the older policy.
type Conflict struct {
	Setting string `json:"setting"`
	// Policy is the one whose value is in force, Overruled the other.
	Policy         string `json:"policy"`
	Value          string `json:"value"`
	Overruled      string `json:"overruled"`
	OverruledValue string `json:"overruled_value"`
	// Priority is that of both.
	Priority int `json:"priority"`
	// PolicyName and OverruledName are what people call the policies. The
	// server fills them in.
	PolicyName    string `json:"policy_name,omitempty"`
	OverruledName string `json:"overruled_name,omitempty"`
}

// AppliesTo reports whether the policy is assigned to a device.
func (p *Policy) AppliesTo(t Target) bool {
	return p.Assigned && p.SupportsOS(t.OS) && p.Assignment.Covers(t.Groups)
}

// SupportsOS reports whether the policy is for devices with an operating
// system. One that is not known yet is spared by a platform filter.
func (p *Policy) SupportsOS(os string) bool {
	return len(p.Platforms) == 0 || slices.Contains(p.Platforms, os)
}

// Resolve merges the policies that apply to a device, setting by setting: the
// policy with the highest priority that makes the setting wins, and of several
// with the same priority the strictest value, which is a conflict if they
// differ. What no policy makes has its default. The result does not depend on
// the order of the policies.
func Resolve(policies []Policy, t Target) Effective { return NewResolver(policies).Resolve(t) }

// Resolver merges the same policies for many devices. It is immutable.
type Resolver struct {
	// policies are the assigned ones, by priority and then by age.
	policies    []*Policy
	scopes      *Scopes
	definitions []Definition
	defaults    Settings
	platforms   bool
}

// NewResolver returns a Resolver of policies, which must stay as they are.
func NewResolver(policies []Policy) *Resolver {
	r := &Resolver{definitions: Definitions(), defaults: Defaults()}
	for i := range policies {
		if policies[i].Assigned {
			r.policies = append(r.policies, &policies[i])
			r.platforms = r.platforms || len(policies[i].Platforms) > 0
		}
	}
	slices.SortFunc(r.policies, func(a, b *Policy) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	scopes := make([]indicator.Scope, len(r.policies))
	for i, p := range r.policies {
		scopes[i] = p.Assignment
	}
	r.scopes = NewScopes(scopes)
	return r
}

// Mentions returns every group that a policy's assignment mentions, in no
// order, possibly more than once.
func (r *Resolver) Mentions() []string { return r.scopes.Mentions() }

// AsksForOS reports whether the operating system of a device matters.
func (r *Resolver) AsksForOS() bool { return r.platforms }

// Resolve is what [Resolve] does.
func (r *Resolver) Resolve(t Target) Effective {
	var applying []*Policy
	for _, i := range r.scopes.Covering(t.Groups) {
		if p := r.policies[i]; p.SupportsOS(t.OS) {
			applying = append(applying, p)
		}
	}
	e := Effective{Settings: r.defaults, Origin: make(map[string]string, len(r.definitions))}
	for i := range r.definitions {
		e.settle(&r.definitions[i], applying)
	}
	return e
}

// settle settles one setting. Policies are sorted by priority, then by age.
func (e *Effective) settle(d *Definition, policies []*Policy) {
	var rivals []*Policy
	for _, p := range policies {
		if d.get(&p.Settings) == "" {
			continue
		}
		if len(rivals) > 0 && p.Priority < rivals[0].Priority {
			break
		}
		rivals = append(rivals, p)
	}
	e.Origin[d.Name] = ""
	if len(rivals) == 0 {
		return
	}
	winner := rivals[0]
	for _, p := range rivals[1:] {
		if d.Compare(d.get(&p.Settings), d.get(&winner.Settings)) > 0 {
			winner = p
		}
	}
	value := d.get(&winner.Settings)
	d.set(&e.Settings, value)
	e.Origin[d.Name] = winner.ID
	for _, p := range rivals {
		if other := d.get(&p.Settings); other != value {
			e.Conflicts = append(e.Conflicts, Conflict{
				Setting: d.Name, Policy: winner.ID, Value: value, Overruled: p.ID, OverruledValue: other, Priority: p.Priority,
			})
		}
	}
}

// DeviceGroup is the id of the group that has one device and no other, as a
// scope mentions it.
func DeviceGroup(id DeviceID) string { return deviceGroupPrefix + string(id) }

// DeviceOf returns the device of a group that [DeviceGroup] names; ok is false
// for any other group.
func DeviceOf(group string) (id DeviceID, ok bool) {
	rest, ok := strings.CutPrefix(group, deviceGroupPrefix)
	return DeviceID(rest), ok
}

const deviceGroupPrefix = "device:"
