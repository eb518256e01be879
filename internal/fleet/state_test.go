package fleet_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/fleet"
)

// block is a policy of some priority that blocks, audit one that audits.
func block(priority int) fleet.Policy {
	return fleet.Policy{ID: "block", Assigned: true, Priority: priority, Settings: fleet.Settings{NetworkProtection: fleet.ModeBlock, FailMode: fleet.FailClosed}}
}

func audit(priority int) fleet.Policy {
	return fleet.Policy{ID: "audit", Assigned: true, Priority: priority, Settings: fleet.Settings{NetworkProtection: fleet.ModeAudit}}
}

func blockToo(priority int) fleet.Policy {
	p := block(priority)
	p.ID, p.CreatedAt = "too", p.CreatedAt.Add(time.Hour)
	return p
}

func TestPolicyStatus(t *testing.T) {
	current := func(settings ...fleet.SettingReport) fleet.Device {
		return fleet.Device{OS: "linux", Online: true, Desired: "d", Applied: fleet.Applied{Digest: "d", Settings: settings}}
	}
	conflict := []fleet.Conflict{{
		Setting: fleet.SettingNetworkProtection, Policy: "block", Value: "block", Overruled: "audit", OverruledValue: "audit",
	}}
	network := func(state fleet.SettingState, s fleet.Standing) fleet.SettingStatus {
		s.Setting, s.Value, s.Policy = fleet.SettingNetworkProtection, "block", "block"
		return fleet.SettingStatus{Standing: s, State: state}
	}
	for _, test := range []struct {
		name     string
		device   fleet.Device
		policies []fleet.Policy
		of       fleet.Policy
		want     fleet.SettingState
		first    fleet.SettingStatus
	}{
		{"the device enforces it", current(), []fleet.Policy{block(0)}, block(0), fleet.SettingApplied, network(fleet.SettingApplied, fleet.Standing{})},
		{
			"the device is at it",
			fleet.Device{Online: true, Desired: "d", Applied: fleet.Applied{Digest: "old"}},
			[]fleet.Policy{block(0)},
			block(0), fleet.SettingPending, network(fleet.SettingPending, fleet.Standing{}),
		},
		{
			"the device is away, which a conflict does not hide",
			fleet.Device{Desired: "d"},
			[]fleet.Policy{block(0), audit(0)},
			block(0), fleet.SettingOffline, network(fleet.SettingOffline, fleet.Standing{Conflicts: conflict}),
		},
		{
			"the device is away, and has it",
			fleet.Device{Desired: "d", Applied: fleet.Applied{Digest: "d"}},
			[]fleet.Policy{block(0)},
			block(0), fleet.SettingApplied, network(fleet.SettingApplied, fleet.Standing{}),
		},
		{
			"the device cannot take the bundle",
			fleet.Device{Online: true, Desired: "d", Applied: fleet.Applied{Error: "no nftables"}},
			[]fleet.Policy{block(0)},
			block(0), fleet.SettingFailed,
			fleet.SettingStatus{Standing: fleet.Standing{Setting: fleet.SettingNetworkProtection, Value: "block", Policy: "block"}, State: fleet.SettingFailed, Text: "no nftables"},
		},
		{
			"the device says that the value waits, and why",
			current(fleet.SettingReport{
				Setting: fleet.SettingNetworkProtection, Value: "disabled", Channel: fleet.ChannelDefault, State: fleet.SettingPending, Text: "rescue",
			}),
			[]fleet.Policy{block(0)},
			block(0), fleet.SettingPending,
			fleet.SettingStatus{
				Standing: fleet.Standing{Setting: fleet.SettingNetworkProtection, Value: "block", Policy: "block"}, State: fleet.SettingPending,
				Text: "rescue", InForce: "disabled", Channel: fleet.ChannelDefault,
			},
		},
		{
			"one setting of two failed", current(fleet.SettingReport{Setting: fleet.SettingFailMode, Value: "open", Channel: fleet.ChannelDefault, State: fleet.SettingFailed, Text: "no"}),
			[]fleet.Policy{block(0)},
			block(0), fleet.SettingFailed, network(fleet.SettingApplied, fleet.Standing{}),
		},
		{
			"what the device tells of the channel is no fault",
			current(fleet.SettingReport{Setting: fleet.SettingNetworkProtection, Value: "block", Channel: fleet.ChannelServer, State: fleet.SettingApplied}),
			[]fleet.Policy{block(0)},
			block(0), fleet.SettingApplied,
			fleet.SettingStatus{
				Standing: fleet.Standing{Setting: fleet.SettingNetworkProtection, Value: "block", Policy: "block"},
				State:    fleet.SettingApplied, InForce: "block", Channel: fleet.ChannelServer,
			},
		},
		{
			"the stricter side of a conflict", current(),
			[]fleet.Policy{block(0), audit(0)},
			block(0),
			fleet.SettingConflict, network(fleet.SettingConflict, fleet.Standing{Conflicts: conflict}),
		},
		{
			"the side of a conflict that is overruled", current(),
			[]fleet.Policy{block(0), audit(0)},
			audit(0),
			fleet.SettingConflict, network(fleet.SettingConflict, fleet.Standing{Conflicts: conflict, Refused: "audit"}),
		},
		{
			"another policy goes before", current(),
			[]fleet.Policy{block(1), audit(0)},
			audit(0),
			fleet.SettingNotApplicable, network(fleet.SettingNotApplicable, fleet.Standing{Refused: "audit"}),
		},
		{
			"another policy goes before with the same value", current(),
			[]fleet.Policy{block(1), blockToo(0)},
			blockToo(0),
			fleet.SettingApplied, network(fleet.SettingApplied, fleet.Standing{}),
		},
		{
			"another policy of the same priority wants the same, and a third does not", current(),
			[]fleet.Policy{block(0), blockToo(0), audit(0)},
			blockToo(0),
			fleet.SettingConflict, network(fleet.SettingConflict, fleet.Standing{Conflicts: conflict}),
		},
		{
			"a policy of lower priority wants what won over another", current(),
			[]fleet.Policy{block(0), blockToo(-1), audit(0)},
			blockToo(-1),
			fleet.SettingApplied, network(fleet.SettingApplied, fleet.Standing{}),
		},
		{
			"on trial, the value is another one of the same policy", current(),
			[]fleet.Policy{block(0)},
			fleet.Policy{ID: "block", Assigned: true, Settings: fleet.Settings{NetworkProtection: fleet.ModeAudit}},
			fleet.SettingApplied, network(fleet.SettingApplied, fleet.Standing{}),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := fleet.Resolve(test.policies, fleet.Target{OS: "linux"})
			state, settings := test.device.PolicyStatus(&test.of, e.StandingsOf(&test.of))
			if state != test.want || len(settings) == 0 {
				t.Fatalf("got %s and %+v, want %s", state, settings, test.want)
			}
			if diff := cmp.Diff(test.first, settings[0]); diff != "" {
				t.Errorf("the first setting (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAPolicyForAnotherSystemIsNotApplicable(t *testing.T) {
	p := block(0)
	p.Platforms = []string{"windows"}
	d := fleet.Device{OS: "linux", Online: true, Desired: "d", Applied: fleet.Applied{Digest: "d"}}
	e := fleet.Resolve([]fleet.Policy{p}, fleet.Target{OS: "linux"})
	state, settings := d.PolicyStatus(&p, e.StandingsOf(&p))
	if state != fleet.SettingNotApplicable || len(settings) != 2 || settings[0].Text == "" || settings[0].Refused != "" {
		t.Errorf("got %s and %+v, want it not applicable, with a reason", state, settings)
	}
}

func TestAPolicyWithoutSettingsIsAsTheDeviceIs(t *testing.T) {
	p := fleet.Policy{ID: "empty", Assigned: true}
	d := fleet.Device{Online: true, Desired: "d"}
	if state, settings := d.PolicyStatus(&p, nil); state != fleet.SettingPending || settings != nil {
		t.Errorf("got %s and %+v, want it pending", state, settings)
	}
}

func TestStandingsHaveEverySetting(t *testing.T) {
	e := fleet.Resolve([]fleet.Policy{audit(0)}, fleet.Target{})
	all := e.Standings()
	if len(all) != len(fleet.Definitions()) {
		t.Fatalf("got %d settings, want %d", len(all), len(fleet.Definitions()))
	}
	if want := (fleet.Standing{Setting: fleet.SettingNetworkProtection, Value: "audit", Policy: "audit"}); !cmp.Equal(all[0], want) {
		t.Errorf("got %+v, want %+v", all[0], want)
	}
	d := fleet.Device{Desired: "d", Applied: fleet.Applied{Digest: "d", Settings: []fleet.SettingReport{
		{Setting: fleet.SettingAppControl, Value: "block", Channel: fleet.ChannelFile, State: fleet.SettingApplied},
	}}}
	if got := d.Status(all[1]); got.State != fleet.SettingApplied || got.InForce != "block" || got.Channel != fleet.ChannelFile {
		t.Errorf("got %+v, want what the drop-in file made", got)
	}
}

func TestAValueIsHeldUntilItOrItsOriginChanges(t *testing.T) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	local := fleet.SettingReport{Setting: fleet.SettingNetworkProtection, Value: "block", Channel: fleet.ChannelLocal, State: fleet.SettingApplied}
	var held map[string]fleet.Held
	for i, step := range []struct {
		name     string
		policies []fleet.Policy
		reports  []fleet.SettingReport
		want     uint64
	}{
		{"it is first in force", []fleet.Policy{audit(0)}, nil, 1},
		{"another policy makes another setting", []fleet.Policy{audit(0), {ID: "other", Assigned: true, Settings: fleet.Settings{FailMode: fleet.FailClosed}}}, nil, 1},
		{"the value changes", []fleet.Policy{block(1), audit(0)}, nil, 3},
		{"the same value comes from the device", nil, []fleet.SettingReport{local}, 4},
		{"nothing changes", nil, []fleet.SettingReport{local}, 4},
		{"the same value comes from a policy again", []fleet.Policy{block(0)}, nil, 6},
	} {
		e := fleet.Resolve(step.policies, fleet.Target{})
		a := fleet.Applied{Version: uint64(i) + 1, At: noon.Add(time.Duration(i) * time.Hour), Digest: "d", Settings: step.reports}
		a.Hold(&e, held)
		held = a.Held
		d := fleet.Device{Online: true, Desired: "d", Applied: a}
		got := d.Status(e.Standings()[0])
		if want := noon.Add(time.Duration(step.want-1) * time.Hour); got.Version != step.want || !got.Since.Equal(want) {
			t.Errorf("when %s, it is held since version %d at %v, want %d at %v", step.name, got.Version, got.Since, step.want, want)
		}
	}
	gone := fleet.Device{Desired: "new", LastSeen: noon, Applied: fleet.Applied{Held: held}}
	if got := gone.Status(fleet.Standing{Setting: fleet.SettingNetworkProtection}); got.State != fleet.SettingOffline || !got.Since.Equal(noon) {
		t.Errorf("got %+v, want it offline since noon", got)
	}
}

func TestStateCountsCountEachOnce(t *testing.T) {
	var c fleet.StateCounts
	for _, s := range append(fleet.SettingStates(), fleet.SettingApplied) {
		c.Add(s)
	}
	want := fleet.StateCounts{Total: 7, Applied: 2, Pending: 1, Offline: 1, Failed: 1, Conflict: 1, NotApplicable: 1}
	if c != want || c.Concerned() != 6 {
		t.Errorf("got %+v of %d, want %+v of 6", c, c.Concerned(), want)
	}
}

func TestDifferences(t *testing.T) {
	before, after := audit(0), block(4)
	before.Name, after.Name = "a", "b"
	after.Settings.FailMode, before.Settings.FailMode = "", fleet.FailClosed
	after.Assignment.Include, after.Platforms = []string{"g2", "g1"}, []string{"linux"}
	want := []fleet.Difference{
		{Field: "name", Before: "a", After: "b"},
		{Field: "settings.network_protection", Before: "audit", After: "block"},
		{Field: "settings.fail_mode", Before: "closed"},
		{Field: "assignment.include_groups", After: "g1, g2"},
		{Field: "platforms", After: "linux"},
		{Field: "priority", After: "4"},
	}
	if diff := cmp.Diff(want, fleet.Differences(&before, &after)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := fleet.Differences(&after, &after); len(got) != 0 {
		t.Errorf("a policy differs from itself in %v", got)
	}
}
