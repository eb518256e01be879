package journal

import (
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
	closes time.Time
	event  event.Event
	// written is the count with which it was last written.
	written int
}

// windows counts repetitions. It does no I/O: its methods return the events
// to be written. All windows are equally long, so that the order in which
// they open is the order in which they close.
type windows struct {
	length time.Duration
	limit  int
	byKey  map[windowKey]*window
	order  []*window
}

func newWindows(length time.Duration, limit int) *windows {
	return &windows{length: length, limit: limit, byKey: make(map[windowKey]*window)}
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
	if len(w.order) >= w.limit {
		out = w.closeFirst(out)
	}
	fresh := &window{key: key, closes: now.Add(w.length), event: e, written: e.Count}
	w.byKey[key] = fresh
	w.order = append(w.order, fresh)
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

// due closes the windows whose time is up.
func (w *windows) due(now time.Time) []event.Event {
	var out []event.Event
	for len(w.order) > 0 && !w.order[0].closes.After(now) {
		out = w.closeFirst(out)
	}
	return out
}

// drain closes all windows.
func (w *windows) drain() []event.Event {
	var out []event.Event
	for len(w.order) > 0 {
		out = w.closeFirst(out)
	}
	return out
}

func (w *windows) closeFirst(out []event.Event) []event.Event {
	first := w.order[0]
	w.order[0] = nil
	w.order = w.order[1:]
	delete(w.byKey, first.key)
	if first.event.Count > first.written {
		out = append(out, first.event)
	}
	return out
}

// next returns when the first window closes, and false without any.
func (w *windows) next() (time.Time, bool) {
	if len(w.order) == 0 {
		return time.Time{}, false
	}
	return w.order[0].closes, true
}
