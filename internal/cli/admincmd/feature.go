package admincmd

import (
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/cli/output"
	"interdict/internal/cli/session"
	"interdict/internal/cli/usage"
	"interdict/internal/fault"
	"interdict/internal/fleet"
)

// NewFeature makes the commands about the features of the whole server.
func NewFeature(s *session.Session) *cobra.Command {
	return usage.Parent("feature", "Look at the features of the whole server, and turn them on or off",
		`A feature is a switch for the whole server:

    app-enforcement             unsanctioned and monitored apps become indicators
    custom-network-indicators   custom indicators count

Both are on at first. Names may be written with - or _.`,
		newFeatureListCmd(s), newFeatureSetCmd(s))
}

// featureView is a feature as the API shows it.
type featureView struct {
	Name        fleet.Feature `json:"name"`
	Description string        `json:"description"`
	Enabled     bool          `json:"enabled"`
}

func onOff(on bool) string { //nolint:revive // flag-parameter: the flag is the value to print
	if on {
		return "on"
	}
	return "off"
}

func newFeatureListCmd(s *session.Session) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the features and whether they are on",
		Args:  usage.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.Client()
			if err != nil {
				return err
			}
			// There are few of them, so the list has no pages.
			raw, err := c.Get(cmd.Context(), "/features", nil)
			if err != nil {
				return err
			}
			p, err := client.Decode[client.Page](raw)
			if err != nil {
				return err
			}
			return output.List(s.Stdout, s.Format, p.Items, []output.Column[featureView]{
				{Head: "name", Cell: func(f featureView) string { return string(f.Name) }},
				{Head: "state", Cell: func(f featureView) string { return onOff(f.Enabled) }},
				{Head: "description", Cell: func(f featureView) string { return f.Description }},
			})
		},
	}
}

func newFeatureSetCmd(s *session.Session) *cobra.Command {
	var wait session.Wait
	cmd := &cobra.Command{
		Use:     "set NAME on|off",
		Short:   "Turn a feature on or off",
		Example: "  interdict feature set app-enforcement off --wait",
		Args:    usage.Exactly("NAME", "on or off"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[1] != "on" && args[1] != "off" {
				return fault.New(fault.Invalid, "%q is neither on nor off", args[1])
			}
			name := strings.ReplaceAll(args[0], "-", "_")
			c, err := s.Client()
			if err != nil {
				return err
			}
			raw, err := c.Put(cmd.Context(), "/features/"+url.PathEscape(name), map[string]any{"enabled": args[1] == "on"})
			if err != nil {
				return err
			}
			return s.Changed(cmd, wait, raw, "feature %s is %s", name, args[1])
		},
	}
	wait.Add(cmd)
	return cmd
}
