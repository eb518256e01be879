package store

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"interdict/internal/alert"
	"interdict/internal/event"
)

// EventQuery asks for events. Empty fields do not limit.
type EventQuery struct {
	Device, App string
	// Host is a name, with everything below it.
	Host         string
	EventID      event.ID
	Action, User string
	Since, Until time.Time
	// Before and After are arrival numbers: only what arrived before, or
	// after, is wanted.
	Before, After int64
	// Ascending asks for the oldest first, otherwise the newest come first.
	Ascending bool
	Limit     int
}

// clockSkew is how far a device's clock may be ahead of the server's before
// a question that is bounded by Since overlooks its events.
const clockSkew = 24 * time.Hour

// ArrivedEvent is an event with its arrival number.
type ArrivedEvent struct {
	event.Event

	Arrival int64
}

// Events returns events in the order of their arrival.
func (tx *Tx) Events(q EventQuery) ([]ArrivedEvent, error) {
	w := q.where()
	order := " ORDER BY arrival DESC LIMIT "
	if q.Ascending {
		order = " ORDER BY arrival LIMIT "
	}
	return tx.arrivedEvents("", w.String()+order+w.arg(q.Limit), w.args...)
}

// arrivedEvents runs a query for events; with is what comes before it, rest what
// follows the table.
func (tx *Tx) arrivedEvents(with, rest string, args ...any) ([]ArrivedEvent, error) {
	var all []ArrivedEvent
	err := tx.each(func(rows *sql.Rows) error {
		var e ArrivedEvent
		var doc sql.RawBytes
		if err := rows.Scan(&e.Arrival, &doc); err != nil {
			return err
		}
		if err := json.Unmarshal(doc, &e.Event); err != nil {
			return fmt.Errorf("decoding an event: %w", err)
		}
		all = append(all, e)
		return nil
	}, with+"SELECT arrival, doc FROM events"+rest, args...)
	if err != nil {
		return nil, fmt.Errorf("reading events: %w", err)
	}
	return all, nil
}

func (q *EventQuery) where() *where {
	w := &where{}
	w.equal("device_id", q.Device)
	w.equal("app_id", q.App)
	w.equal("action", q.Action)
	w.equal("user_name", q.User)
	w.compareInt("event_id", "=", int64(q.EventID))
	w.compareInt("arrival", "<", q.Before)
	w.compareInt("arrival", ">", q.After)
	if !q.Since.IsZero() {
		w.compareInt("time", ">=", nanos(q.Since))
		// An event arrives after it happened, so this lets the index find
		// the place to start.
		w.compareInt("arrival", ">=", q.Since.Add(-clockSkew).UnixMicro())
	}
	w.compareInt("time", "<", nanos(q.Until))
	if host := strings.ToLower(strings.TrimSuffix(q.Host, ".")); host != "" {
		below := "%." + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(host)
		w.conditions = append(w.conditions, "(host = "+w.arg(host)+" OR host LIKE "+w.arg(below)+` ESCAPE '\')`)
	}
	return w
}

// LastArrival returns the arrival number of the newest event.
func (tx *Tx) LastArrival() (int64, error) {
	var last int64
	if err := tx.row(`SELECT value FROM counters WHERE name = 'arrival'`).Scan(&last); err != nil {
		return 0, fmt.Errorf("reading the number of the newest event: %w", err)
	}
	return last, nil
}

// AlertQuery asks for alerts. Empty fields do not limit.
type AlertQuery struct {
	Device, App string
	// Before is the id of an alert; only older ones are wanted.
	Before string
	Limit  int
}

const alertColumns = `id, event_count, first_seen, last_seen, doc`

// Alerts returns alerts, those that were raised last first.
func (tx *Tx) Alerts(q AlertQuery) ([]alert.Alert, error) {
	var w where
	w.equal("device_id", q.Device)
	w.equal("app_id", q.App)
	w.compare("id", "<", q.Before)
	all := []alert.Alert{}
	err := tx.each(func(rows *sql.Rows) error {
		a, err := scanAlert(rows.Scan)
		all = append(all, a)
		return err
	}, "SELECT "+alertColumns+" FROM alerts"+w.String()+" ORDER BY id DESC LIMIT "+w.arg(q.Limit), w.args...)
	if err != nil {
		return nil, fmt.Errorf("reading alerts: %w", err)
	}
	return all, nil
}

// Alert returns one alert, or ErrNotFound.
func (tx *Tx) Alert(id string) (alert.Alert, error) {
	a, err := scanAlert(tx.row("SELECT "+alertColumns+" FROM alerts WHERE id = $1", id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return alert.Alert{}, fmt.Errorf("reading alert %q: %w", id, err)
	}
	return a, nil
}

func scanAlert(scan func(...any) error) (alert.Alert, error) {
	var (
		a           alert.Alert
		id          string
		count       int
		first, last int64
		doc         []byte
	)
	if err := scan(&id, &count, &first, &last, &doc); err != nil {
		return a, err
	}
	if err := json.Unmarshal(doc, &a); err != nil {
		return a, fmt.Errorf("decoding an alert: %w", err)
	}
	a.ID, a.Count, a.FirstSeen, a.LastSeen = id, count, fromNanos(first), fromNanos(last)
	return a, nil
}
