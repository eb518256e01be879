package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/fleet"
)

// used says who uses an app, as a dry run does.
type used struct {
	Devices, InScope                   int
	TopDevices, TopUsers, TopProcesses []string
}

// dryRun asks who uses an app and would be in the scope of a tag.
func (f *fixture) dryRun(ctx context.Context, id string, scope ...string) (used, error) {
	type counts []struct {
		Name string `json:"name"`
	}
	var said struct {
		Total struct {
			Devices      int    `json:"devices"`
			InScope      int    `json:"devices_in_scope"`
			TopDevices   counts `json:"top_devices"`
			TopUsers     counts `json:"top_users"`
			TopProcesses counts `json:"top_processes"`
		} `json:"total"`
	}
	err := f.site.AdminShow(ctx, &said, append([]string{"app", "tag", id, "unsanctioned", "--dry-run"}, scope...)...)
	names := func(all counts) []string {
		var names []string
		for _, c := range all {
			names = append(names, c.Name)
		}
		slices.Sort(names)
		return names
	}
	t := &said.Total
	return used{t.Devices, t.InScope, names(t.TopDevices), names(t.TopUsers), names(t.TopProcesses)}, err
}

func TestADryRunKnowsWhoUsesAnApp(t *testing.T) {
	f := installUsers(t)
	f.mode(t, fleet.ModeBlock)
	// Programs that are still there are found for certain: owners are looked
	// for now and then only, behind the packets' back.
	f.downloadAs(t, alice, "files.slack.com")
	f.downloadAs(t, bob, "files.slack.com")
	download(t, "another program", f.peer(t.Context(), hostInside, "http3slow", "app.slack.com", f.at("app.slack.com", 443)))
	works(t, "something else", f.curl(t, hostInside, "https://www.example.com/"))
	// What was counted is written down when the agent ends, and sent by the
	// next one.
	f.restart(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	want := used{1, 1, []string{hostInside}, []string{alice, bob, "root"}, []string{self, "/usr/bin/curl"}}
	slices.Sort(want.TopProcesses)
	until(t, "the server knows who uses the app", func(ctx context.Context) error {
		got, err := f.dryRun(ctx, "slack")
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			return fmt.Errorf("(-want +got) %w:\n%s", err, diff)
		}
		return nil
	})
	if got, err := f.dryRun(t.Context(), "slack", "--exclude-group", group); err != nil || got.Devices != 1 || got.InScope != 0 {
		t.Errorf("for other groups it says %+v, %v", got, err)
	}
	// It was a dry run.
	works(t, "the app", f.curl(t, hostInside, "https://www.slack.com/"))
}
