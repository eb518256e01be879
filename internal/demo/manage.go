package demo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/lab/site"
	"interdict/internal/staging"
)

// scopedTag tags an app for one user, and then changes for whom in place.
func (st *story) scopedTag(ctx context.Context, n *notes) error {
	bob := st.person(userBob, hostInside)
	if err := st.adminWait(ctx, n, "app", "tag", appScoped, "unsanctioned", "--user", userBob); err != nil {
		return err
	}
	if err := st.fails(ctx, n, bob, urlScoped); err != nil {
		return err
	}
	if err := st.works(ctx, n, st.alice(), urlScoped); err != nil {
		return err
	}
	if err := st.adminWait(ctx, n, "app", "scope", appScoped, "--clear", "--user-group", "finance"); err != nil {
		return err
	}
	if err := st.fails(ctx, n, st.alice(), urlScoped); err != nil {
		return err
	}
	return st.works(ctx, n, bob, urlScoped)
}

// conflict gives the inside host a second policy of the same priority, with
// another mode.
func (st *story) conflict(ctx context.Context, n *notes) error {
	const second = "lenient"
	if _, err := st.admin(ctx, n, "policy", "create", second, "--network-protection", "audit"); err != nil {
		return err
	}
	if err := st.adminWait(ctx, n, "policy", "assign", second, "--include-group", groupInside); err != nil {
		return err
	}
	out, err := st.admin(ctx, n, "policy", "status", second)
	if err != nil {
		return err
	}
	n.saw("%s", out)
	if !strings.Contains(out, policyName) || !strings.Contains(out, "block") || !strings.Contains(out, "audit") {
		return fmt.Errorf("the status should show both policies with their values")
	}
	status, err := st.agent(ctx, n, hostInside, "status")
	if err != nil {
		return err
	}
	row := lineWith(status, settingProtection)
	n.saw("%s", row)
	if !strings.Contains(row, string(fleet.ModeBlock)) {
		return fmt.Errorf("the stricter value should be in force")
	}
	return st.adminWait(ctx, n, "policy", "delete", second, "--force")
}

// lineWith returns the first line that has a text in it.
func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// dropIn makes a setting by a file on the machine that no policy makes.
func (st *story) dropIn(ctx context.Context, n *notes) error {
	const setting = "bypass_protection"
	path := filepath.Join(st.site.PolicyDir(hostInside), "50-dns.yaml")
	n.did("on %s: echo 'settings: {%s: audit}' > %s", hostInside, setting, path)
	if err := os.WriteFile(path, []byte("settings: {"+setting+": audit}\n"), 0o600); err != nil {
		return err
	}
	if err := st.changed(ctx, n, setting, "audit", fleet.ChannelFile); err != nil {
		return err
	}
	status, err := st.agent(ctx, n, hostInside, "status")
	if err != nil {
		return err
	}
	n.saw("%s", lineWith(status, setting))
	n.did("on %s: rm %s", hostInside, path)
	if err := os.Remove(path); err != nil {
		return err
	}
	return st.changed(ctx, n, setting, "off", fleet.ChannelDefault)
}

// rollOut has one group try a tag out, whose connections then end the trial.
func (st *story) rollOut(ctx context.Context, n *notes) error {
	const stopAt = 2
	if err := st.adminWait(ctx, n, "app", "tag", appOnTrial, "unsanctioned", "--canary", groupInside, "--stop-at", fmt.Sprint(stopAt)); err != nil {
		return err
	}
	for i := range stopAt {
		if err := st.fails(ctx, n, st.alice(), fmt.Sprintf("https://cdn%d.discord.com/", i)); err != nil {
			return err
		}
	}
	if err := st.recorded(ctx, n, event.IDBlocked, st.alice(), appOnTrial); err != nil {
		return err
	}
	err := site.Until(ctx, func(ctx context.Context) error {
		var r staging.Rollout
		err := st.site.AdminShow(ctx, &r, "rollout", "show", appOnTrial)
		if err == nil && r.State != staging.StateStopped {
			return fmt.Errorf("the trial is in state %q", r.State)
		}
		return err
	})
	if err != nil {
		return err
	}
	out, err := st.admin(ctx, n, "rollout", "show", appOnTrial)
	if err != nil {
		return err
	}
	n.saw("%s", out)
	return eventually(ctx, n, func(ctx context.Context, n *notes) error {
		return st.works(ctx, n, st.alice(), "https://cdn0.discord.com/")
	})
}
