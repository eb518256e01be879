package command

import (
	"iter"
	"math"
	"slices"
	"time"

	"interdict/internal/event"
)

// selection is which events of the log a user wants to see.
type selection struct {
	// last is how many at most, unless whole says all.
	last  uint
	whole bool
	// since is how long ago they were last seen at most, 0 for any time.
	since time.Duration
	// ids are those they may have; none stands for any.
	ids []int
}

// matching returns what tells of an event whether it is wanted. last does not
// count there.
func (s *selection) matching(now time.Time) func(event.Event) bool {
	return func(e event.Event) bool {
		if s.since > 0 && e.LastSeen.Before(now.Add(-s.since)) {
			return false
		}
		return len(s.ids) == 0 || slices.Contains(s.ids, int(e.EventID))
	}
}

// most is how many events are wanted at most.
func (s *selection) most() int {
	if s.whole || s.last > math.MaxInt {
		return math.MaxInt
	}
	return int(s.last)
}

// of yields the wanted ones among events, and stops at an error.
func (s *selection) of(events iter.Seq2[event.Event, error], now time.Time) iter.Seq2[event.Event, error] {
	wanted := s.matching(now)
	matching := func(yield func(event.Event, error) bool) {
		for e, err := range events {
			if (err != nil || wanted(e)) && !yield(e, err) {
				return
			}
		}
	}
	if s.whole {
		return matching
	}
	return newest(matching, s.most())
}

// newest yields the last events, at most so many, or the error that they end
// with.
func newest(events iter.Seq2[event.Event, error], most int) iter.Seq2[event.Event, error] {
	return func(yield func(event.Event, error) bool) {
		var kept []event.Event
		for e, err := range events {
			if err != nil {
				yield(event.Event{}, err)
				return
			}
			if kept = append(kept, e); len(kept) > most {
				kept = kept[1:]
			}
		}
		for _, e := range kept {
			if !yield(e, nil) {
				return
			}
		}
	}
}
