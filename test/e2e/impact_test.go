package e2e

import (
	"testing"

	"interdict/internal/fleet"
)

func TestADryRunSaysWhatATagWouldDoAndDoesNothing(t *testing.T) {
	f := install(t)
	f.mode(t, fleet.ModeBlock)
	says(t, "what the search finds", f.admin(t, "app", "search", "itunes.apple.com"), app)
	before, err := f.device(t.Context(), hostInside)
	if err != nil {
		t.Fatal(err)
	}
	says(t, "the dry run", f.admin(t, "app", "tag", app, "unsanctioned", "--include-group", group, "--dry-run"),
		"tag unsanctioned reaches 1 device: "+group+" (1 device)",
		app+" (iTunes), not tagged", " new, 0 changed, 0 removed", "itunes.apple.com", "shared, left out", "mzstatic.com")

	after, err := f.device(t.Context(), hostInside)
	if err != nil {
		t.Fatal(err)
	}
	if after.Desired != before.Desired {
		t.Error("the device is to enforce something else than before")
	}
	lacks(t, "the list of unsanctioned apps", f.admin(t, "app", "list", "--tag", "unsanctioned"), "iTunes")
	lacks(t, "the list of indicators", f.admin(t, "indicator", "list", "--app", app), "itunes.apple.com")
	works(t, "the app", f.curl(t, hostInside, "https://dry.itunes.apple.com/"))
}
