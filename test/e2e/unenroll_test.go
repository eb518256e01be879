package e2e

import (
	"context"
	"errors"
	"testing"

	"interdict/internal/fleet"
)

func TestADeviceThatUnenrolsIsGoneAndLeavesNoRules(t *testing.T) {
	f := install(t)
	f.tag(t, app, "unsanctioned")
	f.relabel(t, "group="+group)
	f.mode(t, fleet.ModeBlock)
	const url = "https://unenrol.itunes.apple.com/"
	refused(t, "an enrolled device", f.curl(t, hostOutside, url))
	t.Cleanup(func() {
		ctx := context.Background()
		if err := errors.Join(f.site.Enroll(ctx, hostOutside, "group=none"), f.site.StartAgent(ctx, hostOutside), f.waitOnline(ctx, 2)); err != nil {
			t.Error(err)
		}
	})
	if _, err := f.site.Agent(t.Context(), hostOutside, "unenroll"); err != nil {
		t.Fatal(err)
	}
	says(t, "the answer about the device", f.fails(t, "device", "show", hostOutside), `no device "`+hostOutside+`"`)
	works(t, "a device no more", f.curl(t, hostOutside, url))
	if rules := f.run(t, hostOutside, "nft", "list", "ruleset"); rules.out != "" {
		t.Errorf("these rules are left:\n%s", rules.out)
	}
}
