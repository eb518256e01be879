package fleet_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

func policy(id string, priority int, mode fleet.Mode, fail fleet.FailMode, scope indicator.Scope) fleet.Policy {
	return fleet.Policy{
		ID: id, Priority: priority, Assigned: true, Assignment: scope,
		Settings: fleet.Settings{NetworkProtection: mode, FailMode: fail},
	}
}

func TestResolve(t *testing.T) {
	all := indicator.Scope{}
	for _, test := range []struct {
		name      string
		policies  []fleet.Policy
		mode      fleet.Mode
		fail      fleet.FailMode
		origins   string // of mode and fail mode
		conflicts []fleet.Conflict
	}{
		{"without a policy everything has its default", nil, fleet.ModeDisabled, fleet.FailOpen, " ", nil},
		{
			"each setting comes from the highest policy that makes it",
			[]fleet.Policy{policy("low", 1, fleet.ModeBlock, fleet.FailClosed, all), policy("high", 2, fleet.ModeAudit, "", all)},
			fleet.ModeAudit, fleet.FailClosed, "high low", nil,
		},
		{
			"an unassigned policy applies to nobody",
			[]fleet.Policy{{ID: "p", Settings: fleet.Settings{NetworkProtection: fleet.ModeBlock}}},
			fleet.ModeDisabled, fleet.FailOpen, " ", nil,
		},
		{
			"exclude beats include",
			[]fleet.Policy{policy("p", 1, fleet.ModeBlock, "", indicator.Scope{Include: []string{"g1"}, Exclude: []string{"g2"}})},
			fleet.ModeDisabled, fleet.FailOpen, " ", nil,
		},
		{
			"a policy for another group does not apply",
			[]fleet.Policy{policy("p", 1, fleet.ModeBlock, "", indicator.Scope{Include: []string{"g3"}})},
			fleet.ModeDisabled, fleet.FailOpen, " ", nil,
		},
		{
			"of equal priority the stricter wins, and the conflict is noted",
			[]fleet.Policy{policy("a", 1, fleet.ModeAudit, "", all), policy("b", 1, fleet.ModeBlock, "", all), policy("c", 1, fleet.ModeDisabled, "", all)},
			fleet.ModeBlock, fleet.FailOpen, "b ",
			[]fleet.Conflict{
				{Setting: fleet.SettingNetworkProtection, Policy: "b", Value: "block", Overruled: "a", OverruledValue: "audit", Priority: 1},
				{Setting: fleet.SettingNetworkProtection, Policy: "b", Value: "block", Overruled: "c", OverruledValue: "disabled", Priority: 1},
			},
		},
		{
			"policies of equal priority that agree are no conflict",
			[]fleet.Policy{policy("b", 1, fleet.ModeBlock, "", all), policy("a", 1, fleet.ModeBlock, "", all)},
			fleet.ModeBlock, fleet.FailOpen, "a ", nil,
		},
		{
			"a lower policy that differs is no conflict",
			[]fleet.Policy{policy("a", 2, fleet.ModeAudit, "", all), policy("b", 1, fleet.ModeBlock, "", all)},
			fleet.ModeAudit, fleet.FailOpen, "a ", nil,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := fleet.Resolve(test.policies, fleet.Target{Groups: []string{"g1", "g2"}})
			if got.Settings.NetworkProtection != test.mode || got.Settings.FailMode != test.fail {
				t.Errorf("settings %+v, want %s and %s", got.Settings, test.mode, test.fail)
			}
			origins := got.Origin[fleet.SettingNetworkProtection] + " " + got.Origin[fleet.SettingFailMode]
			if origins != test.origins {
				t.Errorf("origins %q, want %q", origins, test.origins)
			}
			if diff := cmp.Diff(test.conflicts, got.Conflicts); diff != "" {
				t.Errorf("conflicts (-want +got):\n%s", diff)
			}
		})
	}
}

func TestProgressCountsEachDeviceOnce(t *testing.T) {
	var r fleet.Progress
	for _, d := range []fleet.Device{
		{Desired: "new", Applied: fleet.Applied{Digest: "new"}, Online: true},
		{Desired: "new", Applied: fleet.Applied{Digest: "new"}}, // Offline, and up to date.
		{Desired: "new", Applied: fleet.Applied{Digest: "old"}, Online: true},
		{Desired: "new", Applied: fleet.Applied{Digest: "old"}},
		{Desired: "new", Applied: fleet.Applied{Digest: "old", Error: "no room"}, Online: true},
		{Online: true}, // Nothing compiled for it yet.
	} {
		r.Add(d.State())
	}
	if want := (fleet.Progress{Total: 6, Applied: 2, Pending: 2, Offline: 1, Failed: 1}); r != want {
		t.Errorf("got %+v, want %+v", r, want)
	}
}
