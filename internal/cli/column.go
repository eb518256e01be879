package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"interdict/internal/cli/output"
)

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
	if s.format == output.FormatJSON {
		if items == nil {
			items = []json.RawMessage{}
		}
		return output.JSON(s.Stdout, struct {
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
	if s.format == output.FormatCSV {
		return output.CSV(s.Stdout, heads, rows)
	}
	return output.Table(s.Stdout, heads, rows)
}

// printOne prints one object: a line for each field that is not empty.
func printOne[T any](s *session, raw json.RawMessage, columns []column[T]) error {
	switch s.format {
	case output.FormatJSON:
		return output.JSON(s.Stdout, raw)
	case output.FormatCSV:
		return printList(s, []json.RawMessage{raw}, columns)
	}
	row, err := cells(raw, columns)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(s.Stdout, 0, 0, 2, ' ', 0)
	for i, c := range columns {
		if row[i] != "" {
			fmt.Fprintf(w, "%s\t%s\n", strings.ReplaceAll(c.head, "_", " "), output.Printable(row[i]))
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
