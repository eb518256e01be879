package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"interdict/internal/cli/output"
	"interdict/internal/cli/usage"
	"interdict/internal/indicator"
)

// profileFlags are the flags that say for which devices and people, and when,
// something counts.
type profileFlags struct {
	profile indicator.Profile
	windows []string
	// include is what the flag for groups is called; lists has what flags fill.
	include string
	lists   map[string]*[]string
}

const windowFlag = "window"

// add makes the flags; include is what the flag for groups is called.
func (p *profileFlags) add(cmd *cobra.Command, include string) {
	p.include, p.lists = include, make(map[string]*[]string)
	for _, f := range []struct {
		name string
		into *[]string
		help string
	}{
		{include, &p.profile.Include, "only devices of this `group`, or device:NAME; may be repeated"},
		{"exclude-group", &p.profile.Exclude, "not the devices of this `group`, whatever else they are in; may be repeated"},
		{"user", &p.profile.IncludeUsers, "only this `user`, by login name or as #UID; may be repeated"},
		{"exclude-user", &p.profile.ExcludeUsers, "not this `user`; may be repeated"},
		{"user-group", &p.profile.IncludeUserGroups, "only users in this `group`, as the device knows it; may be repeated"},
		{"exclude-user-group", &p.profile.ExcludeUserGroups, "not users in this `group`; may be repeated"},
	} {
		p.lists[f.name] = f.into
		cmd.Flags().StringSliceVar(f.into, f.name, nil, f.help)
	}
	cmd.Flags().StringArrayVar(&p.windows, windowFlag, nil, "only in this `span` of the week: 'mon-fri 08:00-17:30 Europe/Berlin', without a zone by the device's clock; may be repeated")
}

// read reads the windows that were typed.
func (p *profileFlags) read(cmd *cobra.Command) error {
	p.profile.Windows = nil
	for _, text := range p.windows {
		if text == "" {
			continue
		}
		w, err := indicator.ParseWindow(text)
		if err != nil {
			return usage.Fault(cmd, "--%s: %s", windowFlag, err)
		}
		p.profile.Windows = append(p.profile.Windows, w)
	}
	return nil
}

// changed reports whether any of the flags was typed.
func (p *profileFlags) changed(cmd *cobra.Command) bool {
	for name := range p.lists {
		if cmd.Flags().Changed(name) {
			return true
		}
	}
	return cmd.Flags().Changed(windowFlag)
}

// edit puts what was typed in the place of what a profile has there, and leaves
// the rest. An empty value takes a list away.
func (p *profileFlags) edit(cmd *cobra.Command, in *indicator.Profile) {
	edits := []struct {
		flag string
		to   *[]string
	}{
		{p.include, &in.Include},
		{"exclude-group", &in.Exclude},
		{"user", &in.IncludeUsers},
		{"exclude-user", &in.ExcludeUsers},
		{"user-group", &in.IncludeUserGroups},
		{"exclude-user-group", &in.ExcludeUserGroups},
	}
	for _, e := range edits {
		if cmd.Flags().Changed(e.flag) {
			*e.to = *p.lists[e.flag]
		}
	}
	if cmd.Flags().Changed(windowFlag) {
		in.Windows = p.profile.Windows
	}
}

// profile says for whom and when something counts.
func (n names) profile(p *indicator.Profile) string {
	parts := []string{n.scope(p.Scope)}
	for _, part := range []struct {
		word             string
		include, exclude []string
	}{{"users", p.IncludeUsers, p.ExcludeUsers}, {"user groups", p.IncludeUserGroups, p.ExcludeUserGroups}} {
		switch {
		case len(part.include) > 0:
			parts = append(parts, part.word+" "+output.Scope(part.include, part.exclude))
		case len(part.exclude) > 0:
			parts = append(parts, "not "+part.word+" "+strings.Join(part.exclude, ", "))
		}
	}
	if len(p.Windows) > 0 {
		windows := make([]string, len(p.Windows))
		for i := range p.Windows {
			windows[i] = p.Windows[i].String()
		}
		parts = append(parts, strings.Join(windows, ", "))
	}
	return strings.Join(parts, "; ")
}
