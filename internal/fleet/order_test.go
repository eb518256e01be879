package fleet_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// drawn draws policies that contradict each other as often as they can: few
// priorities, ages and values, and every kind of setting.
func drawn(r *rand.Rand) []fleet.Policy {
	groups := func() []string {
		all := []string{"a", "b", "c", "d", "device:1"}
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		return all[:r.IntN(3)]
	}
	policies := make([]fleet.Policy, 2+r.IntN(10))
	for i := range policies {
		p := &policies[i]
		*p = fleet.Policy{
			ID: fmt.Sprintf("p%02d", i), Assigned: r.IntN(8) > 0, Priority: r.IntN(2),
			CreatedAt:  time.Unix(int64(r.IntN(3)), 0),
			Assignment: indicator.Scope{Include: groups(), Exclude: groups()},
		}
		if r.IntN(3) == 0 {
			p.Platforms = [][]string{{"linux"}, {"windows"}, {"linux", "windows"}}[r.IntN(3)]
		}
		for _, d := range fleet.Definitions() {
			values := slices.Concat(d.Values, []string{"", ""})
			switch {
			case d.Most > 0:
				values = append(values, "5s", "1m", "2h")
			case d.Name == fleet.SettingSupportURL:
				values = append(values, "https://a.example/", "https://b.example/")
			case d.Values == nil:
				values = append(values, "this", "that")
			}
			if err := d.Set(&p.Settings, values[r.IntN(len(values))]); err != nil {
				panic(err)
			}
		}
	}
	return policies
}

func TestTheOrderOfPoliciesDoesNotMatter(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	conflicts := 0
	for range 500 {
		policies := drawn(r)
		target := fleet.Target{Groups: [][]string{nil, {"a"}, {"a", "b", "device:1"}, {"c", "d"}}[r.IntN(4)], OS: []string{"", "linux", "windows"}[r.IntN(3)]}
		want := fleet.Resolve(policies, target)
		conflicts += len(want.Conflicts)
		for range 5 {
			r.Shuffle(len(policies), func(i, j int) { policies[i], policies[j] = policies[j], policies[i] })
			if diff := cmp.Diff(want, fleet.Resolve(policies, target)); diff != "" {
				t.Fatalf("in another order (-before +after):\n%s\nof %+v", diff, policies)
			}
		}
		checkEffective(t, &want, policies, target)
	}
	if conflicts < 500 {
		t.Errorf("only %d conflicts were drawn", conflicts)
	}
}

// checkEffective holds what was resolved against what each policy says.
func checkEffective(t *testing.T, e *fleet.Effective, policies []fleet.Policy, target fleet.Target) {
	t.Helper()
	for _, d := range fleet.Definitions() {
		value, origin := d.Get(&e.Settings), e.Origin[d.Name]
		i := slices.IndexFunc(policies, func(p fleet.Policy) bool { return p.ID == origin })
		if origin == "" && value != d.Default || origin != "" && (i < 0 || d.Get(&policies[i].Settings) != value || !policies[i].AppliesTo(target)) {
			t.Fatalf("%s is %q, from %q, for %+v", d.Name, value, origin, target)
		}
		for _, p := range policies {
			other := d.Get(&p.Settings)
			if other == "" || !p.AppliesTo(target) {
				continue
			}
			if origin == "" || p.Priority > policies[i].Priority || p.Priority == policies[i].Priority && d.Compare(other, value) > 0 {
				t.Fatalf("%s is %q, from %q, though policy %+v applies to %+v", d.Name, value, origin, p, target)
			}
			noted := slices.Contains(e.Conflicts, fleet.Conflict{
				Setting: d.Name, Policy: origin, Value: value, Overruled: p.ID, OverruledValue: other, Priority: p.Priority,
			})
			if differs := p.Priority == policies[i].Priority && other != value; noted != differs {
				t.Fatalf("%s is %q, from %q; that policy %s says %q is noted as a conflict: %v", d.Name, value, origin, p.ID, other, noted)
			}
		}
	}
}

func TestScopesCoverWhatEachScopeCovers(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		policies := drawn(r)
		scopes := make([]indicator.Scope, len(policies))
		for i, p := range policies {
			scopes[i] = p.Assignment
		}
		groups := [][]string{nil, {"a"}, {"b", "a"}, {"a", "c", "device:1"}, {"x"}}[r.IntN(5)]
		var want []int
		for i, s := range scopes {
			if s.Covers(groups) {
				want = append(want, i)
			}
		}
		if got := fleet.NewScopes(scopes).Covering(groups); !slices.Equal(got, want) {
			t.Fatalf("%v cover a device in %v, want %v of %+v", got, groups, want, scopes)
		}
	}
}

func TestExcludeBeatsInclude(t *testing.T) {
	for _, test := range []struct {
		name  string
		scope indicator.Scope
		want  bool
	}{
		{"everybody", indicator.Scope{}, true},
		{"included", indicator.Scope{Include: []string{"a"}}, true},
		{"included by itself", indicator.Scope{Include: []string{"device:1"}}, true},
		{"included twice, excluded once", indicator.Scope{Include: []string{"a", "device:1"}, Exclude: []string{"b"}}, false},
		{"included and excluded as the same group", indicator.Scope{Include: []string{"a"}, Exclude: []string{"a"}}, false},
		{"excluded by itself", indicator.Scope{Exclude: []string{"device:1"}}, false},
		{"another excluded", indicator.Scope{Exclude: []string{"device:2"}}, true},
	} {
		policies := []fleet.Policy{policy("p", 1, fleet.ModeBlock, "", test.scope)}
		e := fleet.Resolve(policies, fleet.Target{Groups: []string{"a", "b", fleet.DeviceGroup("1")}})
		if got := e.Settings.NetworkProtection == fleet.ModeBlock; got != test.want {
			t.Errorf("%s: applies %v", test.name, got)
		}
	}
}
