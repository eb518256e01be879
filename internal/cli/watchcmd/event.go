// Package watchcmd has the commands by which somebody watches what devices and
// their users do, and answers to it: events and alerts, requests for access, and
// who goes on after a warning.
package watchcmd

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/cli/eventexpr"
	"interdict/internal/cli/output"
	"interdict/internal/cli/session"
	"interdict/internal/cli/usage"
	"interdict/internal/event"
)

// NewEvent makes the commands about events.
func NewEvent(s *session.Session) *cobra.Command {
	return usage.Parent("event", "Look at what devices reported",
		`An event is one thing a device saw or did. Its number says what: 5007 a setting
changed, 1125 a connection would have been refused (audit mode), 1126 a
connection was refused, 1129 a user went on after a warning, 8003 and 8004 the
same as 1125 and 1126 for the start of a program.`,
		newEventQueryCmd(s), newEventTailCmd(s))
}

// eventView is an event as the API shows it.
type eventView struct {
	event.Event

	DeviceName string `json:"device_name"`
}

func eventColumns() []output.Column[eventView] {
	return []output.Column[eventView]{
		{Head: "time", Cell: func(e eventView) string { return output.Time(e.Time) }},
		{Head: "event_id", Cell: func(e eventView) string { return strconv.Itoa(int(e.EventID)) }},
		{Head: "action", Cell: func(e eventView) string { return string(e.Action) }},
		{Head: "device", Cell: func(e eventView) string { return cmp.Or(e.DeviceName, e.Device) }},
		{Head: "app", Cell: func(e eventView) string { return cmp.Or(e.AppName, e.AppID) }},
		{Head: "destination", Cell: eventDestination},
		{Head: "process", Cell: func(e eventView) string {
			if e.Process.Path == "" {
				return ""
			}
			return filepath.Base(e.Process.Path)
		}},
		{Head: "user", Cell: func(e eventView) string { return e.User.Name }},
		{Head: "count", Cell: func(e eventView) string { return strconv.Itoa(e.Count) }},
	}
}

// eventDestination says where a connection went, or what else the event is
// about.
func eventDestination(e eventView) string {
	if c := e.Change; c != nil {
		return fmt.Sprintf("%s: %s -> %s", c.Setting, c.Old, c.New)
	}
	host := e.Destination.Host
	if host == "" && e.Destination.IP.IsValid() {
		host = e.Destination.IP.String()
	}
	if host == "" {
		return e.Reason
	}
	if e.Destination.Port != 0 {
		return fmt.Sprintf("%s port %d", host, e.Destination.Port)
	}
	return host
}

func newEventQueryCmd(s *session.Session) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "query [EXPR]",
		Short: "Print the events that match an expression, newest first",
		Long: `Query prints what devices have reported, the newest first; with --output json all
that is known of each.

` + eventexpr.Help,
		Example: `  interdict event query event_id=1126 app=itunes since=1h
  interdict event query 'device=alice-pc host=apple.com' --limit 0 --output csv`,
		Args: usage.AtLeast(),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := eventexpr.Parse(strings.Join(args, " "), time.Now())
			if err != nil {
				return err
			}
			return session.List(s, cmd, "/events", q, limit, eventColumns())
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 100, "print at most this `number`; 0 prints all")
	return cmd
}
