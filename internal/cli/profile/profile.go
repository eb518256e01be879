// Package profile decides how scoped profiles are typed and shown: the flags
// for devices, people and times, and the words for them.
package profile

import (
	"strings"

	"github.com/spf13/cobra"

	"interdict/internal/cli/output"
	"interdict/internal/cli/usage"
	"interdict/internal/indicator"
)

// Flags are the flags that say for which devices and people, and when,
// something counts.
type Flags struct {
	// Profile is what was typed, once Read has returned.
	Profile indicator.Profile

	windows []string
	// lists has what flags fill.
	lists map[string]*[]string
}

const (
	includeFlag = "include-group"
	windowFlag  = "window"
)

// Add makes the flags.
func (p *Flags) Add(cmd *cobra.Command) {
	p.lists = make(map[string]*[]string)
	for _, f := range []struct {
		name string
		into *[]string
		help string
	}{
		{includeFlag, &p.Profile.Include, "only devices of this `group`, or device:NAME; may be repeated"},
		{"exclude-group", &p.Profile.Exclude, "not the devices of this `group`, whatever else they are in; may be repeated"},
		{"user", &p.Profile.IncludeUsers, "only this `user`, by login name or as #UID; may be repeated"},
		{"exclude-user", &p.Profile.ExcludeUsers, "not this `user`; may be repeated"},
		{"user-group", &p.Profile.IncludeUserGroups, "only users in this `group`, as the device knows it; may be repeated"},
		{"exclude-user-group", &p.Profile.ExcludeUserGroups, "not users in this `group`; may be repeated"},
	} {
		p.lists[f.name] = f.into
		cmd.Flags().StringSliceVar(f.into, f.name, nil, f.help)
	}
	cmd.Flags().StringArrayVar(&p.windows, windowFlag, nil, "only in this `span` of the week: 'mon-fri 08:00-17:30 Europe/Berlin', without a zone by the device's clock; may be repeated")
}

// Read reads the windows that were typed.
func (p *Flags) Read(cmd *cobra.Command) error {
	p.Profile.Windows = nil
	for _, text := range p.windows {
		if text == "" {
			continue
		}
		w, err := indicator.ParseWindow(text)
		if err != nil {
			return usage.Fault(cmd, "--%s: %s", windowFlag, err)
		}
		p.Profile.Windows = append(p.Profile.Windows, w)
	}
	return nil
}

// Changed reports whether any of the flags was typed.
func (p *Flags) Changed(cmd *cobra.Command) bool {
	for name := range p.lists {
		if cmd.Flags().Changed(name) {
			return true
		}
	}
	return cmd.Flags().Changed(windowFlag)
}

// Edit puts what was typed in the place of what a profile has there, and leaves
// the rest. An empty value takes a list away.
func (p *Flags) Edit(cmd *cobra.Command, in *indicator.Profile) {
	edits := []struct {
		flag string
		to   *[]string
	}{
		{includeFlag, &in.Include},
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
		in.Windows = p.Profile.Windows
	}
}

// Text says for whom and when something counts; scope says it of the devices.
func Text(p *indicator.Profile, scope func(indicator.Scope) string) string {
	parts := []string{scope(p.Scope)}
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
