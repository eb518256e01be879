package command

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/agent"
	"interdict/internal/agent/channel"
	"interdict/internal/fault"
	"interdict/internal/fleet"
)

func (c *commander) set() *cobra.Command {
	var unset bool
	cmd := &cobra.Command{
		Use: "set [NAME [VALUE]]", Short: "Make a setting on this machine, or list the settings",
		Long: `Make a setting on this machine, or list the settings.

What is set stays until it is taken back with --unset, also when the agent is
started again. It counts where nothing goes before it: a policy of the server
does, then a drop-in file of policy, then an environment variable of the agent.
The running agent stores it; where none runs, start it or write a drop-in file.`,
		Example: `  interdict-agent set
  interdict-agent set network-protection audit
  interdict-agent set warn-bypass-duration 2h
  interdict-agent set network-protection --unset`,
		RunE: func(cmd *cobra.Command, args []string) error {
			d, value, err := setArguments(cmd, args, unset)
			if err != nil {
				return err
			}
			client, err := c.client()
			if err != nil {
				return err
			}
			switch {
			case len(args) == 0:
				return c.listSettings(cmd.Context(), client)
			case unset:
				return c.printSet(client.Unset(cmd.Context(), d.Name))
			default:
				return c.printSet(client.Set(cmd.Context(), d.Name, value))
			}
		},
	}
	cmd.Flags().BoolVar(&unset, "unset", false, "take back what was set")
	return cmd
}

// setArguments checks what was typed before an agent is asked. Without an
// argument there is no definition.
func setArguments(cmd *cobra.Command, args []string, unset bool) (d fleet.Definition, value string, err error) {
	switch {
	case len(args) == 0 && !unset:
		return d, "", nil
	case len(args) == 0:
		return d, "", usageFault(cmd, "NAME is missing")
	}
	d, ok := fleet.Define(args[0])
	switch near := channel.Near(args[0]); {
	case !ok && len(near) > 0:
		return d, "", fault.New(fault.Invalid, "there is no setting %q", args[0]).WithHint("did you mean %s?", strings.Join(near, " or "))
	case !ok:
		return d, "", fault.New(fault.Invalid, "there is no setting %q", args[0]).WithHint("list them with: interdict-agent set")
	case unset:
		return d, "", exactly("NAME")(cmd, args)
	}
	if err = exactly("NAME", "VALUE")(cmd, args); err != nil {
		return d, "", err
	}
	if value, err = d.Parse(args[1]); err != nil {
		return d, "", fault.New(fault.Invalid, "%s %v, not %q", d.Name, err, args[1])
	}
	return d, value, nil
}

// listSettings prints every setting, its value, where that comes from and what
// it means.
func (c *commander) listSettings(ctx context.Context, client *agent.Client) error {
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	return c.print(map[string]any{"schema": 1, "settings": status.Settings}, func(w io.Writer) {
		_, _ = fmt.Fprintln(w, "SETTING\tVALUE\tFROM\tMEANING")
		for _, s := range status.Settings {
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.Setting, shown(s.Value.Value), source(s), meaning(s.Setting))
		}
	})
}

// meaning says what a setting does and which values it can have.
func meaning(setting string) string {
	d, ok := fleet.Define(setting)
	switch {
	case !ok:
		return ""
	case len(d.Values) > 0:
		return d.Summary + ": " + strings.Join(d.Values, ", ")
	case d.Most > 0:
		return fmt.Sprintf("%s: from %s to %s", d.Summary, span(&d, d.Least), span(&d, d.Most))
	default:
		return d.Summary
	}
}

// span writes a length of time as the setting itself does.
func span(d *fleet.Definition, length time.Duration) string {
	if text, err := d.Parse(length.String()); err == nil {
		return text
	}
	return length.String()
}

// printSet says what a setting is after it was set, or what goes before that.
func (c *commander) printSet(s agent.Setting, err error) error {
	if err != nil {
		return err
	}
	err = c.print(struct {
		Schema int `json:"schema"`
		agent.Setting
	}{1, s}, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "%s is %s, from %s\n", s.Setting, shown(s.Value.Value), origin(s))
	})
	if s.Set != nil && s.Channel != fleet.ChannelLocal && s.State != fleet.SettingPending {
		c.say("%q is stored, but %s goes before it", *s.Set, overruler(s))
	}
	return err
}

// overruler is what goes before a value that was set.
func overruler(s agent.Setting) string {
	switch s.Channel {
	case fleet.ChannelServer:
		return "policy " + cmp.Or(s.PolicyName, s.Source) + " of the server"
	case fleet.ChannelFile:
		return s.Source
	case fleet.ChannelEnvironment:
		return channel.Variable(s.Setting) + " in the agent's environment"
	case fleet.ChannelLocal, fleet.ChannelDefault:
	}
	return "another channel"
}
