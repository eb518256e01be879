// Package output decides how what commands print looks: tables for people, CSV
// and JSON for programs, and text of strangers so that it is safe to show.
package output

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"interdict/internal/fault"
)

// The formats of --output.
const (
	FormatTable = "table"
	FormatJSON  = "json"
	FormatCSV   = "csv"
)

// CheckFormat wants a format to be one of these.
func CheckFormat(format string) error {
	switch format {
	case FormatTable, FormatJSON, FormatCSV:
		return nil
	}
	return fault.New(fault.Invalid, "the output format %q is not known", format).WithHint("use --output table, json or csv")
}

// Table prints rows below their heads, for people.
func Table(out io.Writer, heads []string, rows [][]string) error {
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
			fmt.Fprint(w, Printable(c))
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// CSV prints rows below their heads.
func CSV(out io.Writer, heads []string, rows [][]string) error {
	w := csv.NewWriter(out)
	if err := w.Write(heads); err != nil {
		return err
	}
	return w.WriteAll(rows)
}

// JSON prints a document indented, in the order of its fields.
func JSON(out io.Writer, v any) error {
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

// Printable makes text that comes from endpoints and strangers safe to show
// on a terminal: control characters become visible escapes.
func Printable(s string) string {
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

// Time writes a time, "" for none.
func Time(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// Count says how many there are of something.
func Count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// MaxNames bounds how many things are named in a sentence.
const MaxNames = 10

// Some names the first few, and says how many more there are.
func Some(names []string) string {
	if len(names) <= MaxNames {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:MaxNames], ", "), len(names)-MaxNames)
}

// Scope says for which groups something counts.
func Scope(include, exclude []string) string {
	s := "all devices"
	if len(include) > 0 {
		s = strings.Join(include, ", ")
	}
	if len(exclude) > 0 {
		s += " except " + strings.Join(exclude, ", ")
	}
	return s
}

// Labels writes labels, sorted by their keys.
func Labels(labels map[string]string) string {
	parts := make([]string, 0, len(labels))
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, k+"="+labels[k])
	}
	return strings.Join(parts, ",")
}

// LiveTable aligns rows that come one by one. Its columns are as wide as the
// widest cell so far, and wide enough for what is usual from the start.
type LiveTable struct{ widths []int }

// NewLiveTable returns a table whose columns usually have these widths.
func NewLiveTable(usual ...int) *LiveTable { return &LiveTable{usual} }

// Line returns the cells of a row side by side, one for each column.
func (t *LiveTable) Line(cells []string) string {
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
