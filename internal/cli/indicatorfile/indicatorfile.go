// Package indicatorfile reads indicators from CSV: which columns there are, and
// what becomes of lines that cannot be read. Whether an indicator is valid is
// the server's to say.
package indicatorfile

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"interdict/internal/cli/moment"
	"interdict/internal/fault"
	"interdict/internal/indicator"
)

// Columns returns the names of the columns, as import reads and export writes
// them.
func Columns() []string {
	return []string{"type", "value", "action", "severity", "expires", "include_groups", "exclude_groups", "alert", "description"}
}

// Indicator is the body of a request for an indicator.
type Indicator struct {
	Type        string          `json:"type"`
	Value       string          `json:"value"`
	Action      string          `json:"action"`
	Severity    string          `json:"severity,omitempty"`
	Description string          `json:"description,omitempty"`
	Scope       indicator.Scope `json:"scope"`
	ExpiresAt   time.Time       `json:"expires_at,omitzero"`
	Alert       bool            `json:"generate_alert"`
}

// File is what is in a file of indicators.
type File struct {
	Rows []Row
	// Refused are the lines that say nothing that could be sent.
	Refused []Refused
}

// Row is an indicator, and the line of the file it begins in.
type Row struct {
	Indicator

	// Line is not for the server.
	Line int `json:"-"`
}

// Refused is a line that breaks a rule, and which one.
type Refused struct {
	Line int
	Rule string
}

// Read reads the lines of a file. A line that cannot be read is refused and the
// next one read; only without the names of the columns nothing can be made of
// the file.
func Read(in io.Reader, now time.Time) (File, error) {
	r := csv.NewReader(in)
	head, err := r.Read()
	if err != nil {
		return File{}, fault.New(fault.Invalid, "the file has no line with the names of the columns").Because(err).
			WithHint("the first line should be %s", strings.Join(Columns(), ","))
	}
	// Spreadsheets begin their files with a byte order mark.
	head[0] = strings.TrimPrefix(head[0], "\ufeff")
	for i, h := range head {
		if !slices.Contains(Columns(), h) {
			return File{}, fault.New(fault.Invalid, "column %d is called %q", i+1, h).
				WithHint("the columns are %s", strings.Join(Columns(), ", "))
		}
	}
	var f File
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return f, nil
		}
		if bad, ok := errors.AsType[*csv.ParseError](err); ok {
			f.Refused = append(f.Refused, Refused{bad.StartLine, bad.Err.Error()})
			continue
		}
		if err != nil {
			return File{}, fmt.Errorf("reading the indicators: %w", err)
		}
		line, _ := r.FieldPos(0)
		n, err := readRow(head, row, now)
		if err != nil {
			f.Refused = append(f.Refused, Refused{line, err.Error()})
			continue
		}
		f.Rows = append(f.Rows, Row{n, line})
	}
}

func readRow(head, row []string, now time.Time) (Indicator, error) {
	n := Indicator{Alert: true}
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
			t, err := moment.Parse("expires", v, now, moment.Ahead)
			if err != nil {
				return n, err
			}
			n.ExpiresAt = t
		}
	}
	return n, nil
}
