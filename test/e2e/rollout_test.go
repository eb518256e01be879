package e2e

import (
	"context"
	"fmt"
	"testing"

	"interdict/internal/fleet"
	"interdict/internal/staging"
)

// canary is the group that tries changes out.
const canary = "canary"

// installCanary is install with both devices under the policy, and anna alone
// in the canary.
func installCanary(t *testing.T) *fixture {
	t.Helper()
	f := install(t)
	f.relabel(t, "group="+group)
	f.group(t, canary, "--member", hostInside)
	return f
}

// newestRollout is the one that began last.
func (f *fixture) newestRollout(ctx context.Context) (staging.Rollout, error) {
	var all []staging.Rollout
	if err := f.site.AdminList(ctx, &all, "rollout", "list"); err != nil {
		return staging.Rollout{}, err
	}
	if len(all) == 0 {
		return staging.Rollout{}, fmt.Errorf("there are no rollouts")
	}
	return all[0], nil
}

// expectState fails the test unless the newest rollout is in a state.
func (f *fixture) expectState(t *testing.T, want staging.State) {
	t.Helper()
	if r, err := f.newestRollout(t.Context()); err != nil || r.State != want {
		t.Errorf("the rollout is in state %q, %v; want %q", r.State, err, want)
	}
}

func TestATrialThatRefusesTooMuchIsStoppedAndTheCanaryHasTheOldPolicyAgain(t *testing.T) {
	f := installCanary(t)
	f.tag(t, app, "unsanctioned")
	const url = "https://canary.itunes.apple.com/"
	f.admin(t, "policy", "set", policy, "--network-protection", "block", "--canary", canary, "--stop-at", "10", "--wait")
	refused(t, "the canary", f.curl(t, hostInside, url))
	works(t, "a device that is not in it", f.curl(t, hostOutside, url))
	f.expectState(t, staging.StateTrial)
	says(t, "the trial", f.admin(t, "rollout", "show", policy), "audit", "block", canary)

	refusal := f.fails(t, "policy", "set", policy, "--support-contact", "somebody")
	says(t, "the refusal to change a policy on trial", refusal, "on trial", "interdict rollout ")

	until(t, "the trial is stopped", func(ctx context.Context) error {
		_ = f.curl(t, hostInside, url)
		r, err := f.newestRollout(ctx)
		if err == nil && r.State != staging.StateStopped {
			err = fmt.Errorf("it is in state %s", r.State)
		}
		return err
	})
	says(t, "the trial that was stopped", f.admin(t, "rollout", "show", policy), "stopped", "refused", "10")
	until(t, "the canary has the old value", func(ctx context.Context) error {
		d, err := f.device(ctx, hostInside)
		if err == nil && d.Applied.Mode != fleet.ModeAudit {
			err = fmt.Errorf("it has %s", d.Applied.Mode)
		}
		return err
	})
	works(t, "the canary after the trial", f.curl(t, hostInside, "https://after.canary.itunes.apple.com/"))
	if got := f.settingsOf(t)[fleet.SettingNetworkProtection].Value; got != "audit" {
		t.Errorf("the canary's own status has %q", got)
	}
}

func TestATrialThatIsAdvancedReachesAllAndIsUndoneForAll(t *testing.T) {
	f := installCanary(t)
	f.tag(t, app, "unsanctioned")
	const host = ".advance.itunes.apple.com/"
	f.admin(t, "policy", "set", policy, "--network-protection", "block", "--canary", canary, "--wait")
	refused(t, "the canary", f.curl(t, hostInside, "https://a"+host))
	works(t, "a device that is not in it", f.curl(t, hostOutside, "https://a"+host))

	f.admin(t, "rollout", "advance", policy, "--wait")
	f.expectState(t, staging.StateDone)
	refused(t, "the canary, when all have it", f.curl(t, hostInside, "https://b"+host))
	refused(t, "the other device, when all have it", f.curl(t, hostOutside, "https://b"+host))
	says(t, "the refusal to stop what is done", f.fails(t, "rollout", "stop", policy), "rollout undo")

	f.admin(t, "rollout", "undo", policy, "--wait")
	f.expectState(t, staging.StateUndone)
	works(t, "the canary, when it is undone", f.curl(t, hostInside, "https://c"+host))
	works(t, "the other device, when it is undone", f.curl(t, hostOutside, "https://c"+host))
	says(t, "the audit log", f.admin(t, "audit-log", "list"), "rollout.start", "rollout.advance", "rollout.undo")
}

func TestATagIsTriedOutToo(t *testing.T) {
	f := installCanary(t)
	f.mode(t, fleet.ModeBlock)
	const url = "https://discord.com/"
	f.admin(t, "app", "tag", "discord", "unsanctioned", "--canary", canary, "--wait")
	refused(t, "the canary", f.curl(t, hostInside, url))
	works(t, "a device that is not in it", f.curl(t, hostOutside, url))
	says(t, "the refusal to tag an app on trial", f.fails(t, "app", "tag", "discord", "monitored"), "on trial")
	says(t, "the list of rollouts", f.admin(t, "rollout", "list"), "Discord", canary, "trial")

	f.admin(t, "rollout", "stop", "discord", "--wait")
	f.expectState(t, staging.StateStopped)
	works(t, "the canary, after it was stopped", f.curl(t, hostInside, url))
}
