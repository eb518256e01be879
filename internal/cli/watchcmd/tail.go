package watchcmd

import (
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/cli/eventexpr"
	"interdict/internal/cli/output"
	"interdict/internal/cli/session"
	"interdict/internal/cli/usage"
	"interdict/internal/fault"
)

// pollEvents is how often 'event tail' looks for new events.
const pollEvents = 500 * time.Millisecond

func newEventTailCmd(s *session.Session) *cobra.Command {
	return &cobra.Command{
		Use:   "tail [EXPR]",
		Short: "Print events as they arrive, until interrupted",
		Long: `Tail prints events when they arrive at the server, from now on.

` + eventexpr.Help + `

With --output json each event is one line. An event that repeats is printed
again with a higher count. When the server is away for a while, the tail goes on
where it was.`,
		Example: `  interdict event tail
  interdict event tail event_id=1126 app=itunes`,
		Args: usage.AtLeast(),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := eventexpr.Parse(strings.Join(args, " "), time.Now())
			if err != nil {
				return err
			}
			c, err := s.Client()
			if err != nil {
				return err
			}
			// One width for each of eventColumns.
			table := output.NewLiveTable(20, 8, 9, 12, 12, 32, 10, 8, 5)
			t := &eventTail{session: s, client: c, query: q, table: table}
			return t.run(cmd.Context())
		},
	}
}

// eventTail prints events as they arrive.
type eventTail struct {
	session *session.Session
	client  *client.Client
	// query has the cursor after which events are new.
	query url.Values
	table *output.LiveTable
	// away is true while the server does not answer.
	away bool
}

// run prints until ctx ends, which is how a tail ends.
func (t *eventTail) run(ctx context.Context) error {
	tick := time.NewTicker(pollEvents)
	defer tick.Stop()
	t.query.Set("after", "now")
	n, err := t.once(ctx)
	if err == nil {
		err = t.begin()
	}
	for ctx.Err() == nil {
		if err != nil {
			return err
		}
		if n == 0 {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return nil
			}
		}
		n, err = t.outlive(t.once(ctx))
	}
	return nil
}

// begin prints what stands above the events.
func (t *eventTail) begin() error {
	var heads []string
	for _, c := range eventColumns() {
		heads = append(heads, c.Head)
	}
	return t.printRow(heads, func(head string) string { return strings.ToUpper(strings.ReplaceAll(head, "_", " ")) })
}

// outlive makes nothing of an error that ends by itself, such as that of a
// server that is started again. The user is told once.
func (t *eventTail) outlive(n int, err error) (int, error) {
	switch code := fault.CodeOf(err); {
	case code == fault.Unreachable || code == fault.Unavailable:
		if !t.away {
			fmt.Fprintf(t.session.Stderr, "%s; the tail goes on when it does\n", output.Printable(err.Error()))
		}
		t.away = true
		return 0, nil
	case err == nil && t.away:
		fmt.Fprintln(t.session.Stderr, "the server answers again")
		t.away = false
	}
	return n, err
}

// once prints what arrived after the cursor, moves the cursor, and returns how
// much it was.
func (t *eventTail) once(ctx context.Context) (int, error) {
	raw, err := t.client.Get(ctx, "/events", t.query)
	if err != nil {
		return 0, err
	}
	p, err := client.Decode[client.Page](raw)
	if err != nil {
		return 0, err
	}
	for _, item := range p.Items {
		if err := t.printEvent(item); err != nil {
			return 0, err
		}
	}
	if p.Next != "" {
		t.query.Set("after", p.Next)
	}
	return len(p.Items), nil
}

// printEvent prints one event as one line.
func (t *eventTail) printEvent(raw json.RawMessage) error {
	if t.session.Format == output.FormatJSON {
		_, err := fmt.Fprintf(t.session.Stdout, "%s\n", raw)
		return err
	}
	e, err := client.Decode[eventView](raw)
	if err != nil {
		return err
	}
	var row []string
	for _, c := range eventColumns() {
		row = append(row, c.Cell(e))
	}
	return t.printRow(row, func(cell string) string { return cmp.Or(cell, "-") })
}

// printRow prints one row of a table or of CSV. In a table each cell is
// written as shown says.
func (t *eventTail) printRow(row []string, shown func(string) string) error {
	switch t.session.Format {
	case output.FormatJSON:
		return nil
	case output.FormatCSV:
		return csv.NewWriter(t.session.Stdout).WriteAll([][]string{row})
	}
	cells := make([]string, len(row))
	for i, c := range row {
		cells[i] = output.Printable(shown(c))
	}
	_, err := fmt.Fprintln(t.session.Stdout, t.table.Line(cells))
	return err
}
