package agent

import (
	"cmp"
	"fmt"

	"interdict/internal/agent/channel"
	"interdict/internal/bundle"
	"interdict/internal/fleet"
)

// noAppControl is why app control cannot be what it is to be.
const noAppControl = "this agent cannot stop programs from starting"

// Setting is a setting as it is in force, and how that came about.
type Setting struct {
	channel.Value
	// PolicyName is what the policy of Source is called; empty if the value
	// is not a policy's.
	PolicyName string             `json:"policy_name,omitempty"`
	State      fleet.SettingState `json:"state"`
	// Text says why, where the state is not applied.
	Text string `json:"text,omitempty"`
	// Set is what "interdict-agent set" says, whether or not it counts; nil
	// for nothing.
	Set *string `json:"set,omitempty"`
}

// reportAll returns every setting: as it is in force, or why it is not
// what it is to be. Settings that policies make and this build does not know
// come last.
func (e *enforcer) reportAll() []Setting {
	e.mu.Lock()
	desired, waits := e.desired(), e.waits()
	server, _ := channel.FromBundle(e.said.server.Set)
	e.mu.Unlock()
	failed := e.failed.Load()
	inForce := desired
	if failed != nil || waits != "" {
		inForce = channel.Merge(channel.Said{})
		if c := e.current.Load(); c != nil {
			inForce = c.settings
		}
	}
	all := make([]Setting, 0, len(desired.Values))
	for i, v := range inForce.Values {
		s := Setting{Value: v, State: fleet.SettingApplied}
		switch next := desired.Values[i].Value; {
		case waits != "" && v.Value != next:
			s.State, s.Text = fleet.SettingPending, fmt.Sprintf("%s waits: %s", shown(next), waits)
		case failed != nil && v.Value != next:
			s.State, s.Text = fleet.SettingFailed, fmt.Sprintf("%s could not be put into force: %v", shown(next), failed.cause)
		case v.Setting == fleet.SettingAppControl && v.Value != string(fleet.ModeDisabled):
			s.State, s.Text = fleet.SettingNotApplicable, noAppControl
		case v.Setting == fleet.SettingNetworkProtection && e.deaf.Load():
			s.State, s.Text = fleet.SettingFailed, "connections are not inspected, only addresses are refused: nobody can read the packet queues"
		}
		all = append(all, s)
	}
	for _, v := range server.Unknown() {
		all = append(all, Setting{Value: v, State: fleet.SettingNotApplicable, Text: "this version of the agent does not know the setting"})
	}
	return all
}

// shown is a value in a sentence.
func shown(value string) string { return cmp.Or(value, "nothing") }

// report is what the server is told of settings: those that are not as it
// asked, and those that it did not ask for.
func (e *enforcer) report() []fleet.SettingReport {
	var reports []fleet.SettingReport
	for _, s := range e.reportAll() {
		if s.State == fleet.SettingApplied && (s.Channel == fleet.ChannelServer || s.Channel == fleet.ChannelDefault) {
			continue
		}
		reports = append(reports, fleet.SettingReport{
			Setting: s.Setting, Value: s.Value.Value, Channel: s.Channel, State: s.State, Text: s.Text,
		})
	}
	return reports
}

// policyNames returns the names of the policies that settings come from, by
// id.
func (e *enforcer) policyNames() map[string]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	names := make(map[string]string)
	for r := range e.said.server.Set.OfKind(bundle.KindPolicy) {
		if r.Err == nil {
			names[r.Key] = r.Value
		}
	}
	return names
}
