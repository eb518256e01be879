package indicator

import (
	"fmt"
	"slices"
	"time"
)

// Schedule is when a profile's windows are open, made ready to be asked at
// every connection. The zero value is always open.
type Schedule struct{ windows []readWindow }

// NewSchedule reads windows. The error is that of [Window.Check].
func NewSchedule(windows []Window) (Schedule, error) {
	var s Schedule
	for i := range windows {
		r, err := windows[i].read()
		if err != nil {
			return Schedule{}, err
		}
		s.windows = append(s.windows, r)
	}
	return s, nil
}

// Open reports whether one of the windows contains t, whose location is the
// device's; no windows are always open.
func (s *Schedule) Open(t time.Time) bool {
	return len(s.windows) == 0 || slices.ContainsFunc(s.windows, func(w readWindow) bool { return w.contains(t) })
}

// Next returns the first time after t at which one of the windows opens or
// closes; ok is false without windows.
func (s *Schedule) Next(t time.Time) (next time.Time, ok bool) {
	for _, w := range s.windows {
		if at, changes := w.next(t); changes && (!ok || at.Before(next)) {
			next, ok = at, true
		}
	}
	return next, ok
}

// readWindow is a window whose texts were read.
type readWindow struct {
	days []Day
	// from and to are minutes of the day the window begins on; to is after
	// from, and past the day's end if need be.
	from, to int
	// zone is nil for the device's own.
	zone *time.Location
}

func (w *Window) read() (readWindow, error) {
	if err := w.Check(); err != nil {
		return readWindow{}, err
	}
	r := readWindow{days: w.Days}
	var err error
	if w.Zone != "" {
		if r.zone, err = time.LoadLocation(w.Zone); err != nil {
			return readWindow{}, fmt.Errorf("reading a window's time zone: %w", err)
		}
	}
	r.from, _ = minutes(w.From) // Check has read both.
	r.to, _ = minutes(w.To)
	if r.to <= r.from {
		r.to += 24 * 60
	}
	return r, nil
}

// contains asks for the occurrences that can contain t: that of its own day,
// and that of the day before, which may end on the next.
func (w *readWindow) contains(t time.Time) bool {
	return w.occurs(t, -1).contains(t) || w.occurs(t, 0).contains(t)
}

// next looks a week ahead: by then every window has begun once.
func (w *readWindow) next(t time.Time) (next time.Time, ok bool) {
	for day := -1; day <= 7; day++ {
		s := w.occurs(t, day)
		for _, at := range []time.Time{s.from, s.to} {
			if at.After(t) && (!ok || at.Before(next)) {
				next, ok = at, true
			}
		}
	}
	return next, ok
}

// span is one occurrence of a window; the zero value is none.
type span struct{ from, to time.Time }

func (s span) contains(t time.Time) bool { return !t.Before(s.from) && t.Before(s.to) }

// occurs returns the occurrence that begins some days after the day that t is
// on. Minutes past the day's end are the next day's: that holds on days with
// 23 or 25 hours too, since it is the clock on the wall.
func (w *readWindow) occurs(t time.Time, days int) span {
	zone := w.zone
	if zone == nil {
		zone = t.Location()
	}
	year, month, day := t.In(zone).Date()
	if len(w.days) > 0 && !slices.Contains(w.days, dayOf(time.Date(year, month, day+days, 12, 0, 0, 0, zone))) {
		return span{}
	}
	return span{
		from: time.Date(year, month, day+days, 0, w.from, 0, 0, zone),
		to:   time.Date(year, month, day+days, 0, w.to, 0, 0, zone),
	}
}
