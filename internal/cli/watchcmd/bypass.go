package watchcmd

import (
	"cmp"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/cli/output"
	"interdict/internal/cli/session"
	"interdict/internal/cli/usage"
)

// NewBypass makes the commands about going on after a warning.
func NewBypass(s *session.Session) *cobra.Command {
	return usage.Parent("bypass", "See who goes on after a warning, and end that",
		`A user who is warned about a monitored app may go on for a while. The commands
here show who does so now, and end it at once. A user who is warned again may go
on again: to stop that, tag the app as unsanctioned.`,
		newBypassListCmd(s), newBypassRevokeCmd(s))
}

// bypassView is a bypass as the API shows it.
type bypassView struct {
	Device     string    `json:"device"`
	DeviceName string    `json:"device_name"`
	User       string    `json:"user"`
	UID        *uint32   `json:"uid"`
	Subject    string    `json:"subject"`
	AppName    string    `json:"app_name"`
	Host       string    `json:"host"`
	Process    string    `json:"process"`
	Reason     string    `json:"reason"`
	Since      time.Time `json:"since"`
	Until      time.Time `json:"until"`
}

func bypassColumns() []output.Column[bypassView] {
	return []output.Column[bypassView]{
		{Head: "user", Cell: func(b bypassView) string {
			if b.User == "" && b.UID != nil {
				return "#" + strconv.FormatUint(uint64(*b.UID), 10)
			}
			return b.User
		}},
		{Head: "device", Cell: func(b bypassView) string { return cmp.Or(b.DeviceName, b.Device) }},
		{Head: "app", Cell: func(b bypassView) string { return cmp.Or(b.AppName, b.Host) }},
		{Head: "subject", Cell: func(b bypassView) string { return b.Subject }},
		{Head: "process", Cell: func(b bypassView) string { return b.Process }},
		{Head: "since", Cell: func(b bypassView) string { return output.Time(b.Since) }},
		{Head: "until", Cell: func(b bypassView) string { return output.Time(b.Until) }},
		{Head: "reason", Cell: func(b bypassView) string { return strings.ReplaceAll(b.Reason, "\n", " ") }},
	}
}

func newBypassListCmd(s *session.Session) *cobra.Command {
	var device, app, user string
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List who goes on after a warning now, newest first",
		Example: "  interdict bypass list --app dropbox",
		Args:    usage.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			client.SetQuery(q, "device", device)
			client.SetQuery(q, "app", app)
			client.SetQuery(q, "user", user)
			return session.List(s, cmd, "/bypasses", q, limit, bypassColumns())
		},
	}
	cmd.Flags().StringVar(&device, "device", "", "only on the device with this `name` or id")
	cmd.Flags().StringVar(&app, "app", "", "only of the app with this `id` or name, or the indicator with this id")
	cmd.Flags().StringVar(&user, "user", "", "only of the user with this login `name`")
	usage.AddLimit(cmd, &limit)
	return cmd
}

// bypassRevocation is the body of a revocation.
type bypassRevocation struct {
	App    string `json:"app,omitempty"`
	All    bool   `json:"all,omitempty"`
	User   string `json:"user,omitempty"`
	Device string `json:"device,omitempty"`
}

// what says what a revocation ends.
func (r bypassRevocation) what() string {
	text := "bypasses of " + cmp.Or(r.App, "everything")
	if r.User != "" {
		text += " by " + r.User
	}
	if r.Device != "" {
		text += " on " + r.Device
	}
	return text
}

func newBypassRevokeCmd(s *session.Session) *cobra.Command {
	var r bypassRevocation
	var wait session.Wait
	cmd := &cobra.Command{
		Use:   "revoke APP|INDICATOR | --all",
		Short: "End bypasses at once",
		Long: `Revoke ends the bypasses of an app, or of an indicator that belongs to none, on
all devices and for everybody, unless --user and --device say otherwise. It ends
those too that a device has not reported yet.`,
		Example: `  interdict bypass revoke dropbox --user ada
  interdict bypass revoke --all --device alice-pc --wait`,
		Args: func(cmd *cobra.Command, args []string) error {
			if r.All {
				return usage.Exactly()(cmd, args)
			}
			return usage.Exactly("APP")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				r.App = args[0]
			}
			c, err := s.Client()
			if err != nil {
				return err
			}
			raw, err := c.Post(cmd.Context(), "/bypasses/revoke", r)
			if err != nil {
				return err
			}
			done, err := client.Decode[struct{ Bypasses int }](raw)
			if err != nil {
				return err
			}
			return s.Changed(cmd, wait, raw, "revoked %s; %s", r.what(), output.Count(done.Bypasses, "was in use", "were in use"))
		},
	}
	cmd.Flags().StringVar(&r.User, "user", "", "only of the user with this login `name`")
	cmd.Flags().StringVar(&r.Device, "device", "", "only on the device with this `name` or id")
	cmd.Flags().BoolVar(&r.All, "all", false, "of all apps and indicators")
	wait.Add(cmd)
	return cmd
}
