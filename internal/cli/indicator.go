package cli

import (
	"encoding/csv"
	"encoding/json"
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

func newIndicatorCmd(s *session) *cobra.Command {
	return newParentCmd("indicator", "Allow, audit, warn about or block single destinations",
		`An indicator asks for an action on what its value matches: a domain with all
names below it, a url, an ip address, a cidr range, a certificate or the SHA-256
of a file. Unsanctioned and monitored apps make indicators by themselves; the
commands here are for the custom ones, which win over those of apps.

The most specific indicator decides; among equally specific ones allow wins over
warn, warn over block, block over audit.`,
		newIndicatorListCmd(s), newIndicatorShowCmd(s), newIndicatorAddCmd(s), newIndicatorDeleteCmd(s),
		newIndicatorImportCmd(s), newIndicatorExportCmd(s))
}

func indicatorColumns() []column[indicator.Indicator] {
	return []column[indicator.Indicator]{
		{"id", func(i indicator.Indicator) string { return i.ID }},
		{"type", func(i indicator.Indicator) string { return string(i.Type) }},
		{"value", func(i indicator.Indicator) string { return i.Value }},
		{"action", func(i indicator.Indicator) string { return string(i.Action) }},
		{"severity", func(i indicator.Indicator) string { return string(i.Severity) }},
		{"source", func(i indicator.Indicator) string { return string(i.Source) }},
		{"scope", func(i indicator.Indicator) string { return formatScope(i.Scope.Include, i.Scope.Exclude) }},
		{"expires", func(i indicator.Indicator) string { return formatTime(i.ExpiresAt) }},
	}
}

func newIndicatorListCmd(s *session) *cobra.Command {
	var kind, source, app, search string
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List indicators, those of apps as well",
		Example: "  interdict indicator list --source custom\n  interdict indicator list --app itunes",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			setQuery(q, "type", kind)
			setQuery(q, "source", source)
			setQuery(q, "app", app)
			setQuery(q, "search", search)
			return list(s, cmd, "/indicators", q, limit, indicatorColumns())
		},
	}
	cmd.Flags().StringVar(&kind, "type", "", "only of this `type`: domain, url, ip, cidr, certificate or file_sha256")
	cmd.Flags().StringVar(&source, "source", "", "only from this `source`: catalog or custom")
	cmd.Flags().StringVar(&app, "app", "", "only of the app with this `id`")
	cmd.Flags().StringVar(&search, "search", "", "only with this `text` in value or description")
	addLimitFlag(cmd, &limit)
	return cmd
}

func newIndicatorShowCmd(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show one indicator",
		Args:  exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return show(s, cmd, "/indicators/"+url.PathEscape(args[0]), append(indicatorColumns(),
				column[indicator.Indicator]{"app", func(i indicator.Indicator) string { return i.AppID }},
				column[indicator.Indicator]{"description", func(i indicator.Indicator) string { return i.Description }},
				column[indicator.Indicator]{"alerts", func(i indicator.Indicator) string { return strconv.FormatBool(i.GenerateAlert) }},
				column[indicator.Indicator]{"created", func(i indicator.Indicator) string { return formatTime(i.CreatedAt) }},
				column[indicator.Indicator]{"created_by", func(i indicator.Indicator) string { return i.CreatedBy }}))
		},
	}
}

// newIndicator is the body of a request for an indicator.
type newIndicator struct {
	Type        string          `json:"type"`
	Value       string          `json:"value"`
	Action      string          `json:"action"`
	Severity    string          `json:"severity,omitempty"`
	Description string          `json:"description,omitempty"`
	Scope       indicator.Scope `json:"scope"`
	ExpiresAt   time.Time       `json:"expires_at,omitzero"`
	Alert       bool            `json:"generate_alert"`
}

func newIndicatorAddCmd(s *session) *cobra.Command {
	n := newIndicator{}
	var expires string
	var noAlert bool
	var wait waitFlags
	cmd := &cobra.Command{
		Use:   "add TYPE VALUE --action ACTION",
		Short: "Add a custom indicator",
		Example: `  interdict indicator add domain files.example.com --action block --severity high --wait
  interdict indicator add cidr 203.0.113.0/24 --action audit --expires 7d --group laptops
  interdict indicator add domain partner.dropbox.com --action allow`,
		Args: exactly("TYPE", "VALUE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if n.Action == "" {
				return usageFault(cmd, "--action is missing: allow, audit, warn or block")
			}
			n.Type, n.Value, n.Alert = args[0], args[1], !noAlert
			if expires != "" {
				t, err := parseMoment("--expires", expires, time.Now(), ahead)
				if err != nil {
					return err
				}
				n.ExpiresAt = t
			}
			c, err := s.client()
			if err != nil {
				return err
			}
			raw, err := c.Post(cmd.Context(), "/indicators", n)
			if err != nil {
				return err
			}
			made, err := client.Decode[indicator.Indicator](raw)
			if err != nil {
				return err
			}
			return s.changed(cmd.Context(), c, wait, raw, "added %s: %s %s %s", made.ID, made.Action, made.Type, made.Value)
		},
	}
	f := cmd.Flags()
	f.StringVar(&n.Action, "action", "", "what to do: `allow`, audit, warn or block")
	f.StringVar(&n.Severity, "severity", "", "how much it matters: `informational`, low, medium or high")
	f.StringVar(&n.Description, "description", "", "a `text` for those who wonder")
	f.StringVar(&expires, "expires", "", "when it ceases to exist: a `time` such as 24h, 7d or 2026-12-31")
	f.BoolVar(&noAlert, "no-alert", false, "its events raise no alerts")
	f.StringSliceVar(&n.Scope.Include, "group", nil, "only devices of this `group`; may be repeated")
	f.StringSliceVar(&n.Scope.Exclude, "exclude-group", nil, "not the devices of this `group`; may be repeated")
	wait.add(cmd)
	return cmd
}

func newIndicatorDeleteCmd(s *session) *cobra.Command {
	var wait waitFlags
	cmd := &cobra.Command{
		Use:   "delete ID",
		Short: "Delete a custom indicator",
		Long: `Delete removes a custom indicator. One of an app goes by tagging the app as
sanctioned or none.`,
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.remove(cmd, wait, "/indicators/", args[0], "indicator")
		},
	}
	wait.add(cmd)
	return cmd
}

// The columns of an indicator file, as import reads and export writes it.
var importColumns = []string{"type", "value", "action", "severity", "expires", "include_groups", "exclude_groups", "alert", "description"}

func newIndicatorExportCmd(s *session) *cobra.Command {
	return &cobra.Command{
		Use:     "export",
		Short:   "Write the custom indicators as CSV, as import reads it",
		Example: "  interdict indicator export > indicators.csv",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
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
					strings.Join(i.Scope.Include, ";"), strings.Join(i.Scope.Exclude, ";"), strconv.FormatBool(i.GenerateAlert), i.Description,
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
			wanted, err := readIndicators(in, time.Now())
			if err != nil {
				return err
			}
			return s.importIndicators(cmd, wanted)
		},
	}
}

// importBatch is how many indicators go to the server at a time.
const importBatch = 1000

func (s *session) importIndicators(cmd *cobra.Command, wanted []newIndicator) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	var added, existing, refused int
	// The first line of the file has the names of the columns.
	for line := 2; len(wanted) > 0; line += importBatch {
		batch := wanted[:min(importBatch, len(wanted))]
		wanted = wanted[len(batch):]
		s.progress("added %d, %d to go", added, len(wanted)+len(batch))
		body, err := c.Post(cmd.Context(), "/indicators/import", map[string]any{"indicators": batch})
		s.endProgress()
		if err != nil {
			return err
		}
		var done imported
		if err := json.Unmarshal(body, &done); err != nil {
			return fmt.Errorf("reading what was imported: %w", err)
		}
		added, existing, refused = added+done.Added, existing+done.Existing, refused+len(done.Refused)
		for _, r := range done.Refused {
			for _, f := range r.Faults {
				fmt.Fprintf(s.Stderr, "line %d: %s\n", line+r.Row, printable(f.Name+" "+f.Rule))
			}
		}
	}
	fmt.Fprintf(s.Stdout, "added %d, %d existed already, %d refused\n", added, existing, refused)
	if refused > 0 {
		return fault.New(fault.Conflict, "%d lines were refused", refused).
			WithHint("mend the lines named above and import the file again")
	}
	return nil
}

// imported is the server's answer to an import.
type imported struct {
	Added    int `json:"added"`
	Existing int `json:"existing"`
	Refused  []struct {
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

// readIndicators reads the lines of an indicator file.
func readIndicators(in io.Reader, now time.Time) ([]newIndicator, error) {
	r := csv.NewReader(in)
	head, err := r.Read()
	if err != nil {
		return nil, fault.New(fault.Invalid, "the file has no line with the names of the columns").Because(err).
			WithHint("the first line should be %s", strings.Join(importColumns, ","))
	}
	// Spreadsheets begin their files with a byte order mark.
	head[0] = strings.TrimPrefix(head[0], "\ufeff")
	for i, h := range head {
		if !slices.Contains(importColumns, h) {
			return nil, fault.New(fault.Invalid, "column %d is called %q", i+1, h).
				WithHint("the columns are %s", strings.Join(importColumns, ", "))
		}
	}
	var out []newIndicator
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fault.New(fault.Invalid, "reading the file: %v", err).Because(err)
		}
		n, err := readIndicator(head, row, now)
		if err != nil {
			line, _ := r.FieldPos(0)
			return nil, fault.New(fault.Invalid, "line %d: %v", line, err).Because(err)
		}
		out = append(out, n)
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
