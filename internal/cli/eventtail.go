package cli

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/fault"
)

// pollEvents is how often 'event tail' looks for new events.
const pollEvents = 500 * time.Millisecond

func newEventTailCmd(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "tail [EXPR]",
		Short: "Print events as they arrive, until interrupted",
		Long: eventExprHelp + `

With --output json each event is one line. An event that repeats is printed
again with a higher count. When the server is away for a while, the tail goes on
where it was.`,
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
			return (&eventTail{session: s, client: c, query: q}).run(cmd.Context())
		},
	}
}

// eventTail prints events as they arrive.
type eventTail struct {
	session *session
	client  *client.Client
	// query has the cursor after which events are new.
	query url.Values
	table liveTable
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
		heads = append(heads, c.head)
	}
	return t.printRow(heads, func(head string) string { return strings.ToUpper(strings.ReplaceAll(head, "_", " ")) })
}

// outlive makes nothing of an error that ends by itself, such as that of a
// server that is started again. The user is told once.
func (t *eventTail) outlive(n int, err error) (int, error) {
	switch code := fault.CodeOf(err); {
	case code == fault.Unreachable || code == fault.Unavailable:
		if !t.away {
			fmt.Fprintf(t.session.Stderr, "%s; the tail goes on when it does\n", printable(err.Error()))
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
	if t.session.format == formatJSON {
		_, err := fmt.Fprintf(t.session.Stdout, "%s\n", raw)
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
	return t.printRow(row, func(cell string) string { return first(cell, "-") })
}

// printRow prints one row of a table or of CSV. In a table each cell is
// written as shown says.
func (t *eventTail) printRow(row []string, shown func(string) string) error {
	switch t.session.format {
	case formatJSON:
		return nil
	case formatCSV:
		return csv.NewWriter(t.session.Stdout).WriteAll([][]string{row})
	}
	cells := make([]string, len(row))
	for i, c := range row {
		cells[i] = printable(shown(c))
	}
	_, err := fmt.Fprintln(t.session.Stdout, t.table.line(cells))
	return err
}

// liveTable aligns rows that come one by one. Its columns are as wide as the
// widest cell so far, and wide enough for what is usual from the start.
type liveTable struct{ widths []int }

// usualWidths are those of the columns of events.
func usualWidths() []int { return []int{20, 8, 9, 12, 12, 32, 10, 8, 5} }

// line returns the cells of a row side by side.
func (t *liveTable) line(cells []string) string {
	if t.widths == nil {
		t.widths = usualWidths()
	}
	var b strings.Builder
	for i, c := range cells {
		n := utf8.RuneCountInString(c)
		t.widths[i] = max(t.widths[i], n)
		b.WriteString(c)
		if i < len(cells)-1 {
			b.WriteString(strings.Repeat(" ", t.widths[i]-n+2))
		}
	}
	return b.String()
}
