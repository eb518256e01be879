// Package appcmd has the commands about cloud apps: finding them, tagging them,
// for whom a tag counts, and what it would do.
package appcmd

import (
	"cmp"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/cli/output"
	"interdict/internal/cli/profile"
	"interdict/internal/cli/rolloutcmd"
	"interdict/internal/cli/session"
	"interdict/internal/cli/usage"
	"interdict/internal/cloudapp"
	"interdict/internal/fault"
)

// New makes the commands about apps.
func New(s *session.Session) *cobra.Command {
	return usage.Parent("app", "Look at cloud apps, and tag them",
		`A cloud app is an entry of the catalog. Tagging one as unsanctioned makes its
domains block indicators on every device in scope, as monitored warn indicators;
sanctioned and none make no indicators. What a device does with them is decided
by the network protection mode of its policy. An app is named by its id, which
'interdict app search' finds, or its name.`,
		newListCmd(s), newShowCmd(s), newSearchCmd(s), newTagCmd(s), newScopeCmd(s))
}

// view is an app as the API shows it.
type view struct {
	cloudapp.App
	Tagging cloudapp.Tagging `json:"tagging"`
}

func columns(groups session.Names) []output.Column[view] {
	return []output.Column[view]{
		{Head: "id", Cell: func(a view) string { return a.ID }},
		{Head: "name", Cell: func(a view) string { return a.Name }},
		{Head: "category", Cell: func(a view) string { return a.Category }},
		{Head: "tag", Cell: tagOf},
		{Head: "scope", Cell: scopeOf(groups)},
	}
}

func tagOf(a view) string {
	if a.Tagging.Tag == cloudapp.TagNone {
		return ""
	}
	return string(a.Tagging.Tag)
}

func scopeOf(groups session.Names) func(view) string {
	return func(a view) string {
		if tagOf(a) == "" {
			return ""
		}
		return profile.Text(&a.Tagging.Scope, groups.Scope)
	}
}

func newListCmd(s *session.Session) *cobra.Command {
	var tag, category string
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the apps of the catalog with their tags",
		Example: `  interdict app list --tag unsanctioned
  interdict app list --category file-transfer --output csv`,
		Args: usage.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			client.SetQuery(q, "tag", tag)
			client.SetQuery(q, "category", category)
			groups, err := s.Groups(cmd)
			if err != nil {
				return err
			}
			return session.List(s, cmd, "/apps", q, limit, columns(groups))
		},
	}
	cmd.Flags().StringVar(&tag, "tag", "", "only apps with this `tag`: sanctioned, unsanctioned, monitored or none")
	cmd.Flags().StringVar(&category, "category", "", "only apps of this `category`")
	usage.AddLimit(cmd, &limit)
	return cmd
}

func newSearchCmd(s *session.Session) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:     "search WORDS",
		Short:   "Find apps by id, name, vendor or domain",
		Example: "  interdict app search itunes.apple.com",
		Args:    usage.AtLeast("WORDS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			groups, err := s.Groups(cmd)
			if err != nil {
				return err
			}
			return session.List(s, cmd, "/apps", url.Values{"search": {strings.Join(args, " ")}}, limit, columns(groups))
		},
	}
	usage.AddLimit(cmd, &limit)
	return cmd
}

func newShowCmd(s *session.Session) *cobra.Command {
	return &cobra.Command{
		Use:     "show ID",
		Short:   "Show an app with its domains, its tag, and whom that concerned in 30 days",
		Example: "  interdict app show itunes",
		Args:    usage.Exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			groups, err := s.Groups(cmd)
			if err != nil {
				return err
			}
			met, err := fetchActivity(s, cmd, args[0])
			if err != nil {
				return err
			}
			return session.Show(s, cmd, "/apps/"+url.PathEscape(args[0]), append([]output.Column[view]{
				{Head: "id", Cell: func(a view) string { return a.ID }},
				{Head: "name", Cell: func(a view) string { return a.Name }},
				{Head: "vendor", Cell: func(a view) string { return a.Vendor }},
				{Head: "category", Cell: func(a view) string { return a.Category }},
				{Head: "homepage", Cell: func(a view) string { return a.Homepage }},
				{Head: "domains", Cell: domainsOf},
				{Head: "tag", Cell: func(a view) string { return cmp.Or(tagOf(a), string(cloudapp.TagNone)) }},
				{Head: "scope", Cell: scopeOf(groups)},
				{Head: "tagged_by", Cell: func(a view) string { return a.Tagging.By }},
				{Head: "tagged_at", Cell: func(a view) string { return output.Time(a.Tagging.At) }},
			}, activityColumns(met)...))
		},
	}
}

func domainsOf(a view) string {
	names := make([]string, len(a.Domains))
	for i, d := range a.Domains {
		names[i] = d.Name
		if d.Shared {
			names[i] += " (shared)"
		}
	}
	return strings.Join(names, ", ")
}

// eachOnce leaves out what differs from an earlier one in case only.
func eachOnce(words []string) []string {
	var out []string
	for _, w := range words {
		if !slices.ContainsFunc(out, func(o string) bool { return strings.EqualFold(o, w) }) {
			out = append(out, w)
		}
	}
	return out
}

func newTagCmd(s *session.Session) *cobra.Command {
	var scope profile.Flags
	var wait session.Wait
	var trial rolloutcmd.Trial
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "tag ID... sanctioned|unsanctioned|monitored|none",
		Short: "Tag apps, and with that allow, warn about or block them",
		Long: `Tag gives each of the apps the tag, in place of the one it has. If one of the
apps does not exist, none is tagged.

Without --include-group the tag counts for all devices. --exclude-group takes
the devices of a group out again. It can be for some users or their groups only,
as the device knows them, and for some hours of the week. 'interdict app scope'
changes all that later.

With --dry-run nothing is changed: the command says who used the apps in the last
30 days, which devices are in scope, and what would become of which domains.

With --canary one group tries the tag of one app out before everybody has it.

With --wait the command returns when every device that is online enforces the
change, and names those that are offline and will do so when they return.`,
		Example: `  interdict app tag itunes unsanctioned --wait
  interdict app tag dropbox unsanctioned --include-group finance --dry-run
  interdict app tag dropbox unsanctioned --canary pilot --advance-after 4h --stop-at 50
  interdict app tag dropbox wetransfer unsanctioned --include-group finance --exclude-group auditors
  interdict app tag youtube unsanctioned --user-group students --window 'mon-fri 08:00-13:00 Europe/Berlin'
  interdict app tag itunes none`,
		Args: usage.AtLeast("ID", "TAG"),
		RunE: func(cmd *cobra.Command, args []string) error {
			apps, tag, err := readTag(args)
			if err != nil {
				return err
			}
			if err = scope.Read(cmd); err != nil {
				return err
			}
			request := map[string]any{"apps": apps, "tag": tag, "scope": scope.Profile}
			if dryRun {
				return sayImpact(s, cmd, request)
			}
			try, err := trial.Wanted(cmd)
			if err != nil {
				return err
			}
			if try {
				return tryTag(s, cmd, &trial, wait, apps, rolloutcmd.TagChange{Tag: tag, Scope: scope.Profile})
			}
			c, err := s.Client()
			if err != nil {
				return err
			}
			raw, err := c.Put(cmd.Context(), "/app-tags", request)
			if err != nil {
				return err
			}
			return s.Changed(cmd, wait, raw, "tagged %s as %s", strings.Join(eachOnce(apps), ", "), tag)
		},
	}
	scope.Add(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what the tag would do, and do not set it")
	trial.Add(cmd)
	wait.Add(cmd)
	return cmd
}

// readTag tells the arguments apart: apps, and last the tag.
func readTag(args []string) (apps []string, tag cloudapp.Tag, err error) {
	apps, tag = args[:len(args)-1], cloudapp.Tag(args[len(args)-1])
	tags := []cloudapp.Tag{cloudapp.TagSanctioned, cloudapp.TagUnsanctioned, cloudapp.TagMonitored, cloudapp.TagNone}
	if !slices.Contains(tags, tag) {
		return nil, "", fault.New(fault.Invalid, "the tag %q is not known", tag).
			WithHint("the last argument is the tag: sanctioned, unsanctioned, monitored or none")
	}
	return apps, tag, nil
}

// tryTag starts the trial of the tag of one app.
func tryTag(s *session.Session, cmd *cobra.Command, t *rolloutcmd.Trial, wait session.Wait, apps []string, change rolloutcmd.TagChange) error {
	if len(apps) != 1 {
		return usage.Fault(cmd, "with --canary tag one app at a time")
	}
	change.App = apps[0]
	return t.Start(s, cmd, wait, rolloutcmd.Change{Tag: &change})
}
