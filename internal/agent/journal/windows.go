package journal

import (
	"slices"
	"time"

	"interdict/internal/event"
)

// windowKey is what makes two observations the same event.
type windowKey struct {
	id        event.ID
	action    event.Action
	host      string
	path      string
	uid       int64
	container string
}

// keyOf returns an event's key, and false for an event that stands alone.
func keyOf(e *event.Event) (windowKey, bool) {
	switch e.EventID {
	case event.IDAudited, event.IDBlocked, event.IDExecAudited, event.IDExecBlocked:
	default:
		return windowKey{}, false
	}
	k := windowKey{
		id: e.EventID, action: e.Action, host: e.Destination.Host,
		path: e.Process.Path, uid: -1, container: e.Process.Container,
	}
	if k.host == "" && e.Destination.IP.IsValid() {
		k.host = e.Destination.IP.String()
	}
	if e.User.UID != nil {
		k.uid = int64(*e.User.UID)
	}
	return k, true
}

// window is an event that may still repeat.
type window struct {
	key    windowKey
	opened time.Time
	event  event.Event
	// written is the count with which it was last written.
	written int
}

// growing is when after its opening a window's count is written if it has
// grown, so that whoever watches need not wait for its close.
var growing = []time.Duration{time.Second, 5 * time.Second, 20 * time.Second} //nolint:gochecknoglobals // a table

// windows counts repetitions. It does no I/O: its methods return the events
// to be written.
type windows struct {
	limit int
	byKey map[windowKey]*window
	// ages are when a window is looked at again, ascending. At the last it
	// closes.
	ages []time.Duration
	// waiting are the windows by the age they wait for. All live equally
	// long, so that each list is in the order in which they opened.
	waiting [][]*window
}

func newWindows(length time.Duration, limit int) *windows {
	w := &windows{limit: limit, byKey: make(map[windowKey]*window)}
	for _, age := range growing {
		if age < length {
			w.ages = append(w.ages, age)
		}
	}
	w.ages = append(w.ages, length)
	w.waiting = make([][]*window, len(w.ages))
	return w
}

// add takes an event in. With limit windows open the oldest is closed early.
func (w *windows) add(now time.Time, e event.Event) []event.Event {
	out := w.due(now)
	key, ok := keyOf(&e)
	if !ok {
		return append(out, e)
	}
	if open := w.byKey[key]; open != nil {
		if open.repeat(e) {
			out = append(out, open.event)
		}
		return out
	}
	if len(w.byKey) >= w.limit {
		out = w.closeOldest(out)
	}
	fresh := &window{key: key, opened: now, event: e, written: e.Count}
	w.byKey[key] = fresh
	w.waiting[0] = append(w.waiting[0], fresh)
	return append(out, e)
}

// repeat counts another occurrence and reports whether it has to be written
// now, because it shows more than what was written.
func (w *window) repeat(e event.Event) bool {
	kept := &w.event
	kept.Count += e.Count
	kept.Cut = kept.Cut || e.Cut
	if e.LastSeen.After(kept.LastSeen) {
		kept.LastSeen = e.LastSeen
	}
	if e.Evidence.Strength() <= kept.Evidence.Strength() {
		return false
	}
	kept.Evidence, kept.Destination = e.Evidence, e.Destination
	if kept.Process.PID == 0 {
		kept.Process = e.Process
	}
	w.written = kept.Count
	return true
}

// grown returns the event in out if it has repeated since it was written.
func (w *window) grown(out []event.Event) []event.Event {
	if w.event.Count == w.written {
		return out
	}
	w.written = w.event.Count
	return append(out, w.event)
}

// due looks at the windows that have come of an age, and closes those whose
// time is up.
func (w *windows) due(now time.Time) []event.Event {
	var out []event.Event
	for i, age := range w.ages {
		for len(w.waiting[i]) > 0 && !w.waiting[i][0].opened.Add(age).After(now) {
			out = w.advance(i, out)
		}
	}
	return out
}

// advance has the oldest window of an age wait for the next one, or closes
// it.
func (w *windows) advance(age int, out []event.Event) []event.Event {
	first := w.waiting[age][0]
	w.waiting[age][0] = nil
	w.waiting[age] = w.waiting[age][1:]
	if age+1 < len(w.ages) {
		w.waiting[age+1] = append(w.waiting[age+1], first)
	} else {
		delete(w.byKey, first.key)
	}
	return first.grown(out)
}

// drain closes all windows.
func (w *windows) drain() []event.Event {
	var out []event.Event
	for len(w.byKey) > 0 {
		out = w.closeOldest(out)
	}
	return out
}

// closeOldest closes the window that opened first, of which there must be
// one.
func (w *windows) closeOldest(out []event.Event) []event.Event {
	for i, list := range slices.Backward(w.waiting) {
		if len(list) == 0 {
			continue
		}
		first := list[0]
		list[0] = nil
		w.waiting[i] = list[1:]
		delete(w.byKey, first.key)
		return first.grown(out)
	}
	return out
}

// next returns when the next window comes of an age, and false without any.
func (w *windows) next() (at time.Time, ok bool) {
	for i, age := range w.ages {
		if len(w.waiting[i]) == 0 {
			continue
		}
		if t := w.waiting[i][0].opened.Add(age); !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	return at, ok
}
