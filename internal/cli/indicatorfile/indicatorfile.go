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
	return []string{
		"type", "value", "action", "severity", "expires", "include_groups", "exclude_groups", "alert", "description",
		"include_users", "exclude_users", "include_user_groups", "exclude_user_groups", "windows",
	}
}

// Indicator is the body of a request for an indicator.
type Indicator struct {
	Type        string            `json:"type"`
	Value       string            `json:"value"`
	Action      string            `json:"action"`
	Severity    string            `json:"severity,omitempty"`
	Description string            `json:"description,omitempty"`
	Scope       indicator.Profile `json:"scope"`
	ExpiresAt   time.Time         `json:"expires_at,omitzero"`
	Alert       bool              `json:"generate_alert"`
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
		if v == "" || readScope(&n.Scope, head[i], v) {
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
		case "windows":
			var err error
			if n.Scope.Windows, err = readWindows(v); err != nil {
				return n, err
			}
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

// readScope reads a list of groups or users, and reports whether the column has
// one.
func readScope(p *indicator.Profile, column, value string) bool {
	list, ok := map[string]*[]string{
		"include_groups": &p.Include, "exclude_groups": &p.Exclude, "include_users": &p.IncludeUsers, "exclude_users": &p.ExcludeUsers,
		"include_user_groups": &p.IncludeUserGroups, "exclude_user_groups": &p.ExcludeUserGroups,
	}[column]
	if ok {
		*list = strings.Split(value, ";")
	}
	return ok
}

func readWindows(value string) ([]indicator.Window, error) {
	var all []indicator.Window
	for text := range strings.SplitSeq(value, ";") {
		w, err := indicator.ParseWindow(text)
		if err != nil {
			return nil, err
		}
		all = append(all, w)
	}
	return all, nil
}

// WindowsText writes windows as they are read.
func WindowsText(windows []indicator.Window) string {
	texts := make([]string, len(windows))
	for i := range windows {
		texts[i] = windows[i].String()
	}
	return strings.Join(texts, ";")
}
