// Package setting decides how the settings of a policy are typed: one flag for
// each, made from what package fleet says about it.
package setting

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"interdict/internal/cli/usage"
	"interdict/internal/fleet"
)

// Flags are the flags for the settings of a policy, one for each.
type Flags struct {
	values map[string]*string
	unset  []string
}

// Add makes the flags.
func (f *Flags) Add(cmd *cobra.Command) {
	f.values = make(map[string]*string)
	for _, d := range fleet.Definitions() {
		f.values[d.Name] = cmd.Flags().String(flagName(&d), "", help(&d))
	}
}

// AddUnset makes the flag that leaves settings to others.
func (f *Flags) AddUnset(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&f.unset, "unset", nil,
		"leave this `setting` to the next policy in line, or to its default; may be repeated")
}

// flagName is the name of a setting's flag.
func flagName(d *fleet.Definition) string { return strings.ReplaceAll(d.Name, "_", "-") }

// help says what a setting does and which values it can have.
func help(d *fleet.Definition) string {
	text := d.Summary
	switch {
	case len(d.Values) > 0:
		last := len(d.Values) - 1
		text += ", a `value`: " + strings.Join(d.Values[:last], ", ") + " or " + d.Values[last]
	case d.Most > 0:
		text += fmt.Sprintf(": a `time` from %s to %s", d.Least, d.Most)
	default:
		text += ": a `text`"
	}
	if d.Name == fleet.SettingNotificationText {
		text += " in which " + strings.Join(fleet.Placeholders(), ", ") + " are filled in"
	}
	if d.Default != "" {
		text += "; where no policy says, " + d.Default
	}
	return text
}

// Apply puts the flags that were typed into settings.
func (f *Flags) Apply(cmd *cobra.Command, s *fleet.Settings) error {
	for _, name := range f.unset {
		d, ok := fleet.Define(name)
		if !ok {
			return usage.Fault(cmd, "there is no setting %q: there are %s", name, names())
		}
		if cmd.Flags().Changed(flagName(&d)) {
			return usage.Fault(cmd, "--unset %s and --%s cannot be together", name, flagName(&d))
		}
		// Nothing is wrong with no value.
		_ = d.Set(s, "")
	}
	for _, d := range fleet.Definitions() {
		if !cmd.Flags().Changed(flagName(&d)) {
			continue
		}
		if err := d.Set(s, *f.values[d.Name]); err != nil {
			return usage.Fault(cmd, "--%s %q %s", flagName(&d), *f.values[d.Name], err)
		}
	}
	return nil
}

func names() string {
	var names []string
	for _, d := range fleet.Definitions() {
		names = append(names, flagName(&d))
	}
	return strings.Join(names, ", ")
}
