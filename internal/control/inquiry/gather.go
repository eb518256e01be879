package inquiry

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"interdict/internal/cloudapp"
	"interdict/internal/control/audience"
	"interdict/internal/control/find"
	"interdict/internal/control/input"
	"interdict/internal/explain"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/staging"
)

// gathering adds to facts what follows from the configuration.
type gathering struct {
	service *Service
	state   *audience.State
	facts   *explain.Facts
	target  fleet.Target
	trials  []staging.Rollout
	// expired are custom indicators that are there no more.
	expired []indicator.Indicator
}

func (g *gathering) gather() {
	g.trials = staging.Trials(sorted(g.state.Rollouts))
	if g.facts.App = g.service.owners.of(g.facts.Subject.Host); g.facts.App != nil {
		g.tag(g.facts.App.ID)
	}
	g.tagged()
	g.custom()
	g.policies()
}

// sorted are the values of a map, by key, so that the answer to a question is
// the same every time.
func sorted[V any](m map[string]V) []V {
	values := make([]V, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		values = append(values, m[k])
	}
	return values
}

// tag finds the tag of the app, as it is for most and as it is on trial.
func (g *gathering) tag(app string) {
	if t, tagged := g.state.Taggings[app]; tagged {
		g.facts.Tagging = &t
	}
	i := slices.IndexFunc(g.trials, func(r staging.Rollout) bool { return r.AfterTag != nil && r.AfterTag.AppID == app })
	if i >= 0 {
		g.facts.Trial = &g.trials[i]
	}
}

// tagged finds the indicators that follow from tags, and the names that are
// spared from them here.
func (g *gathering) tagged() {
	var covering []*cloudapp.Tagging
	taggings := staging.Taggings(sorted(g.state.Taggings), g.trials, g.target.Groups)
	for i := range taggings {
		t := &taggings[i]
		if t.Tag.Enforced() && t.Scope.Covers(g.target.Groups) {
			covering = append(covering, t)
		}
	}
	spare := g.spare(covering)
	for _, t := range taggings {
		for _, i := range g.service.index.Indicators(t) {
			if !explain.Matches(&i, g.facts.Subject) {
				continue
			}
			c := g.candidate(i, fleet.FeatureAppEnforcement)
			if len(spare.Domain) > len(i.Value) {
				c.SparedFor = spare.AppID
			}
			g.facts.Candidates = append(g.facts.Candidates, c)
		}
	}
}

// spare is the longest spared name that the destination is, or is below.
func (g *gathering) spare(covering []*cloudapp.Tagging) (longest cloudapp.Spare) {
	for _, s := range g.service.index.Spares(covering) {
		below := explain.Matches(&indicator.Indicator{Type: indicator.TypeDomain, Value: s.Domain}, g.facts.Subject)
		if below && len(s.Domain) > len(longest.Domain) {
			longest = s
		}
	}
	return longest
}

// custom finds the custom indicators, and those that were there until their
// time was over.
func (g *gathering) custom() {
	for _, i := range g.state.Indicators {
		if explain.Matches(&i, g.facts.Subject) {
			g.facts.Candidates = append(g.facts.Candidates, g.candidate(i, fleet.FeatureCustomIndicators))
		}
	}
	for _, i := range g.expired {
		g.facts.Candidates = append(g.facts.Candidates, g.candidate(i, fleet.FeatureCustomIndicators))
	}
}

func (g *gathering) candidate(i indicator.Indicator, feature fleet.Feature) explain.Candidate {
	c := explain.Candidate{
		Indicator: i, Feature: feature, FeatureOn: g.state.Enabled(feature), DeviceInScope: i.Scope.Covers(g.target.Groups),
	}
	if err := g.service.control.CheckProtected(&i); err != nil {
		c.Protected = err.Error()
	}
	return c
}

// policies finds the policies that would turn network protection on and do
// not, and what is on trial about it.
func (g *gathering) policies() {
	here := staging.Policies(sorted(g.state.Policies), g.trials, g.target.Groups)
	for i := range here {
		p := &here[i]
		if mode := p.Settings.NetworkProtection; mode == fleet.ModeAudit || mode == fleet.ModeBlock {
			g.missed(p)
		}
	}
	origin := g.facts.Policies.Effective.Origin[fleet.SettingNetworkProtection]
	for i := range g.trials {
		p := g.trials[i].AfterPolicy
		if p != nil && (p.ID == origin || g.facts.Policies.Trial == nil && p.AppliesTo(g.target)) && p.Settings.NetworkProtection != "" {
			g.facts.Policies.Trial = &g.trials[i]
		}
	}
}

// missed notes why a policy does not decide about network protection, if it
// does not.
func (g *gathering) missed(p *fleet.Policy) {
	e := &g.facts.Policies.Effective
	origin := e.Origin[fleet.SettingNetworkProtection]
	assign := "interdict policy assign " + explain.Quote(p.Name)
	m := explain.Missed{Name: p.Name}
	in, out := p.Assignment.Include, p.Assignment.Exclude
	excluded := slices.IndexFunc(out, func(id string) bool { return slices.Contains(g.target.Groups, id) })
	itself := fleet.DeviceGroup(g.facts.Device.ID)
	switch {
	case p.ID == origin:
		return
	case !p.Assigned:
		m.Why, m.Fix = "it is assigned to nobody", assign+g.scope([]string{itself}, nil)
	case excluded >= 0:
		m.Why = fmt.Sprintf("%s is excluded from it", find.Name(g.state, out[excluded]))
		m.Fix = assign + g.scope(in, slices.Delete(slices.Clone(out), excluded, excluded+1))
	case !p.Assignment.Covers(g.target.Groups):
		m.Why = fmt.Sprintf("it is for %s, which the device is not in", input.OrList(g.names(in)))
		m.Fix = assign + g.scope(append(slices.Clone(in), itself), out)
	case !p.SupportsOS(g.target.OS):
		m.Why = fmt.Sprintf("it is for %s only", strings.Join(p.Platforms, " and "))
		m.Fix = "interdict policy set " + explain.Quote(p.Name) + explain.Flags("platform", append(slices.Clone(p.Platforms), g.target.OS))
	case e.Settings.NetworkProtection != fleet.ModeDisabled:
		return
	default:
		over := g.state.Policies[origin]
		m.Why = fmt.Sprintf("policy %s goes before it", over.Name)
		m.Fix = fmt.Sprintf("interdict policy set %s --priority %d", explain.Quote(p.Name), over.Priority+1)
	}
	g.facts.Policies.Missed = append(g.facts.Policies.Missed, m)
}

func (g *gathering) names(ids []string) []string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = find.Name(g.state, id)
	}
	return names
}

// scope are the flags of an assignment.
func (g *gathering) scope(in, out []string) string {
	flags := " --all-devices"
	if len(in) > 0 {
		flags = explain.Flags("include-group", g.names(in))
	}
	if len(out) > 0 {
		flags += explain.Flags("exclude-group", g.names(out))
	}
	return flags
}
