package explain

import (
	"cmp"
	"fmt"

	"interdict/internal/fleet"
)

func (b *builder) policy() Link {
	e := &b.Policies.Effective
	mode := e.Settings.NetworkProtection
	origin := e.Origin[fleet.SettingNetworkProtection]
	name := b.policyName(origin)
	set := "interdict policy set " + Quote(name) + " --network-protection block"
	if t := b.Policies.Trial; t != nil && mode != fleet.ModeBlock && !b.inCanary(t) && t.AfterPolicy.Settings.NetworkProtection == fleet.ModeBlock {
		return broken(LinkPolicy, "interdict rollout advance "+t.ID,
			"policy %s becomes block, which is on trial in %s; this device is not in it", t.AfterPolicy.Name, b.canary(t))
	}
	switch {
	case mode == fleet.ModeBlock:
		return holds(LinkPolicy, "policy %s sets network protection to block%s%s", name, b.onTrial(origin), b.conflict(e))
	case mode == fleet.ModeAudit:
		return broken(LinkPolicy, set, "policy %s sets network protection to audit%s: connections are recorded, not refused%s", name, b.onTrial(origin), b.conflict(e))
	case origin != "" && len(b.Policies.Missed) > 0:
		m := b.Policies.Missed[0]
		return broken(LinkPolicy, set, "policy %s disables network protection; policy %s does not count, because %s", name, m.Name, m.Why)
	case origin != "":
		return broken(LinkPolicy, set, "policy %s disables network protection%s%s", name, b.onTrial(origin), b.conflict(e))
	case b.local(fleet.SettingNetworkProtection) != "":
		return unknown(LinkPolicy, "no policy of the server sets network protection here; the device has it from its own %s", b.local(fleet.SettingNetworkProtection))
	case len(b.Policies.Missed) > 0:
		m := b.Policies.Missed[0]
		return broken(LinkPolicy, m.Fix, "no policy that turns network protection on reaches the device: %s does not, because %s", m.Name, m.Why)
	default:
		return broken(LinkPolicy, "interdict policy create NAME --network-protection block", "no policy turns network protection on: it is disabled")
	}
}

func (b *builder) policyName(id string) string {
	if b.Policies.Name == nil {
		return id
	}
	return cmp.Or(b.Policies.Name(id), id)
}

// onTrial says that a policy is as it is because it is on trial here.
func (b *builder) onTrial(id string) string {
	t := b.Policies.Trial
	if t == nil || t.AfterPolicy.ID != id || !b.inCanary(t) {
		return ""
	}
	return fmt.Sprintf(" (on trial in %s since %s)", b.canary(t), moment(t.StartedAt))
}

// local is the channel by which the device has a setting from itself; empty
// if it has it from the server or by default.
func (b *builder) local(setting string) fleet.Channel {
	reports := b.Device.Applied.Settings
	if b.live() {
		reports = b.Answer.Settings
	}
	for _, r := range reports {
		if r.Setting == setting && r.Channel != fleet.ChannelServer && r.Channel != fleet.ChannelDefault {
			return r.Channel
		}
	}
	return ""
}

func (b *builder) conflict(e *fleet.Effective) string {
	for _, c := range e.Conflicts {
		if c.Setting == fleet.SettingNetworkProtection {
			return fmt.Sprintf(" (in conflict with policy %s of the same priority, which says %s: the stricter is in force)",
				b.policyName(c.Overruled), c.OverruledValue)
		}
	}
	return ""
}
