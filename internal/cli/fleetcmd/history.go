package fleetcmd

import (
	"cmp"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/cli/output"
	"interdict/internal/cli/session"
	"interdict/internal/cli/usage"
	"interdict/internal/fleet"
)

// policyEdit is what made a version of a policy, as the API shows it.
type policyEdit struct {
	Version uint64             `json:"version"`
	At      time.Time          `json:"at"`
	By      string             `json:"by"`
	Changes []fleet.Difference `json:"changes"`
}

func newPolicyHistoryCmd(s *session.Session) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:     "history NAME",
		Short:   "Show who changed what in a policy, the newest version first",
		Example: "  interdict policy history standard --limit 5",
		Args:    usage.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return session.List(s, cmd, "/policies/"+url.PathEscape(args[0])+"/history", nil, limit, []output.Column[policyEdit]{
				{Head: "version", Cell: func(e policyEdit) string { return versionText(e.Version) }},
				{Head: "when", Cell: func(e policyEdit) string { return output.Time(e.At) }},
				{Head: "who", Cell: func(e policyEdit) string { return e.By }},
				{Head: "changes", Cell: policyEdit.text},
			})
		},
	}
	usage.AddLimit(cmd, &limit)
	return cmd
}

func (e policyEdit) text() string {
	all := make([]string, 0, len(e.Changes))
	for _, c := range e.Changes {
		text := strings.TrimPrefix(c.Field, "settings.") + " "
		if c.Before != "" {
			text += c.Before + " -> "
		}
		all = append(all, text+cmp.Or(c.After, "none"))
	}
	return strings.Join(all, "; ")
}
