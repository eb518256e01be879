// Package indicatorcmd has the commands about indicators: looking at them, making
// and changing custom ones, one by one or from a file.
package indicatorcmd

import (
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/cli/indicatorfile"
	"interdict/internal/cli/moment"
	"interdict/internal/cli/output"
	"interdict/internal/cli/profile"
	"interdict/internal/cli/session"
	"interdict/internal/cli/usage"
	"interdict/internal/indicator"
)

// New makes the commands about indicators.
func New(s *session.Session) *cobra.Command {
	return usage.Parent("indicator", "Allow, audit, warn about or block single destinations",
		`An indicator asks for an action on what its value matches: a domain with all
names below it, a url, an ip address, a cidr range, a certificate or the SHA-256
of a file. Unsanctioned and monitored apps make indicators by themselves; the
commands here are for the custom ones, which win over those of apps.

The most specific indicator decides; among equally specific ones allow wins over
warn, warn over block, block over audit.`,
		newListCmd(s), newShowCmd(s), newAddCmd(s), newSetCmd(s), newDeleteCmd(s),
		newImportCmd(s), newExportCmd(s))
}

func columns(groups session.Names) []output.Column[indicator.Indicator] {
	return []output.Column[indicator.Indicator]{
		{Head: "id", Cell: func(i indicator.Indicator) string { return i.ID }},
		{Head: "type", Cell: func(i indicator.Indicator) string { return string(i.Type) }},
		{Head: "value", Cell: func(i indicator.Indicator) string { return i.Value }},
		{Head: "action", Cell: func(i indicator.Indicator) string { return string(i.Action) }},
		{Head: "severity", Cell: func(i indicator.Indicator) string { return string(i.Severity) }},
		{Head: "source", Cell: func(i indicator.Indicator) string { return string(i.Source) }},
		{Head: "scope", Cell: func(i indicator.Indicator) string { return profile.Text(&i.Scope, groups.Scope) }},
		{Head: "expires", Cell: func(i indicator.Indicator) string { return output.Time(i.ExpiresAt) }},
	}
}

func newListCmd(s *session.Session) *cobra.Command {
	var kind, source, app, search string
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List indicators, those of apps as well",
		Example: "  interdict indicator list --source custom\n  interdict indicator list --app itunes",
		Args:    usage.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			client.SetQuery(q, "type", kind)
			client.SetQuery(q, "source", source)
			client.SetQuery(q, "app", app)
			client.SetQuery(q, "search", search)
			groups, err := s.Groups(cmd)
			if err != nil {
				return err
			}
			return session.List(s, cmd, "/indicators", q, limit, columns(groups))
		},
	}
	cmd.Flags().StringVar(&kind, "type", "", "only of this `type`: domain, url, ip, cidr, certificate or file_sha256")
	cmd.Flags().StringVar(&source, "source", "", "only from this `source`: catalog or custom")
	cmd.Flags().StringVar(&app, "app", "", "only of the app with this `id` or name")
	cmd.Flags().StringVar(&search, "search", "", "only with this `text` in value or description")
	usage.AddLimit(cmd, &limit)
	return cmd
}

func newShowCmd(s *session.Session) *cobra.Command {
	return &cobra.Command{
		Use:     "show ID",
		Short:   "Show one indicator",
		Example: "  interdict indicator show itunes:itunes.apple.com",
		Args:    usage.Exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			groups, err := s.Groups(cmd)
			if err != nil {
				return err
			}
			return session.Show(s, cmd, "/indicators/"+url.PathEscape(args[0]), append(columns(groups),
				output.Column[indicator.Indicator]{Head: "app", Cell: func(i indicator.Indicator) string { return i.AppID }},
				output.Column[indicator.Indicator]{Head: "description", Cell: func(i indicator.Indicator) string { return i.Description }},
				output.Column[indicator.Indicator]{Head: "alerts", Cell: func(i indicator.Indicator) string { return strconv.FormatBool(i.GenerateAlert) }},
				output.Column[indicator.Indicator]{Head: "created", Cell: func(i indicator.Indicator) string { return output.Time(i.CreatedAt) }},
				output.Column[indicator.Indicator]{Head: "created_by", Cell: func(i indicator.Indicator) string { return i.CreatedBy }}))
		},
	}
}

// What the flags of add and set say.
const (
	actionHelp   = "what to do, an `action`: allow, audit, warn or block"
	severityHelp = "how much it matters, a `level`: informational, low, medium or high"
	alertHelp    = "whether its events raise alerts; --alert=false says no"
)

func newAddCmd(s *session.Session) *cobra.Command {
	n := indicatorfile.Indicator{}
	var expires string
	var scope profile.Flags
	var wait session.Wait
	cmd := &cobra.Command{
		Use:   "add TYPE VALUE --action ACTION",
		Short: "Add a custom indicator",
		Long: `Add makes an indicator of your own. TYPE is domain, url, ip, cidr, certificate or
file_sha256. Without further flags it counts for all devices and users, at all
times, until it is deleted.`,
		Example: `  interdict indicator add domain files.example.com --action block --severity high --wait
  interdict indicator add cidr 203.0.113.0/24 --action audit --expires 7d --include-group laptops
  interdict indicator add domain partner.dropbox.com --action allow`,
		Args: usage.Exactly("TYPE", "VALUE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if n.Action == "" {
				return usage.Fault(cmd, "--action is missing: allow, audit, warn or block")
			}
			if err := scope.Read(cmd); err != nil {
				return err
			}
			n.Type, n.Value, n.Scope = args[0], args[1], scope.Profile
			if expires != "" {
				t, err := moment.Parse("--expires", expires, time.Now(), moment.Ahead)
				if err != nil {
					return err
				}
				n.ExpiresAt = t
			}
			c, err := s.Client()
			if err != nil {
				return err
			}
			raw, err := c.Post(cmd.Context(), "/indicators", n)
			if err != nil {
				return err
			}
			made, err := client.Decode[indicator.Indicator](raw)
			if err != nil {
				return err
			}
			return s.Changed(cmd, wait, raw, "added %s: %s %s %s", made.ID, made.Action, made.Type, made.Value)
		},
	}
	f := cmd.Flags()
	f.StringVar(&n.Action, "action", "", actionHelp)
	f.StringVar(&n.Severity, "severity", "", severityHelp)
	f.StringVar(&n.Description, "description", "", "a `text` that says what it is for")
	f.StringVar(&expires, "expires", "", "when it ceases to exist: a `time` such as 24h, 7d or 2026-12-31")
	f.BoolVar(&n.Alert, "alert", true, alertHelp)
	scope.Add(cmd)
	wait.Add(cmd)
	return cmd
}

func newDeleteCmd(s *session.Session) *cobra.Command {
	var wait session.Wait
	cmd := &cobra.Command{
		Use:   "delete ID",
		Short: "Delete a custom indicator",
		Long: `Delete removes a custom indicator. One of an app goes by tagging the app as
sanctioned or none.`,
		Example: "  interdict indicator delete 01M84SC2ZQCA2EHZJHB86FZB6Z --wait",
		Args:    usage.Exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.Remove(cmd, wait, session.Removal{Path: "/indicators/", Ref: args[0], Kind: "indicator"})
		},
	}
	wait.Add(cmd)
	return cmd
}
