package indicatorcmd

import (
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
	"interdict/internal/cli/indicatorfile"
	"interdict/internal/cli/output"
	"interdict/internal/cli/session"
	"interdict/internal/cli/usage"
	"interdict/internal/fault"
	"interdict/internal/indicator"
)

func newExportCmd(s *session.Session) *cobra.Command {
	return &cobra.Command{
		Use:     "export",
		Short:   "Write the custom indicators as CSV, as import reads it",
		Example: "  interdict indicator export > indicators.csv",
		Args:    usage.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			groups, err := s.Groups(cmd)
			if err != nil {
				return err
			}
			items, err := s.Items(cmd, "/indicators", url.Values{"source": {"custom"}}, 0)
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
					string(i.Type), i.Value, string(i.Action), string(i.Severity), output.Time(i.ExpiresAt),
					strings.Join(groups.All(i.Scope.Include), ";"), strings.Join(groups.All(i.Scope.Exclude), ";"), strconv.FormatBool(i.GenerateAlert), i.Description,
					strings.Join(i.Scope.IncludeUsers, ";"), strings.Join(i.Scope.ExcludeUsers, ";"),
					strings.Join(i.Scope.IncludeUserGroups, ";"), strings.Join(i.Scope.ExcludeUserGroups, ";"), indicatorfile.WindowsText(i.Scope.Windows),
				})
			}
			return output.CSV(s.Stdout, indicatorfile.Columns(), rows)
		},
	}
}

func newImportCmd(s *session.Session) *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE.csv",
		Short: "Add the indicators of a CSV file",
		Long: `Import adds an indicator for each line of a CSV file; "-" is standard input. The
first line names the columns: type, value and action are needed; severity,
expires, alert (true or false), description and, separated by semicolons,
include_groups, exclude_groups, include_users, exclude_users,
include_user_groups, exclude_user_groups and windows may be there. An indicator
that exists already is left alone, so a file may be imported again. Lines that
break a rule are named, and the others are added nevertheless.`,
		Example: `  interdict indicator import blocklist.csv
  curl -s https://intranet.example.com/blocklist.csv | interdict indicator import -`,
		Args: usage.Exactly("FILE.csv"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := open(s, args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			f, err := indicatorfile.Read(in, time.Now())
			if err != nil {
				return err
			}
			return importIndicators(s, cmd, f)
		},
	}
}

// importBatch is how many indicators go to the server at a time.
const importBatch = 1000

func importIndicators(s *session.Session, cmd *cobra.Command, f indicatorfile.File) error {
	c, err := s.Client()
	if err != nil {
		return err
	}
	var sum imported
	refused := f.Refused
	for batch := range slices.Chunk(f.Rows, importBatch) {
		s.Progress("added %d of %d", sum.Added, len(f.Rows))
		done, err := sendIndicators(cmd, c, batch)
		s.EndProgress()
		if err != nil {
			return err
		}
		sum.Added, sum.Existing = sum.Added+done.Added, sum.Existing+done.Existing
		for _, r := range done.Refused {
			for _, f := range r.Faults {
				refused = append(refused, indicatorfile.Refused{Line: batch[r.Row].Line, Rule: f.Name + " " + f.Rule})
			}
			sum.Refused = append(sum.Refused, r)
		}
	}
	slices.SortStableFunc(refused, func(a, b indicatorfile.Refused) int { return a.Line - b.Line })
	for _, r := range refused {
		fmt.Fprintf(s.Stderr, "line %d: %s\n", r.Line, output.Printable(r.Rule))
	}
	n := len(f.Refused) + len(sum.Refused)
	fmt.Fprintf(s.Stdout, "added %d, %d existed already, %d refused\n", sum.Added, sum.Existing, n)
	if n > 0 {
		return fault.New(fault.Conflict, "%s refused", output.Count(n, "line was", "lines were")).
			WithHint("mend the lines named above and import the file again")
	}
	return nil
}

// sendIndicators sends one batch.
func sendIndicators(cmd *cobra.Command, c *client.Client, batch []indicatorfile.Row) (imported, error) {
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
func open(s *session.Session, name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(s.Stdin), nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading the indicators: %w", err)
	}
	return f, nil
}
