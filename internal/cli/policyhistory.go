package cli

import (
	"cmp"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/cli/output"
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

func newPolicyHistoryCmd(s *session) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:     "history NAME",
		Short:   "Show who changed what in a policy, the newest version first",
		Example: "  interdict policy history standard --limit 5",
		Args:    usage.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return list(s, cmd, "/policies/"+url.PathEscape(args[0])+"/history", nil, limit, []column[policyEdit]{
				{"version", func(e policyEdit) string { return versionText(e.Version) }},
				{"when", func(e policyEdit) string { return output.Time(e.At) }},
				{"who", func(e policyEdit) string { return e.By }},
				{"changes", policyEdit.text},
			})
		},
	}
	addLimitFlag(cmd, &limit)
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
