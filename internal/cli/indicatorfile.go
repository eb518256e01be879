package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/fault"
	"interdict/internal/indicator"
)

// The columns of an indicator file, as import reads and export writes it.
var importColumns = []string{"type", "value", "action", "severity", "expires", "include_groups", "exclude_groups", "alert", "description"}

func newIndicatorExportCmd(s *session) *cobra.Command {
	return &cobra.Command{
		Use:     "export",
		Short:   "Write the custom indicators as CSV, as import reads it",
		Example: "  interdict indicator export > indicators.csv",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			groups, err := s.names(cmd, "/groups")
			if err != nil {
				return err
			}
			items, err := s.listRaw(cmd, "/indicators", url.Values{"source": {"custom"}}, 0)
			if err != nil {
				return err
			}
			var rows [][]string
			for _, raw := range items {
				i, err := client.Decode[indicator.Indicator](raw)
				if err != nil {
					return err
				}
				rows = append(rows, []string{
					string(i.Type), i.Value, string(i.Action), string(i.Severity), formatTime(i.ExpiresAt),
					strings.Join(groups.all(i.Scope.Include), ";"), strings.Join(groups.all(i.Scope.Exclude), ";"), strconv.FormatBool(i.GenerateAlert), i.Description,
				})
			}
			return printCSV(s.Stdout, importColumns, rows)
		},
	}
}

func newIndicatorImportCmd(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE.csv",
		Short: "Add the indicators of a CSV file",
		Long: `Import adds an indicator for each line of a CSV file; "-" is standard input. The
first line names the columns: type, value and action are needed; severity,
expires, include_groups, exclude_groups (separated by semicolons), alert (true or
false) and description may be there. An indicator that exists already is left
alone, so a file may be imported again. Lines that break a rule are named, and
the others are added nevertheless.`,
		Example: "  interdict indicator import blocklist.csv",
		Args:    exactly("FILE.csv"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := s.open(args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			f, err := readIndicators(in, time.Now())
			if err != nil {
				return err
			}
			return s.importIndicators(cmd, f)
		},
	}
}

// importBatch is how many indicators go to the server at a time.
const importBatch = 1000

// indicatorFile is what is in a file of indicators.
type indicatorFile struct {
	rows []indicatorRow
	// refused are the lines that say nothing that could be sent.
	refused []refusedLine
}

// indicatorRow is an indicator, and the line of the file it begins in.
type indicatorRow struct {
	newIndicator

	line int
}

// refusedLine is a line that breaks a rule, and which one.
type refusedLine struct {
	line int
	rule string
}

func (s *session) importIndicators(cmd *cobra.Command, f indicatorFile) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	var sum imported
	refused := f.refused
	for batch := range slices.Chunk(f.rows, importBatch) {
		s.progress("added %d of %d", sum.Added, len(f.rows))
		done, err := sendIndicators(cmd, c, batch)
		s.endProgress()
		if err != nil {
			return err
		}
		sum.Added, sum.Existing = sum.Added+done.Added, sum.Existing+done.Existing
		for _, r := range done.Refused {
			for _, f := range r.Faults {
				refused = append(refused, refusedLine{batch[r.Row].line, f.Name + " " + f.Rule})
			}
			sum.Refused = append(sum.Refused, r)
		}
	}
	slices.SortStableFunc(refused, func(a, b refusedLine) int { return a.line - b.line })
	for _, r := range refused {
		fmt.Fprintf(s.Stderr, "line %d: %s\n", r.line, printable(r.rule))
	}
	n := len(f.refused) + len(sum.Refused)
	fmt.Fprintf(s.Stdout, "added %d, %d existed already, %d refused\n", sum.Added, sum.Existing, n)
	if n > 0 {
		return fault.New(fault.Conflict, "%s refused", count(n, "line was", "lines were")).
			WithHint("mend the lines named above and import the file again")
	}
	return nil
}

// sendIndicators sends one batch.
func sendIndicators(cmd *cobra.Command, c *client.Client, batch []indicatorRow) (imported, error) {
	body, err := c.Post(cmd.Context(), "/indicators/import", map[string]any{"indicators": batch})
	if err != nil {
		return imported{}, err
	}
	done, err := client.Decode[imported](body)
	if err != nil {
		return imported{}, err
	}
	for _, r := range done.Refused {
		if r.Row < 0 || r.Row >= len(batch) {
			return imported{}, fault.New(fault.Internal, "the server refused row %d of %d", r.Row, len(batch))
		}
	}
	return done, nil
}

// imported is the server's answer to an import.
type imported struct {
	Added    int `json:"added"`
	Existing int `json:"existing"`
	Refused  []struct {
		// Row counts from 0, in the order of what was sent.
		Row    int           `json:"row"`
		Faults []fault.Field `json:"errors"`
	} `json:"refused"`
}

// open opens a file, or standard input for "-".
func (s *session) open(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(s.Stdin), nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading the indicators: %w", err)
	}
	return f, nil
}

// readIndicators reads the lines of an indicator file. A line that cannot be
// read is refused and the next one read; only without the names of the columns
// nothing can be made of the file.
func readIndicators(in io.Reader, now time.Time) (indicatorFile, error) {
	r := csv.NewReader(in)
	head, err := r.Read()
	if err != nil {
		return indicatorFile{}, fault.New(fault.Invalid, "the file has no line with the names of the columns").Because(err).
			WithHint("the first line should be %s", strings.Join(importColumns, ","))
	}
	// Spreadsheets begin their files with a byte order mark.
	head[0] = strings.TrimPrefix(head[0], "\ufeff")
	for i, h := range head {
		if !slices.Contains(importColumns, h) {
			return indicatorFile{}, fault.New(fault.Invalid, "column %d is called %q", i+1, h).
				WithHint("the columns are %s", strings.Join(importColumns, ", "))
		}
	}
	var f indicatorFile
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return f, nil
		}
		if bad, ok := errors.AsType[*csv.ParseError](err); ok {
			f.refused = append(f.refused, refusedLine{bad.StartLine, bad.Err.Error()})
			continue
		}
		if err != nil {
			return indicatorFile{}, fmt.Errorf("reading the indicators: %w", err)
		}
		line, _ := r.FieldPos(0)
		n, err := readIndicator(head, row, now)
		if err != nil {
			f.refused = append(f.refused, refusedLine{line, err.Error()})
			continue
		}
		f.rows = append(f.rows, indicatorRow{n, line})
	}
}

func readIndicator(head, row []string, now time.Time) (newIndicator, error) {
	n := newIndicator{Alert: true}
	for i, v := range row {
		if v == "" {
			continue
		}
		switch head[i] {
		case "type":
			n.Type = v
		case "value":
			n.Value = v
		case "action":
			n.Action = v
		case "severity":
			n.Severity = v
		case "description":
			n.Description = v
		case "include_groups":
			n.Scope.Include = strings.Split(v, ";")
		case "exclude_groups":
			n.Scope.Exclude = strings.Split(v, ";")
		case "alert":
			b, err := strconv.ParseBool(v)
			if err != nil {
				return n, fmt.Errorf("alert is %q, not true or false", v)
			}
			n.Alert = b
		case "expires":
			t, err := parseMoment("expires", v, now, ahead)
			if err != nil {
				return n, err
			}
			n.ExpiresAt = t
		}
	}
	return n, nil
}
