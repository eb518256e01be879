package find_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/control/audience"
	"interdict/internal/control/find"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

func state() *audience.State {
	s := audience.NewState()
	for id, name := range map[string]string{"g1": "laptops", "g2": "lab", "g3": "twin", "g4": "twin", "g5": "g1"} {
		s.Groups[id] = fleet.Group{ID: id, Name: name}
	}
	return s
}

func TestGroup(t *testing.T) {
	for _, tc := range []struct {
		name, ref, want, fault string
		code                   fault.Code
	}{
		{"by its id, though another has that for a name", "g1", "g1", "", ""},
		{"by its name", "lab", "g2", "", ""},
		{"one that is not known, with what was meant", "lap", "", `there is no group "lap"`, fault.NotFound},
		{"a name that two have", "twin", "", `2 groups are called "twin"`, fault.Conflict},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := find.Group(state(), tc.ref)
			if got != tc.want || fault.CodeOf(err) != tc.code || err != nil && err.Error() != tc.fault {
				t.Errorf("got %q, %v; want %q, %s", got, err, tc.want, tc.fault)
			}
		})
	}
}

func TestScope(t *testing.T) {
	var faults fault.Fields
	got := find.Scope(state(), indicator.Scope{Include: []string{"lab", "laptops", "g2"}, Exclude: []string{"twin", "laptops"}}, "scope.", &faults)
	if diff := cmp.Diff([]string{"g1", "g2"}, got.Include); diff != "" {
		t.Errorf("the ids of what is included, sorted, each once (-want +got):\n%s", diff)
	}
	want := fault.Fields{
		{Name: "scope.exclude_groups", Rule: `must have known groups only: 2 groups are called "twin"`},
		{Name: "scope.exclude_groups", Rule: `must not have group "laptops", which is also included`},
	}
	if diff := cmp.Diff(want, faults); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}
