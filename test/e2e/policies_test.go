package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"

	"interdict/internal/event"
	"interdict/internal/fleet"
)

// every is another value than the default's for every setting.
func every() map[string]string {
	return map[string]string{
		fleet.SettingNetworkProtection:   "block",
		fleet.SettingAppControl:          "audit",
		fleet.SettingBypassProtection:    "audit",
		fleet.SettingFailMode:            "closed",
		fleet.SettingGatewayMode:         "on",
		fleet.SettingNotifications:       "off",
		fleet.SettingNotificationText:    "{app} is refused. Ask {contact}.",
		fleet.SettingSupportContact:      "the help desk",
		fleet.SettingSupportURL:          "https://help.example/",
		fleet.SettingWarnBypassDuration:  "30m",
		fleet.SettingBypassReason:        "required",
		fleet.SettingEventUploadInterval: "2s",
		fleet.SettingUsageReporting:      "off",
	}
}

func TestEverySettingOfAPolicyReachesTheDeviceAndLeavesWithIt(t *testing.T) {
	f := install(t)
	want := every()
	for _, d := range fleet.Definitions() {
		if want[d.Name] == "" {
			t.Errorf("the setting %s is not tested", d.Name)
		}
	}
	create := []string{"--priority", "10"}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		create = append(create, "--"+strings.ReplaceAll(name, "_", "-"), want[name])
	}
	before := f.settingsOf(t)
	seen := f.seenEvents(t)
	f.policy(t, "every", create...)
	for name, value := range want {
		if got := f.settingsOf(t)[name]; got.Value != value || got.Channel != string(fleet.ChannelServer) {
			t.Errorf("the setting %s should be %q by the server and is %+v", name, value, got)
		}
	}
	id := f.policyID(t, "every")
	changed := f.changesBy(t, seen)
	for name, value := range want {
		if got, want := changed[name], (change{before[name].Value, value, "server", id}); got != want {
			t.Errorf("5007 for %s says %+v, want %+v", name, got, want)
		}
	}

	// Nothing stays behind; what the next policy in line sets comes from it.
	seen = f.seenEvents(t)
	f.admin(t, "policy", "delete", "every", "--force", "--wait")
	if after := f.settingsOf(t); !maps.Equal(after, before) {
		t.Errorf("before the policy the settings were\n%v\nand after it\n%v", before, after)
	}
	changed = f.changesBy(t, seen)
	standard := change{"block", "audit", "server", f.policyID(t, policy)}
	if got := changed[fleet.SettingNetworkProtection]; got != standard {
		t.Errorf("5007 for the mode says %+v, want %+v", got, standard)
	}
	if got, want := changed[fleet.SettingSupportContact], (change{"the help desk", "", "default", ""}); got != want {
		t.Errorf("5007 for the contact says %+v, want %+v", got, want)
	}
}

// settingsOf are anna's settings by name, as her agent's status has them.
func (f *fixture) settingsOf(t *testing.T) map[string]setting {
	t.Helper()
	s, err := f.status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]setting, len(s.Settings))
	for _, one := range s.Settings {
		all[one.Setting] = one
	}
	return all
}

// policyID is the id of the policy with a name.
func (f *fixture) policyID(t *testing.T, name string) string {
	t.Helper()
	var p fleet.Policy
	if err := f.site.AdminShow(t.Context(), &p, "policy", "show", name); err != nil {
		t.Fatal(err)
	}
	return p.ID
}

// change is what a 5007 event says of a setting.
type change struct{ before, now, channel, policy string }

// seenEvents are the ids of the events in anna's log. Their order is no help:
// one that is written again moves on.
func (f *fixture) seenEvents(t *testing.T) map[string]bool {
	t.Helper()
	all, err := f.site.Events(t.Context(), hostInside)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool, len(all))
	for _, e := range all {
		seen[e.ID] = true
	}
	return seen
}

// changesBy are what anna's 5007 events that were not seen before say, by
// setting.
func (f *fixture) changesBy(t *testing.T, seen map[string]bool) map[string]change {
	t.Helper()
	all, err := f.site.Events(t.Context(), hostInside)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]change)
	for _, e := range all {
		if e.EventID == event.IDConfigChanged && !seen[e.ID] {
			found[e.Change.Setting] = change{e.Change.Old, e.Change.New, e.Change.Channel, e.PolicyID}
		}
	}
	return found
}

func TestExcludeBeatsIncludeAndPriorityAndPlatformDecide(t *testing.T) {
	f := install(t)
	f.tag(t, app, "unsanctioned")
	f.policy(t, "strict", "--network-protection", "block", "--priority", "5")
	f.group(t, "spared", "--member", hostInside)
	f.after(t, "policy", "assign", "strict", "--all-devices")
	const host = "merge.itunes.apple.com"
	for i, step := range []struct {
		what    string
		change  []string
		refused bool
	}{
		{"the higher priority", nil, true},
		{"in a group that is excluded", []string{"assign", "strict", "--include-group", group, "--exclude-group", "spared"}, false},
		{"in a group that is included", []string{"assign", "strict", "--include-group", group}, true},
		{"with another operating system", []string{"set", "strict", "--platform", "windows"}, false},
		{"with this operating system", []string{"set", "strict", "--platform", "linux"}, true},
		{"the lower priority", []string{"set", "strict", "--priority", "-1"}, false},
	} {
		if step.change != nil {
			f.admin(t, append(append([]string{"policy"}, step.change...), "--wait")...)
		}
		r := f.curl(t, hostInside, fmt.Sprintf("https://a%d.%s/", i, host))
		if step.refused {
			refused(t, step.what, r)
		} else {
			works(t, step.what, r)
		}
	}
	says(t, "the list of policies", f.admin(t, "policy", "list"), "strict", policy)
	says(t, "the history", f.admin(t, "policy", "history", "strict"),
		"priority 5 -> -1", "platforms windows -> linux", "assignment.exclude_groups spared -> none")
	var p fleet.Policy
	if err := f.site.AdminShow(t.Context(), &p, "policy", "show", "strict"); err != nil {
		t.Fatal(err)
	}
	if p.Version != 7 {
		t.Errorf("after six changes the policy has version %d", p.Version)
	}
}

func TestOfTwoPoliciesOfThePriorityTheStricterCountsAndTheConflictIsShown(t *testing.T) {
	f := install(t)
	f.tag(t, app, "unsanctioned")
	f.policy(t, "rival", "--network-protection", "block")
	refused(t, "under audit and block", f.curl(t, hostInside, "https://conflict.itunes.apple.com/"))

	for _, name := range []string{policy, "rival"} {
		says(t, "the status of "+name, f.admin(t, "policy", "status", name),
			"1 in conflict", "network_protection is block by rival, and audit by "+policy)
		says(t, "policy "+name, f.admin(t, "policy", "show", name), "network_protection: block by rival, audit by "+policy+", on 1 device")
	}
	says(t, "the device", f.admin(t, "device", "show", hostInside), "conflict", "block by rival, audit by "+policy)

	f.admin(t, "policy", "set", "rival", "--priority", "-1", "--wait")
	works(t, "under audit alone", f.curl(t, hostInside, "https://settled.itunes.apple.com/"))
	for _, command := range [][]string{{"policy", "status", policy}, {"policy", "status", "rival"}, {"device", "show", hostInside}} {
		out := f.admin(t, command...)
		lacks(t, "what interdict "+strings.Join(command, " ")+" prints", out, "conflict")
	}
}

// policyStates is what "policy status --state all" has.
type policyStates struct {
	Counts  fleet.StateCounts
	Devices []struct {
		Name  string
		State fleet.SettingState
	}
}

// waitState waits until a device has come so far with the shared policy, and
// returns what people are told.
func (f *fixture) waitState(t *testing.T, host string, want fleet.SettingState) string {
	t.Helper()
	until(t, host+" is "+string(want), func(ctx context.Context) error {
		var s policyStates
		if err := f.site.AdminShow(ctx, &s, "policy", "status", policy, "--state", "all"); err != nil {
			return err
		}
		for _, d := range s.Devices {
			if d.Name == host && d.State == want {
				return nil
			}
		}
		return fmt.Errorf("got %+v", s)
	})
	return f.admin(t, "policy", "status", policy)
}

func TestEveryStateOfAPolicyOnADeviceIsShown(t *testing.T) {
	f := install(t)
	f.relabel(t, "group="+group)
	says(t, "applied", f.waitState(t, hostOutside, fleet.SettingApplied), policy+": applied on 2 of 2 devices, in ")
	synced := f.admin(t, "device", "sync", hostOutside)
	says(t, "the answer of sync", synced, hostOutside+" enforces version ", "network protection audit, in ")

	// An agent that is connected and does nothing.
	pid := f.site.AgentPID(hostOutside)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	f.admin(t, "policy", "set", policy, "--support-contact", "somebody")
	f.after(t, "policy", "set", policy, "--unset", "support-contact", "--wait")
	f.waitState(t, hostOutside, fleet.SettingPending)
	says(t, "pending", f.waitState(t, hostInside, fleet.SettingApplied), "applied on 1 of 2 devices", "; 1 pending")
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	f.waitState(t, hostOutside, fleet.SettingApplied)

	f.settings(t, "--app-control=audit")
	says(t, "app control", f.admin(t, "device", "show", hostOutside), "app_control", "not_applicable")

	f.leave(t, hostOutside)
	f.admin(t, "policy", "set", policy, "--support-contact", "nobody")
	f.waitState(t, hostOutside, fleet.SettingOffline)
	says(t, "offline", f.waitState(t, hostInside, fleet.SettingApplied), "applied on 1 of 2 devices", "; 1 offline", "offline since 20")
	says(t, "the answer of sync", f.fails(t, "device", "sync", hostOutside), "exit status 1", "is not connected")
}

func TestADeviceThatEnforcesNothingAnyMoreIsAnError(t *testing.T) {
	f := install(t)
	f.relabel(t, "group="+group)
	f.rescue(t, hostOutside)
	says(t, "the error", f.waitState(t, hostOutside, fleet.SettingFailed), "applied on 1 of 2 devices", "; 1 with an error", "rescue")
}

// rescue takes all rules of a host's agent away until the test ends.
func (f *fixture) rescue(t *testing.T, host string) {
	t.Helper()
	if _, err := f.site.Agent(t.Context(), host, "rescue"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		if _, err := f.site.Agent(ctx, host, "sync"); err != nil {
			t.Error(err)
		}
		if err := f.waitOnline(ctx, 2); err != nil {
			t.Error(err)
		}
	})
}
