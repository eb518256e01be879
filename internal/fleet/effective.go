package fleet

import (
	"cmp"
	"slices"
)

// The names of settings, as Effective.Origin and bundles have them.
const (
	SettingNetworkProtection = "network_protection"
	SettingFailMode          = "fail_mode"
)

// Conflict says that two policies of the same priority make a setting
// differently. The stricter value is in force.
type Conflict struct {
	Setting string `json:"setting"`
	// Policy is the one whose value is in force, Overruled the other.
	Policy    string `json:"policy"`
	Overruled string `json:"overruled"`
}

// Modes returns all modes, the most lenient first.
func Modes() []Mode { return []Mode{ModeDisabled, ModeAudit, ModeBlock} }

// Valid reports whether m is one of [Modes].
func (m Mode) Valid() bool { return slices.Contains(Modes(), m) }

// FailModes returns all fail modes, the most lenient first.
func FailModes() []FailMode { return []FailMode{FailOpen, FailClosed} }

// Valid reports whether m is one of [FailModes].
func (m FailMode) Valid() bool { return slices.Contains(FailModes(), m) }

// InGroup reports whether a device with these labels and static memberships
// is in the group: it is a member, or the group matches labels and the device
// carries all of them.
func (g *Group) InGroup(labels map[string]string, static []string) bool {
	if slices.Contains(static, g.ID) {
		return true
	}
	for k, v := range g.Match {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	return len(g.Match) > 0
}

// AppliesTo reports whether the policy is assigned to a device in these
// groups.
func (p *Policy) AppliesTo(groups []string) bool {
	return p.Assigned && p.Assignment.Covers(groups)
}

// Resolve merges the policies that apply to a device in these groups, setting
// by setting: the policy with the highest priority that makes the setting
// wins, and of several with the same priority the strictest value, which is a
// conflict if they differ. What no policy makes has its default.
func Resolve(policies []Policy, groups []string) Effective {
	var applying []*Policy
	for i := range policies {
		if policies[i].AppliesTo(groups) {
			applying = append(applying, &policies[i])
		}
	}
	slices.SortFunc(applying, func(a, b *Policy) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.ID, b.ID))
	})
	e := Effective{Settings: Defaults(), Origin: make(map[string]string)}
	resolve(&e, applying, SettingNetworkProtection, Modes(), &e.Settings.NetworkProtection,
		func(s *Settings) Mode { return s.NetworkProtection })
	resolve(&e, applying, SettingFailMode, FailModes(), &e.Settings.FailMode,
		func(s *Settings) FailMode { return s.FailMode })
	return e
}

// resolve settles one setting, whose values are ordered from lenient to
// strict. Policies are sorted by priority.
func resolve[V comparable](e *Effective, policies []*Policy, name string, values []V, out *V, get func(*Settings) V) {
	var unset V
	var winner *Policy
	for _, p := range policies {
		v := get(&p.Settings)
		switch {
		case v == unset:
			continue
		case winner == nil:
			winner, *out = p, v
		case p.Priority < winner.Priority:
			// Overruled by priority, as meant.
		case v == *out:
			// They agree.
		case slices.Index(values, v) > slices.Index(values, *out):
			e.Conflicts = append(e.Conflicts, Conflict{Setting: name, Policy: p.ID, Overruled: winner.ID})
			winner, *out = p, v
		default:
			e.Conflicts = append(e.Conflicts, Conflict{Setting: name, Policy: winner.ID, Overruled: p.ID})
		}
	}
	e.Origin[name] = ""
	if winner != nil {
		e.Origin[name] = winner.ID
	}
}
