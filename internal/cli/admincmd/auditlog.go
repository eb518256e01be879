package admincmd

import (
	"cmp"
	"encoding/json"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/cli/output"
	"interdict/internal/cli/session"
	"interdict/internal/cli/usage"
)

// NewAuditLog makes the commands about the audit log.
func NewAuditLog(s *session.Session) *cobra.Command {
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

// UnmarshalJSON takes the name of a device, group, policy or token, the value of
// an indicator, and what a rollout changes. Other changes are of other forms, and
// have neither.
func (t *thing) UnmarshalJSON(b []byte) error {
	type named struct {
		Name string `json:"name"`
	}
	var v struct {
		named
		Value    string `json:"value"`
		Device   named  `json:"device"`
		Policy   named  `json:"after_policy"`
		AfterTag struct {
			App string `json:"app_id"`
		} `json:"after_tag"`
	}
	if err := json.Unmarshal(b, &v); err == nil {
		t.name = cmp.Or(v.Name, v.Value, v.Device.Name, v.Policy.Name, v.AfterTag.App)
	}
	return nil
}

func newAuditLogListCmd(s *session.Session) *cobra.Command {
	var actor, action, target string
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the audit log, newest first",
		Long: `List prints who did what, the newest first. With --output json the entries have
what was changed, before and after.`,
		Example: `  interdict audit-log list --actor admin-token
  interdict audit-log list --action app.tag --target itunes --output json`,
		Args: usage.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			client.SetQuery(q, "actor", actor)
			client.SetQuery(q, "action", action)
			client.SetQuery(q, "target", target)
			return session.List(s, cmd, "/audit-log", q, limit, []output.Column[auditEntry]{
				{Head: "time", Cell: func(e auditEntry) string { return output.Time(e.Time) }},
				{Head: "actor", Cell: func(e auditEntry) string { return cmp.Or(e.Actor, e.ActorKind) }},
				{Head: "action", Cell: func(e auditEntry) string { return e.Action }},
				{Head: "target", Cell: func(e auditEntry) string { return cmp.Or(e.After.name, e.Before.name, e.Target) }},
				{Head: "refused", Cell: func(e auditEntry) string { return e.Refused }},
				{Head: "source", Cell: func(e auditEntry) string { return e.Source }},
			})
		},
	}
	cmd.Flags().StringVar(&actor, "actor", "", "only of the device or API token with this `name` or id")
	cmd.Flags().StringVar(&action, "action", "", "only this `action`, such as app.tag")
	cmd.Flags().StringVar(&target, "target", "", "only about the thing with this `name` or id")
	cmd.Flags().IntVar(&limit, "limit", 100, "print at most this `number`; 0 prints all")
	return cmd
}
