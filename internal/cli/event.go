package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/event"
)

// pollEvents is how often 'event tail' looks for new events.
const pollEvents = 500 * time.Millisecond

func newEventCmd(s *session) *cobra.Command {
	return newParentCmd("event", "Look at what devices reported",
		`An event is one thing a device saw or did. Its number says what: 5007 a setting
changed, 1125 a connection would have been refused (audit mode), 1126 a
connection was refused, 1129 a user went on after a warning, 8003 and 8004 the
same as 1125 and 1126 for the start of a program.`,
		newEventQueryCmd(s), newEventTailCmd(s))
}

const eventExprHelp = `An expression is a list of terms, all of which must hold:

    event_id=1126         the number of the event
    app=itunes            the id of the app
    device=alice-pc       the name or id of the device
    host=apple.com        the destination, and every name below it
    action=blocked        config_changed, audited, blocked, warned, bypassed, ...
    user=alice            the user's name
    since=1h until=10m    a span before now, a date, or a time in RFC 3339

A value with spaces stands in double quotes.`

// eventView is an event as the API shows it.
type eventView struct {
	event.Event

	DeviceName string `json:"device_name"`
}

func eventColumns() []column[eventView] {
	return []column[eventView]{
		{"time", func(e eventView) string { return formatTime(e.Time) }},
		{"event_id", func(e eventView) string { return strconv.Itoa(int(e.EventID)) }},
		{"action", func(e eventView) string { return string(e.Action) }},
		{"device", func(e eventView) string { return first(e.DeviceName, e.Device) }},
		{"app", func(e eventView) string { return first(e.AppName, e.AppID) }},
		{"destination", eventDestination},
		{"process", func(e eventView) string {
			if e.Process.Path == "" {
				return ""
			}
			return filepath.Base(e.Process.Path)
		}},
		{"user", func(e eventView) string { return e.User.Name }},
		{"count", func(e eventView) string { return strconv.Itoa(e.Count) }},
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

func newEventQueryCmd(s *session) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "query [EXPR]",
		Short: "Print the events that match an expression, newest first",
		Long:  eventExprHelp,
		Example: `  interdict event query event_id=1126 app=itunes since=1h
  interdict event query 'device=alice-pc host=apple.com' --limit 0 --output csv`,
		Args: atLeast(),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := parseEventExpr(strings.Join(args, " "), time.Now())
			if err != nil {
				return err
			}
			return list(s, cmd, "/events", q, limit, eventColumns())
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 100, "print at most this `number`; 0 prints all")
	return cmd
}

func newEventTailCmd(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "tail [EXPR]",
		Short: "Print events as they arrive, until interrupted",
		Long: eventExprHelp + `

With --output json each event is one line. An event that repeats is printed
again with a higher count.`,
		Example: "  interdict event tail event_id=1126",
		Args:    atLeast(),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := parseEventExpr(strings.Join(args, " "), time.Now())
			if err != nil {
				return err
			}
			c, err := s.client()
			if err != nil {
				return err
			}
			return s.tail(cmd.Context(), c, q)
		},
	}
}

// tail prints events as they arrive until ctx ends.
func (s *session) tail(ctx context.Context, c *client.Client, q url.Values) error {
	tick := time.NewTicker(pollEvents)
	defer tick.Stop()
	q.Set("after", "now")
	for {
		n, err := s.tailOnce(ctx, c, q)
		if ctx.Err() != nil {
			// An interrupt is how a tail ends.
			return nil
		}
		if err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// tailOnce prints what arrived after the cursor in q, moves the cursor, and
// returns how much it was.
func (s *session) tailOnce(ctx context.Context, c *client.Client, q url.Values) (int, error) {
	raw, err := c.Get(ctx, "/events", q)
	if err != nil {
		return 0, err
	}
	p, err := client.Decode[client.Page](raw)
	if err != nil {
		return 0, err
	}
	for _, item := range p.Items {
		if err := s.printEvent(item); err != nil {
			return 0, err
		}
	}
	if p.Next != "" {
		q.Set("after", p.Next)
	}
	return len(p.Items), nil
}

// printEvent prints one event as one line.
func (s *session) printEvent(raw json.RawMessage) error {
	if s.format == formatJSON {
		_, err := fmt.Fprintf(s.Stdout, "%s\n", raw)
		return err
	}
	e, err := client.Decode[eventView](raw)
	if err != nil {
		return err
	}
	var row []string
	for _, c := range eventColumns() {
		row = append(row, c.cell(e))
	}
	if s.format == formatCSV {
		return printCSV(s.Stdout, row, nil)
	}
	for i := range row {
		row[i] = printable(first(row[i], "-"))
	}
	_, err = fmt.Fprintln(s.Stdout, strings.Join(row, "  "))
	return err
}
