package cli

import (
	"cmp"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"interdict/internal/alert"
	"interdict/internal/cli/output"
	"interdict/internal/cli/usage"
)

func newAlertCmd(s *session) *cobra.Command {
	return usage.Parent("alert", "Look at alerts",
		`An alert gathers what was refused to one device about one app on one day, with a
count. What audit mode lets through raises none.`,
		newAlertListCmd(s), newAlertShowCmd(s))
}

func alertColumns() []column[alert.Alert] {
	return []column[alert.Alert]{
		{"id", func(a alert.Alert) string { return a.ID }},
		{"severity", func(a alert.Alert) string { return string(a.Severity) }},
		{"title", func(a alert.Alert) string { return a.Title }},
		{"device", func(a alert.Alert) string { return cmp.Or(a.DeviceName, a.DeviceID) }},
		{"user", func(a alert.Alert) string { return a.User }},
		{"count", func(a alert.Alert) string { return strconv.Itoa(a.Count) }},
		{"last_seen", func(a alert.Alert) string { return output.Time(a.LastSeen) }},
	}
}

func newAlertListCmd(s *session) *cobra.Command {
	var device, app string
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the alerts, newest first",
		Example: "  interdict alert list --device alice-pc",
		Args:    usage.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			setQuery(q, "device", device)
			setQuery(q, "app", app)
			return list(s, cmd, "/alerts", q, limit, alertColumns())
		},
	}
	cmd.Flags().StringVar(&device, "device", "", "only of the device with this `name` or id")
	cmd.Flags().StringVar(&app, "app", "", "only about the app with this `id` or name")
	addLimitFlag(cmd, &limit)
	return cmd
}

func newAlertShowCmd(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show one alert",
		Args:  usage.Exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return show(s, cmd, "/alerts/"+url.PathEscape(args[0]), append(alertColumns(),
				column[alert.Alert]{"app", func(a alert.Alert) string { return a.AppID }},
				column[alert.Alert]{"indicator", func(a alert.Alert) string { return a.IndicatorID }},
				column[alert.Alert]{"host", func(a alert.Alert) string { return a.Host }},
				column[alert.Alert]{"action", func(a alert.Alert) string { return string(a.Action) }},
				column[alert.Alert]{"first_seen", func(a alert.Alert) string { return output.Time(a.FirstSeen) }}))
		},
	}
}
