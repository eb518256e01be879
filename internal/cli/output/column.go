package output

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Column is one column of a table of things, or one line of the description of
// a thing.
type Column[T any] struct {
	// Head is the column's name in lower case with underscores, as CSV
	// readers find it.
	Head string
	// Cell is what the column says of a thing, "" for nothing.
	Cell func(T) string
}

// Without leaves out the columns with these heads.
func Without[T any](columns []Column[T], heads ...string) []Column[T] {
	return slices.DeleteFunc(slices.Clone(columns), func(c Column[T]) bool { return slices.Contains(heads, c.Head) })
}

// List prints the items of a list of the API in a format. In JSON they are as
// the API has them, and columns do not matter.
func List[T any](out io.Writer, format string, items []json.RawMessage, columns []Column[T]) error {
	if format == FormatJSON {
		if items == nil {
			items = []json.RawMessage{}
		}
		return JSON(out, struct {
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
		heads[i] = c.Head
	}
	if format == FormatCSV {
		return CSV(out, heads, rows)
	}
	return Table(out, heads, rows)
}

// One prints one object of the API in a format: for people a line for each
// field that is not empty.
func One[T any](out io.Writer, format string, raw json.RawMessage, columns []Column[T]) error {
	switch format {
	case FormatJSON:
		return JSON(out, raw)
	case FormatCSV:
		return List(out, format, []json.RawMessage{raw}, columns)
	}
	row, err := cells(raw, columns)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for i, c := range columns {
		if row[i] != "" {
			fmt.Fprintf(w, "%s\t%s\n", strings.ReplaceAll(c.Head, "_", " "), Printable(row[i]))
		}
	}
	return w.Flush()
}

func cells[T any](raw json.RawMessage, columns []Column[T]) ([]string, error) {
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		return nil, fmt.Errorf("reading the server's answer: %w", err)
	}
	row := make([]string, len(columns))
	for i, c := range columns {
		row[i] = c.Cell(v)
	}
	return row, nil
}
