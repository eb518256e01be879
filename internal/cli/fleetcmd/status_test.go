package fleetcmd

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/fleet"
)

func TestTheValueIsTheOneInForce(t *testing.T) {
	status := func(s fleet.SettingStatus) settingView {
		s.Setting = fleet.SettingNetworkProtection
		return settingView{SettingStatus: s}
	}
	named := func(v settingView) settingView {
		v.Policy, v.PolicyName = "01J", "base"
		return v
	}
	decided := fleet.Standing{Value: "disabled"}
	for _, tt := range []struct {
		name string
		view settingView
		want []string
	}{
		{"as decided by nobody", status(fleet.SettingStatus{Standing: decided}), []string{"disabled", "default", "", ""}},
		{"as decided by a policy", named(status(fleet.SettingStatus{Standing: decided})), []string{"disabled", "base", "", ""}},
		{
			"set on the device where no policy makes it",
			status(fleet.SettingStatus{Standing: decided, InForce: "block", Channel: fleet.ChannelLocal}),
			[]string{"block", "local", "disabled decided by default", "block in force by local"},
		},
		{
			"set on the device to what is decided",
			status(fleet.SettingStatus{Standing: decided, InForce: "disabled", Channel: fleet.ChannelFile}),
			[]string{"disabled", "file", "", ""},
		},
		{
			"not what the policy says, because it failed",
			named(status(fleet.SettingStatus{Standing: decided, InForce: "audit", Channel: fleet.ChannelDefault, Text: "no kernel"})),
			[]string{"audit", "default", "disabled decided by base, no kernel", "audit in force by default, no kernel"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := &tt.view
			if diff := cmp.Diff(tt.want, []string{v.inForce(), v.from(), v.noted(v.decided()), v.note()}); diff != "" {
				t.Errorf("value, source, note on the device, note elsewhere (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheListShowsTheModeInForce(t *testing.T) {
	v := deviceView{Effective: fleet.Effective{Settings: fleet.Settings{NetworkProtection: fleet.ModeDisabled}}}
	cell := func(v deviceView) string {
		for _, c := range deviceColumns() {
			if c.Head == fleet.SettingNetworkProtection {
				return c.Cell(v)
			}
		}
		return "no column"
	}
	if got := cell(v); got != "disabled" {
		t.Errorf("got %s of a device that has said nothing, want what was decided", got)
	}
	v.Applied.Settings = []fleet.SettingReport{{Setting: fleet.SettingNetworkProtection, Value: "block", Channel: fleet.ChannelLocal, State: fleet.SettingApplied}}
	if got := cell(v); got != "block" {
		t.Errorf("got %s, want what was set on the device", got)
	}
}
