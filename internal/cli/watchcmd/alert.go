package watchcmd

import (
	"cmp"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"interdict/internal/alert"
	"interdict/internal/cli/client"
	"interdict/internal/cli/output"
	"interdict/internal/cli/session"
	"interdict/internal/cli/usage"
)

// NewAlert makes the commands about alerts.
func NewAlert(s *session.Session) *cobra.Command {
	return usage.Parent("alert", "Look at alerts",
		`An alert gathers what was refused to one device about one app on one day, with a
count. What audit mode lets through raises none.`,
		newAlertListCmd(s), newAlertShowCmd(s))
}

func alertColumns() []output.Column[alert.Alert] {
	return []output.Column[alert.Alert]{
		{Head: "id", Cell: func(a alert.Alert) string { return a.ID }},
		{Head: "severity", Cell: func(a alert.Alert) string { return string(a.Severity) }},
		{Head: "title", Cell: func(a alert.Alert) string { return a.Title }},
		{Head: "device", Cell: func(a alert.Alert) string { return cmp.Or(a.DeviceName, a.DeviceID) }},
		{Head: "user", Cell: func(a alert.Alert) string { return a.User }},
		{Head: "count", Cell: func(a alert.Alert) string { return strconv.Itoa(a.Count) }},
		{Head: "last_seen", Cell: func(a alert.Alert) string { return output.Time(a.LastSeen) }},
	}
}

func newAlertListCmd(s *session.Session) *cobra.Command {
	var device, app string
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the alerts, newest first",
		Example: "  interdict alert list --device alice-pc",
		Args:    usage.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			client.SetQuery(q, "device", device)
			client.SetQuery(q, "app", app)
			return session.List(s, cmd, "/alerts", q, limit, alertColumns())
		},
	}
	cmd.Flags().StringVar(&device, "device", "", "only of the device with this `name` or id")
	cmd.Flags().StringVar(&app, "app", "", "only about the app with this `id` or name")
	usage.AddLimit(cmd, &limit)
	return cmd
}

func newAlertShowCmd(s *session.Session) *cobra.Command {
	return &cobra.Command{
		Use:     "show ID",
		Short:   "Show one alert",
		Example: "  interdict alert show 01M84SC2ZQCA2EHZJHB86FZB6Z",
		Args:    usage.Exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return session.Show(s, cmd, "/alerts/"+url.PathEscape(args[0]), append(alertColumns(),
				output.Column[alert.Alert]{Head: "app", Cell: func(a alert.Alert) string { return a.AppID }},
				output.Column[alert.Alert]{Head: "indicator", Cell: func(a alert.Alert) string { return a.IndicatorID }},
				output.Column[alert.Alert]{Head: "host", Cell: func(a alert.Alert) string { return a.Host }},
				output.Column[alert.Alert]{Head: "action", Cell: func(a alert.Alert) string { return string(a.Action) }},
				output.Column[alert.Alert]{Head: "first_seen", Cell: func(a alert.Alert) string { return output.Time(a.FirstSeen) }}))
		},
	}
}
