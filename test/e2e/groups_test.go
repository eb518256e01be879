package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"interdict/internal/fleet"
)

// inGroup is the rule of the group that the shared policy is for.
const inGroup = `labels.group == "` + group + `"`

func TestADeviceThatChangesIsInOtherGroupsAtOnce(t *testing.T) {
	f := install(t)
	f.tag(t, app, "unsanctioned")
	f.mode(t, fleet.ModeBlock)
	const url = "https://moves.itunes.apple.com/"
	works(t, "ben, out of the group", f.curl(t, hostOutside, url))

	f.relabel(t, "group="+group)
	refused(t, "ben, in the group", f.curl(t, hostOutside, url))
	f.admin(t, "device", "set", hostOutside, "--label", "group=none", "--wait")
	works(t, "ben, out of the group again", f.curl(t, hostOutside, url))
}

func TestDevicesFollowARuleThatIsEdited(t *testing.T) {
	f := install(t)
	f.tag(t, app, "unsanctioned")
	f.mode(t, fleet.ModeBlock)
	const url = "https://edited.itunes.apple.com/"
	f.after(t, "group", "set", group, "--rule", inGroup, "--wait")
	start := time.Now()
	out := f.admin(t, "group", "set", group, "--rule", inGroup+` || labels.group == "none"`, "--wait")
	if took := time.Since(start); took > noAnswer {
		t.Errorf("the devices followed only after %s", took)
	}
	says(t, "the answer", out, "applied on 1 of 1 device in ")
	refused(t, "ben, for whom the new rule is", f.curl(t, hostOutside, url))
	f.admin(t, "group", "set", group, "--rule", inGroup, "--wait")
	works(t, "ben, for whom the old rule is not", f.curl(t, hostOutside, url))
}

func TestARuleIsPreviewedAndABadOneRefusedWithThePlaceOfItsFault(t *testing.T) {
	f := install(t)
	var seen struct {
		Count   int
		Devices []struct{ Name string }
	}
	preview := []string{"group", "preview", "--rule", `os == "linux" && labels.group in ["managed", "none"]`}
	if err := f.site.AdminShow(t.Context(), &seen, preview...); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range seen.Devices {
		names = append(names, d.Name)
	}
	slices.Sort(names)
	if want := []string{hostInside, hostOutside}; seen.Count != len(want) || !slices.Equal(names, want) {
		t.Errorf("the preview has %d devices, %v", seen.Count, names)
	}
	says(t, "the list of groups", f.admin(t, "group", "list", "--output", "csv"), group)

	refusal := f.fails(t, "group", "set", group, "--rule", `os == "linux" && hostnme == "anna"`)
	says(t, "the refusal", refusal, "exit status 2", `line 1, column 18: nothing is called "hostnme"`,
		strings.Repeat(" ", len(`os == "linux" && `))+"^")
	says(t, "the group", f.admin(t, "group", "show", group), inGroup)
}

func TestADeviceIsInManyGroupsWhichAllCount(t *testing.T) {
	f := install(t)
	f.mode(t, fleet.ModeBlock)
	f.group(t, "linuxes", "--rule", `os == "linux"`)
	f.group(t, "chosen", "--member", hostInside)
	shown := f.admin(t, "device", "show", hostInside)
	says(t, "the device", shown, group, "linuxes", "chosen")

	f.tag(t, "discord", "unsanctioned", "--include-group", "linuxes", "--exclude-group", "chosen")
	works(t, "anna, in a group that is spared", f.curl(t, hostInside, "https://discord.com/"))
	f.admin(t, "group", "set", "chosen", "--remove-member", hostInside, "--wait")
	refused(t, "anna, in the group that is meant", f.curl(t, hostInside, "https://discord.com/"))
	f.admin(t, "app", "tag", "discord", "none", "--wait")
}

func TestAGroupInUseIsNotDeletedAndAllItsUsersAreNamed(t *testing.T) {
	f := install(t)
	f.tag(t, "discord", "unsanctioned", "--include-group", group)
	f.indicator(t, "domain", "used.example", "--action", "block", "--include-group", group)
	f.admin(t, "token", "create", "--name", "for the group", "--group", group)
	refusal := f.fails(t, "group", "delete", group)
	says(t, "the refusal", refusal, `policy "`+policy+`"`, "app discord", "used.example", `token "for the group"`)
	says(t, "the list of groups", f.admin(t, "group", "list"), group)
	f.revokeToken(t, "for the group")
}

// revokeToken deletes the enrolment token with a name.
func (f *fixture) revokeToken(t *testing.T, name string) {
	t.Helper()
	var tokens []struct{ ID, Name string }
	if err := f.site.AdminList(t.Context(), &tokens, "token", "list"); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(tokens, func(k struct{ ID, Name string }) bool { return k.Name == name })
	if i < 0 {
		t.Fatalf("there is no token %q among %+v", name, tokens)
	}
	f.admin(t, "token", "delete", tokens[i].ID)
	says(t, "the list of tokens", f.admin(t, "token", "list", "--output", "csv"), tokens[i].ID+","+name+",revoked")
}
