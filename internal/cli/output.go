package cli

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"interdict/internal/fault"
)

// The formats of --output.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatCSV   = "csv"
)

func checkFormat(format string) error {
	switch format {
	case formatTable, formatJSON, formatCSV:
		return nil
	}
	return fault.New(fault.Invalid, "the output format %q is not known", format).WithHint("use --output table, json or csv")
}

// column is one column of a table, or one line of a description.
type column[T any] struct {
	// head is the column's name in lower case with underscores, as CSV
	// readers find it.
	head string
	cell func(T) string
}

// without leaves out the columns with these heads.
func without[T any](columns []column[T], heads ...string) []column[T] {
	return slices.DeleteFunc(slices.Clone(columns), func(c column[T]) bool { return slices.Contains(heads, c.head) })
}

// printList prints the items of a list in the session's format.
func printList[T any](s *session, items []json.RawMessage, columns []column[T]) error {
	if s.format == formatJSON {
		if items == nil {
			items = []json.RawMessage{}
		}
		return printJSON(s.Stdout, struct {
			Items []json.RawMessage `json:"items"`
		}{items})
	}
	rows := make([][]string, 0, len(items))
	for _, raw := range items {
		row, err := cells(raw, columns)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	heads := make([]string, len(columns))
	for i, c := range columns {
		heads[i] = c.head
	}
	if s.format == formatCSV {
		return printCSV(s.Stdout, heads, rows)
	}
	return printTable(s.Stdout, heads, rows)
}

// printOne prints one object: a line for each field that is not empty.
func printOne[T any](s *session, raw json.RawMessage, columns []column[T]) error {
	switch s.format {
	case formatJSON:
		return printJSON(s.Stdout, raw)
	case formatCSV:
		return printList(s, []json.RawMessage{raw}, columns)
	}
	row, err := cells(raw, columns)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(s.Stdout, 0, 0, 2, ' ', 0)
	for i, c := range columns {
		if row[i] != "" {
			fmt.Fprintf(w, "%s\t%s\n", strings.ReplaceAll(c.head, "_", " "), printable(row[i]))
		}
	}
	return w.Flush()
}

func cells[T any](raw json.RawMessage, columns []column[T]) ([]string, error) {
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		return nil, fmt.Errorf("reading the server's answer: %w", err)
	}
	row := make([]string, len(columns))
	for i, c := range columns {
		row[i] = c.cell(v)
	}
	return row, nil
}

func printTable(out io.Writer, heads []string, rows [][]string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for i, h := range heads {
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		fmt.Fprint(w, strings.ToUpper(strings.ReplaceAll(h, "_", " ")))
	}
	fmt.Fprintln(w)
	for _, row := range rows {
		for i, c := range row {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			if c == "" {
				c = "-"
			}
			fmt.Fprint(w, printable(c))
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

func printCSV(out io.Writer, heads []string, rows [][]string) error {
	w := csv.NewWriter(out)
	if err := w.Write(heads); err != nil {
		return err
	}
	return w.WriteAll(rows)
}

// printJSON prints a document indented, in the order of its fields.
func printJSON(out io.Writer, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("writing JSON: %w", err)
	}
	var b bytes.Buffer
	if err = json.Indent(&b, raw, "", "  "); err != nil {
		return fmt.Errorf("writing JSON: %w", err)
	}
	b.WriteByte('\n')
	_, err = b.WriteTo(out)
	return err
}

// printable makes text that comes from endpoints and strangers safe to show
// on a terminal: control characters become visible escapes.
func printable(s string) string {
	s = strings.ToValidUTF8(s, string(unicode.ReplacementChar))
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hidden(r) {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func hidden(r rune) bool { return r != ' ' && !unicode.IsPrint(r) }

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// count says how many there are of something.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// formatScope says for which groups something counts.
func formatScope(include, exclude []string) string {
	s := "all devices"
	if len(include) > 0 {
		s = strings.Join(include, ", ")
	}
	if len(exclude) > 0 {
		s += " except " + strings.Join(exclude, ", ")
	}
	return s
}

func formatLabels(labels map[string]string) string {
	parts := make([]string, 0, len(labels))
	for _, k := range sortedKeys(labels) {
		parts = append(parts, k+"="+labels[k])
	}
	return strings.Join(parts, ",")
}
