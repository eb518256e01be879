package watchcmd

import (
	"cmp"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/access"
	"interdict/internal/cli/client"
	"interdict/internal/cli/moment"
	"interdict/internal/cli/output"
	"interdict/internal/cli/session"
	"interdict/internal/cli/usage"
)

// NewRequest makes the commands about requests for access.
func NewRequest(s *session.Session) *cobra.Command {
	return usage.Parent("request", "Decide what users ask access for",
		`A user whose connection was refused can ask for access. Approving a request makes
allow indicators that expire, by default for that user on that device and for 8
hours; denying it answers the user. Either way the user is told at once.`,
		newRequestListCmd(s), newRequestShowCmd(s), newRequestApproveCmd(s), newRequestDenyCmd(s), newRequestRevokeCmd(s))
}

// accessRequest is a request as the API shows it.
type accessRequest struct {
	access.Request

	DeviceName string `json:"device_name"`
}

// who and what name the user, and what the request is about.
func (r accessRequest) who() string { return cmp.Or(r.User, "#"+strconv.FormatUint(uint64(r.UID), 10)) }

func (r accessRequest) what() string { return cmp.Or(r.AppName, r.AppID, r.Host) }

func (r accessRequest) where() string { return cmp.Or(r.DeviceName, string(r.Device)) }

func requestColumns() []output.Column[accessRequest] {
	return []output.Column[accessRequest]{
		{Head: "id", Cell: func(r accessRequest) string { return r.ID }},
		{Head: "state", Cell: func(r accessRequest) string { return string(r.State) }},
		{Head: "user", Cell: accessRequest.who},
		{Head: "device", Cell: accessRequest.where},
		{Head: "app", Cell: accessRequest.what},
		{Head: "reason", Cell: func(r accessRequest) string { return strings.ReplaceAll(r.Reason, "\n", " ") }},
		{Head: "asked", Cell: func(r accessRequest) string { return output.Time(r.AskedAt) }},
		{Head: "until", Cell: func(r accessRequest) string { return output.Time(r.Until) }},
	}
}

func newRequestListCmd(s *session.Session) *cobra.Command {
	var state, device, app, user string
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List requests for access, newest first, and how many are pending",
		Example: `  interdict request list --state pending
  interdict request list --app itunes --user ada`,
		Args: usage.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			client.SetQuery(q, "state", state)
			client.SetQuery(q, "device", device)
			client.SetQuery(q, "app", app)
			client.SetQuery(q, "user", user)
			if err := session.List(s, cmd, "/requests", q, limit, requestColumns()); err != nil || s.Format != output.FormatTable {
				return err
			}
			return sayPending(s, cmd)
		},
	}
	cmd.Flags().StringVar(&state, "state", "", "only in this `state`: pending, approved, denied or revoked")
	cmd.Flags().StringVar(&device, "device", "", "only from the device with this `name` or id")
	cmd.Flags().StringVar(&app, "app", "", "only about the app with this `id` or name")
	cmd.Flags().StringVar(&user, "user", "", "only of the user with this login `name`")
	usage.AddLimit(cmd, &limit)
	return cmd
}

// sayPending says how many requests wait for somebody to decide them.
func sayPending(s *session.Session, cmd *cobra.Command) error {
	c, err := s.Client()
	if err != nil {
		return err
	}
	raw, err := c.Get(cmd.Context(), "/requests", url.Values{"limit": {"1"}})
	if err != nil {
		return err
	}
	p, err := client.Decode[struct{ Pending int }](raw)
	if err == nil && p.Pending > 0 {
		fmt.Fprintf(s.Stderr, "%s pending: approve or deny with 'interdict request'\n", output.Count(p.Pending, "request is", "requests are"))
	}
	return err
}

func newRequestShowCmd(s *session.Session) *cobra.Command {
	return &cobra.Command{
		Use:     "show ID",
		Short:   "Show one request for access",
		Example: "  interdict request show 01JDCZ5X0B8K3T4M6N7P8Q9RST",
		Args:    usage.Exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return session.Show(s, cmd, "/requests/"+url.PathEscape(args[0]), append(requestColumns(),
				output.Column[accessRequest]{Head: "host", Cell: func(r accessRequest) string { return r.Host }},
				output.Column[accessRequest]{Head: "process", Cell: func(r accessRequest) string { return r.Process }},
				output.Column[accessRequest]{Head: "decided_by", Cell: func(r accessRequest) string { return r.DecidedBy }},
				output.Column[accessRequest]{Head: "decided", Cell: func(r accessRequest) string { return output.Time(r.DecidedAt) }},
				output.Column[accessRequest]{Head: "note", Cell: func(r accessRequest) string { return r.Note }},
				output.Column[accessRequest]{Head: "indicators", Cell: func(r accessRequest) string { return strings.Join(r.Indicators, ", ") }}))
		},
	}
}

// approval is the body of an approval.
type approval struct {
	Until time.Time `json:"until,omitzero"`
	For   string    `json:"for,omitempty"`
	Reach string    `json:"reach,omitempty"`
	Note  string    `json:"note,omitempty"`
}

func newRequestApproveCmd(s *session.Session) *cobra.Command {
	var length time.Duration
	var until string
	var body approval
	var wait session.Wait
	cmd := &cobra.Command{
		Use:   "approve ID",
		Short: "Give the access that a user asks for, for a while",
		Long: `Approve makes allow indicators that expire: one for each domain of the app that
no other app shares, or for the host where it belongs to no app. They win over
what blocks the app, and 'interdict request revoke' deletes them again.

--scope says for whom: "user" is the user on the device they asked from,
"device" everybody on that device, "user-everywhere" the user of that name on
every device.`,
		Example: `  interdict request approve 01JDCZ5X0B8K3T4M6N7P8Q9RST
  interdict request approve 01JDCZ5X0B8K3T4M6N7P8Q9RST --for 48h --scope device --note "for the fair"`,
		Args: usage.Exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if until != "" && length != 0 {
				return usage.Fault(cmd, "give either --for or --until")
			}
			if cmd.Flags().Changed("for") {
				body.For = length.String()
			}
			if until != "" {
				var err error
				if body.Until, err = moment.Parse("--until", until, time.Now(), moment.Ahead); err != nil {
					return err
				}
			}
			return decide(s, cmd, args[0], wait, decision{verb: "approve", body: body, say: func(r accessRequest) string {
				return fmt.Sprintf("gave %s access to %s until %s", r.who(), r.what(), output.Time(r.Until))
			}})
		},
	}
	cmd.Flags().DurationVar(&length, "for", 0, "how long access is given, a `time` such as 30m or 48h; 8h if neither this nor --until is given")
	cmd.Flags().StringVar(&until, "until", "", "when access ends, a `time`: 7d, 2026-12-31 or 2026-12-31T18:00:00Z")
	cmd.Flags().StringVar(&body.Reach, "scope", "", "for `whom`: user (usual), device or user-everywhere")
	cmd.Flags().StringVar(&body.Note, "note", "", "a `text` that the user is told")
	wait.Add(cmd)
	return cmd
}

func newRequestDenyCmd(s *session.Session) *cobra.Command {
	var body approval
	cmd := &cobra.Command{
		Use:     "deny ID",
		Short:   "Deny a request for access",
		Example: `  interdict request deny 01JDCZ5X0B8K3T4M6N7P8Q9RST --note "use the company's own store"`,
		Args:    usage.Exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return decide(s, cmd, args[0], session.Wait{}, decision{verb: "deny", body: body, say: func(r accessRequest) string {
				return fmt.Sprintf("denied %s access to %s", r.who(), r.what())
			}})
		},
	}
	cmd.Flags().StringVar(&body.Note, "note", "", "a `text` that the user is told")
	return cmd
}

func newRequestRevokeCmd(s *session.Session) *cobra.Command {
	var body approval
	var wait session.Wait
	cmd := &cobra.Command{
		Use:     "revoke ID",
		Short:   "Take back access that was given",
		Example: "  interdict request revoke 01JDCZ5X0B8K3T4M6N7P8Q9RST --wait",
		Args:    usage.Exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return decide(s, cmd, args[0], wait, decision{verb: "revoke", body: body, say: func(r accessRequest) string {
				return fmt.Sprintf("took back the access of %s to %s", r.who(), r.what())
			}})
		},
	}
	cmd.Flags().StringVar(&body.Note, "note", "", "a `text` that the user is told in place of the one before")
	wait.Add(cmd)
	return cmd
}

// decision is what is done about a request.
type decision struct {
	verb string
	body approval
	// say says what was done.
	say func(accessRequest) string
}

func decide(s *session.Session, cmd *cobra.Command, id string, wait session.Wait, d decision) error {
	c, err := s.Client()
	if err != nil {
		return err
	}
	raw, err := c.Post(cmd.Context(), "/requests/"+url.PathEscape(id)+"/"+d.verb, d.body)
	if err != nil {
		return err
	}
	r, err := client.Decode[accessRequest](raw)
	if err != nil {
		return err
	}
	return s.Changed(cmd, wait, raw, "%s", d.say(r))
}
