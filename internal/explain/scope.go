package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/staging"
)

func (b *builder) scope() Link {
	if b.chosen == nil {
		return unknown(LinkScope, "no indicator is concerned")
	}
	p := &b.chosen.Indicator.Scope
	switch {
	case !b.chosen.DeviceInScope:
		return broken(LinkScope, b.widen(b.forDevice(p)), "%s is not in its scope: it is for %s, and the device is in %s",
			b.Device.Name, b.groups(p.Scope), b.list(b.Device.Groups, "no group"))
	case !p.Everybody() && b.Device.User == nil && b.Subject.User != "":
		return unknown(LinkScope, "it is for some users only, and the device did not say whether %s is one of them", b.Subject.User)
	case !p.Everybody() && b.Device.User == nil:
		return unknown(LinkScope, "it is for some users only: ask again about one of them, with --user")
	case !p.CoversUser(b.Device.User):
		return broken(LinkScope, b.widen(forUser(p, b.Device.User)), "user %s is not in its scope", b.Device.User.Name)
	case !p.Open(b.Now):
		return broken(LinkScope, b.widen(Flags("window", nil)), "it counts at other times only: %s", windows(p.Windows))
	default:
		return holds(LinkScope, "the device%s is in its scope: %s", withUser(b.Device.User), b.groups(p.Scope))
	}
}

// widen is the command that changes the scope of the chosen indicator by
// flags.
func (b *builder) widen(flags string) string {
	i := &b.chosen.Indicator
	if b.custom() {
		return "interdict indicator set " + i.ID + flags
	}
	return "interdict app scope " + i.AppID + flags
}

// forDevice are the flags that bring the device into a scope.
func (b *builder) forDevice(p *indicator.Profile) string {
	itself := fleet.DeviceGroup(b.Device.ID)
	without := slices.DeleteFunc(slices.Clone(p.Exclude), func(id string) bool {
		return id == itself || slices.Contains(b.Device.Groups, id)
	})
	flags := ""
	if len(without) < len(p.Exclude) {
		flags = Flags("exclude-group", b.names(without))
	}
	include := indicator.Scope{Include: p.Include}
	if !include.Covers(append(slices.Clone(b.Device.Groups), itself)) {
		flags += Flags("include-group", append(b.names(p.Include), "device:"+b.Device.Name))
	}
	return flags
}

// forUser are the flags that bring a user among the people of a scope.
func forUser(p *indicator.Profile, u *indicator.User) string {
	var flags strings.Builder
	kept := p.People
	for _, list := range []struct {
		flag string
		have *[]string
		with []string
	}{{"exclude-user", &kept.ExcludeUsers, []string{u.Name, fmt.Sprintf("#%d", u.UID)}}, {"exclude-user-group", &kept.ExcludeUserGroups, u.Groups}} {
		without := slices.DeleteFunc(slices.Clone(*list.have), func(name string) bool { return slices.Contains(list.with, name) })
		if len(without) < len(*list.have) {
			flags.WriteString(Flags(list.flag, without))
			*list.have = without
		}
	}
	if !kept.CoversUser(u) {
		flags.WriteString(Flags("user", append(slices.Clone(p.IncludeUsers), u.Name)))
	}
	return flags.String()
}

func withUser(u *indicator.User) string {
	if u == nil {
		return ""
	}
	return " and user " + u.Name
}

func windows(all []indicator.Window) string {
	texts := make([]string, 0, len(all))
	for i := range all {
		texts = append(texts, all[i].String())
	}
	return strings.Join(texts, "; ")
}

func (b *builder) group(id string) string {
	if b.GroupName == nil {
		return id
	}
	return cmp.Or(b.GroupName(id), id)
}

func (b *builder) groups(s indicator.Scope) string {
	text := b.list(s.Include, "all devices")
	if len(s.Exclude) > 0 {
		text += " except " + b.list(s.Exclude, "")
	}
	return text
}

func (b *builder) list(ids []string, none string) string {
	if len(ids) == 0 {
		return none
	}
	return strings.Join(b.names(ids), ", ")
}

func (b *builder) names(ids []string) []string {
	names := make([]string, 0, len(ids))
	for _, id := range ids {
		names = append(names, b.group(id))
	}
	return names
}

// canary names who has a change that is on trial.
func (b *builder) canary(t *staging.Rollout) string {
	if _, one := fleet.DeviceOf(t.Canary); one {
		return b.group(t.Canary)
	}
	return "group " + b.group(t.Canary)
}
