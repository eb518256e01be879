package indicator

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	// A zone is known to every device, or the bundle that names it cannot be
	// read there: Windows and small containers have no database of zones.
	_ "time/tzdata"
)

// Day is a day of the week.
type Day string

// The days, Monday first as in ISO 8601.
const (
	Monday    Day = "mon"
	Tuesday   Day = "tue"
	Wednesday Day = "wed"
	Thursday  Day = "thu"
	Friday    Day = "fri"
	Saturday  Day = "sat"
	Sunday    Day = "sun"
)

// Days returns all days, Monday first.
func Days() []Day {
	return []Day{Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday}
}

// dayOf is the day that a time is on, where it is.
func dayOf(t time.Time) Day { return Days()[(int(t.Weekday())+6)%7] }

// Window is a span of time that comes back every week: on Days, from From to
// To by the clock on the wall.
type Window struct {
	// Days are those on which the window begins; none means every day.
	Days []Day `json:"days,omitempty" enum:"mon,tue,wed,thu,fri,sat,sun" doc:"Days on which the window begins; none means every day"`
	// From and To are "15:04", To up to "24:00". A window whose To is not
	// after its From ends on the next day.
	From string `json:"from" pattern:"^[0-2][0-9]:[0-5][0-9]$" doc:"When it begins: 08:00"`
	To   string `json:"to" pattern:"^[0-2][0-9]:[0-5][0-9]$" doc:"When it ends: 17:30; at or before the beginning it is on the next day"`
	// Zone is a name of the IANA time zone database; empty means where the
	// device is.
	Zone string `json:"zone,omitempty" doc:"IANA time zone; empty means the device's own"`
}

// Check says what is wrong with a window; nil means nothing.
func (w *Window) Check() error {
	if _, err := minutes(w.From); err != nil || w.From == "24:00" {
		return fmt.Errorf("the beginning %q is no time of day such as 08:00", w.From)
	}
	if _, err := minutes(w.To); err != nil {
		return fmt.Errorf("the end %q is no time of day such as 17:30", w.To)
	}
	for _, d := range w.Days {
		if !slices.Contains(Days(), d) {
			return fmt.Errorf("%q is no day: write mon, tue, wed, thu, fri, sat or sun", d)
		}
	}
	if _, err := w.location(time.UTC); err != nil {
		return fmt.Errorf("%q is no time zone such as Europe/Berlin", w.Zone)
	}
	return nil
}

// Contains reports whether t is in the window; t's location is the device's.
// A window that does not pass Check contains nothing.
func (w *Window) Contains(t time.Time) bool {
	r, err := w.read()
	return err == nil && r.contains(t)
}

// Next returns the first time after t at which the window opens or closes;
// ok is false for a window that does not pass Check.
func (w *Window) Next(t time.Time) (next time.Time, ok bool) {
	r, err := w.read()
	if err != nil {
		return time.Time{}, false
	}
	return r.next(t)
}

func (w *Window) location(local *time.Location) (*time.Location, error) {
	if w.Zone == "" {
		return local, nil
	}
	return time.LoadLocation(w.Zone)
}

// minutes reads a time of day as minutes since midnight.
func minutes(text string) (int, error) {
	hour, minute, ok := strings.Cut(text, ":")
	h, err := strconv.Atoi(hour)
	m, minuteErr := strconv.Atoi(minute)
	if !ok || err != nil || minuteErr != nil || len(hour) != 2 || len(minute) != 2 || h < 0 || m < 0 || m > 59 || h*60+m > 24*60 {
		return 0, fmt.Errorf("reading %q: it is no time of day", text)
	}
	return h*60 + m, nil
}

// Open reports whether one of the windows contains t; no windows are always
// open.
func (p *Profile) Open(t time.Time) bool {
	return len(p.Windows) == 0 || slices.ContainsFunc(p.Windows, func(w Window) bool { return w.Contains(t) })
}
