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

func TestScopesHaveSingleDevices(t *testing.T) {
	s := state()
	s.Devices["d1"] = audience.Device{Device: fleet.Device{ID: "d1", Name: "alice-pc"}}
	var faults fault.Fields
	got := find.Scope(s, indicator.Scope{Include: []string{"device:alice-pc", "lab", "device:d1"}, Exclude: []string{"device:bob-pc"}}, "", &faults)
	if diff := cmp.Diff([]string{"device:d1", "g2"}, got.Include); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(fault.Fields{{Name: "exclude_groups", Rule: `must have known groups only: there is no device "bob-pc"`}}, faults); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	for id, want := range map[string]string{"device:d1": "device:alice-pc", "device:d9": "device:d9", "g2": "lab", "g9": "g9"} {
		if got := find.Name(s, id); got != want {
			t.Errorf("%q is called %q, want %q", id, got, want)
		}
	}
}

func TestProfile(t *testing.T) {
	var faults fault.Fields
	got := find.Profile(state(), indicator.Profile{
		Scope:   indicator.Scope{Include: []string{"lab"}},
		People:  indicator.People{IncludeUsers: []string{"b", "a", "b"}, ExcludeUserGroups: []string{""}},
		Windows: []indicator.Window{{From: "8", To: "17:00"}},
	}, &faults)
	if !cmp.Equal(got.IncludeUsers, []string{"a", "b"}) || !cmp.Equal(got.Include, []string{"g2"}) {
		t.Errorf("got %+v, want each name once", got)
	}
	if len(faults) != 2 || faults[0].Name != "scope.exclude_user_groups" || faults[1].Name != "scope.windows" {
		t.Errorf("got faults %+v, want those of the user group and the window", faults)
	}
}
