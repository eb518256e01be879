package cli

import (
	"cmp"
	"encoding/json"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/cli/output"
	"interdict/internal/cli/usage"
)

func newAuditLogCmd(s *session) *cobra.Command {
	return usage.Parent("audit-log", "Look at who changed what, and who tried",
		`The audit log has every change with who made it, what it was before and what it
became, and every attempt that was refused.`,
		newAuditLogListCmd(s))
}

// auditEntry is a line of the audit log as the API shows it.
type auditEntry struct {
	Time      time.Time `json:"time"`
	ActorKind string    `json:"actor_kind"`
	Actor     string    `json:"actor"`
	Action    string    `json:"action"`
	Target    string    `json:"target"`
	Before    thing     `json:"before"`
	After     thing     `json:"after"`
	Refused   string    `json:"refused"`
	Source    string    `json:"source"`
}

// thing is what people know the target of a change by.
type thing struct {
	name string
}

// UnmarshalJSON takes the name of a device, group, policy or token, and the
// value of an indicator. Other changes are of other forms, and have neither.
func (t *thing) UnmarshalJSON(b []byte) error {
	var v struct {
		Name   string `json:"name"`
		Value  string `json:"value"`
		Device struct {
			Name string `json:"name"`
		} `json:"device"`
	}
	if err := json.Unmarshal(b, &v); err == nil {
		t.name = cmp.Or(v.Name, v.Value, v.Device.Name)
	}
	return nil
}

func newAuditLogListCmd(s *session) *cobra.Command {
	var actor, action, target string
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the audit log, newest first",
		Long:  "With --output json the entries have what was changed, before and after.",
		Args:  usage.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			setQuery(q, "actor", actor)
			setQuery(q, "action", action)
			setQuery(q, "target", target)
			return list(s, cmd, "/audit-log", q, limit, []column[auditEntry]{
				{"time", func(e auditEntry) string { return output.Time(e.Time) }},
				{"actor", func(e auditEntry) string { return cmp.Or(e.Actor, e.ActorKind) }},
				{"action", func(e auditEntry) string { return e.Action }},
				{"target", func(e auditEntry) string { return cmp.Or(e.After.name, e.Before.name, e.Target) }},
				{"refused", func(e auditEntry) string { return e.Refused }},
				{"source", func(e auditEntry) string { return e.Source }},
			})
		},
	}
	cmd.Flags().StringVar(&actor, "actor", "", "only of the device or API token with this `name` or id")
	cmd.Flags().StringVar(&action, "action", "", "only this `action`, such as app.tag")
	cmd.Flags().StringVar(&target, "target", "", "only about the thing with this `name` or id")
	cmd.Flags().IntVar(&limit, "limit", 100, "print at most this `number`; 0 prints all")
	return cmd
}
