package cli

import (
	"cmp"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"interdict/internal/cli/output"
	"interdict/internal/cli/profile"
	"interdict/internal/cli/usage"
	"interdict/internal/cloudapp"
	"interdict/internal/fault"
)

func newAppCmd(s *session) *cobra.Command {
	return usage.Parent("app", "Look at cloud apps, and tag them",
		`A cloud app is an entry of the catalog. Tagging one as unsanctioned makes its
domains block indicators on every device in scope, as monitored warn indicators;
sanctioned and none make no indicators. What a device does with them is decided
by the network protection mode of its policy.`,
		newAppListCmd(s), newAppShowCmd(s), newAppSearchCmd(s), newAppTagCmd(s), newAppScopeCmd(s))
}

// appView is an app as the API shows it.
type appView struct {
	cloudapp.App
	Tagging cloudapp.Tagging `json:"tagging"`
}

func appColumns(groups names) []column[appView] {
	return []column[appView]{
		{"id", func(a appView) string { return a.ID }},
		{"name", func(a appView) string { return a.Name }},
		{"category", func(a appView) string { return a.Category }},
		{"tag", appTag},
		{"scope", appScope(groups)},
	}
}

func appTag(a appView) string {
	if a.Tagging.Tag == cloudapp.TagNone {
		return ""
	}
	return string(a.Tagging.Tag)
}

func appScope(groups names) func(appView) string {
	return func(a appView) string {
		if appTag(a) == "" {
			return ""
		}
		return profile.Text(&a.Tagging.Scope, groups.scope)
	}
}

func newAppListCmd(s *session) *cobra.Command {
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
			setQuery(q, "tag", tag)
			setQuery(q, "category", category)
			groups, err := s.names(cmd, "/groups")
			if err != nil {
				return err
			}
			return list(s, cmd, "/apps", q, limit, appColumns(groups))
		},
	}
	cmd.Flags().StringVar(&tag, "tag", "", "only apps with this `tag`: sanctioned, unsanctioned, monitored or none")
	cmd.Flags().StringVar(&category, "category", "", "only apps of this `category`")
	addLimitFlag(cmd, &limit)
	return cmd
}

func newAppSearchCmd(s *session) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:     "search WORDS",
		Short:   "Find apps by id, name, vendor or domain",
		Example: "  interdict app search itunes.apple.com",
		Args:    usage.AtLeast("WORDS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			groups, err := s.names(cmd, "/groups")
			if err != nil {
				return err
			}
			return list(s, cmd, "/apps", url.Values{"search": {strings.Join(args, " ")}}, limit, appColumns(groups))
		},
	}
	addLimitFlag(cmd, &limit)
	return cmd
}

func newAppShowCmd(s *session) *cobra.Command {
	return &cobra.Command{
		Use:     "show ID",
		Short:   "Show an app with its domains, its tag, and whom that met with in 30 days",
		Example: "  interdict app show itunes",
		Args:    usage.Exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			groups, err := s.names(cmd, "/groups")
			if err != nil {
				return err
			}
			activity, err := s.activity(cmd, args[0])
			if err != nil {
				return err
			}
			return show(s, cmd, "/apps/"+url.PathEscape(args[0]), append([]column[appView]{
				{"id", func(a appView) string { return a.ID }},
				{"name", func(a appView) string { return a.Name }},
				{"vendor", func(a appView) string { return a.Vendor }},
				{"category", func(a appView) string { return a.Category }},
				{"homepage", func(a appView) string { return a.Homepage }},
				{"domains", appDomains},
				{"tag", func(a appView) string { return cmp.Or(appTag(a), string(cloudapp.TagNone)) }},
				{"scope", appScope(groups)},
				{"tagged_by", func(a appView) string { return a.Tagging.By }},
				{"tagged_at", func(a appView) string { return output.Time(a.Tagging.At) }},
			}, activityColumns(activity)...))
		},
	}
}

func appDomains(a appView) string {
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

func newAppTagCmd(s *session) *cobra.Command {
	var scope profile.Flags
	var wait waitFlags
	var trial trialFlags
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
			apps, tag := args[:len(args)-1], cloudapp.Tag(args[len(args)-1])
			tags := []cloudapp.Tag{cloudapp.TagSanctioned, cloudapp.TagUnsanctioned, cloudapp.TagMonitored, cloudapp.TagNone}
			if !slices.Contains(tags, tag) {
				return fault.New(fault.Invalid, "the tag %q is not known", tag).
					WithHint("the last argument is the tag: sanctioned, unsanctioned, monitored or none")
			}
			if err := scope.Read(cmd); err != nil {
				return err
			}
			request := map[string]any{"apps": apps, "tag": tag, "scope": scope.Profile}
			if dryRun {
				return s.dryRun(cmd, request)
			}
			if try, err := trial.wanted(cmd); err != nil {
				return err
			} else if try {
				return s.tryTag(cmd, trial, wait, apps, map[string]any{"tag": tag, "scope": scope.Profile})
			}
			c, err := s.client()
			if err != nil {
				return err
			}
			raw, err := c.Put(cmd.Context(), "/app-tags", request)
			if err != nil {
				return err
			}
			return s.changed(cmd.Context(), c, wait, raw, "tagged %s as %s", strings.Join(eachOnce(apps), ", "), tag)
		},
	}
	scope.Add(cmd, "include-group")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what the tag would do, and do not set it")
	trial.add(cmd)
	wait.add(cmd)
	return cmd
}
