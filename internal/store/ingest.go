package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"interdict/internal/alert"
	"interdict/internal/event"
)

// Ingest is an event to be kept, checked and with its device.
type Ingest struct {
	Event *event.Event
	// AlertKey is alert.Key of the event.
	AlertKey string
	// Arrived is when it came in.
	Arrived time.Time
}

// eventKey identifies an event.
type eventKey struct{ id, device string }

// stored is what is known of an event that is kept already.
type stored struct {
	count    int
	alertKey string
}

// AddEvents keeps events, each once: one that is there already is replaced by
// a revision with a higher count, and ignored otherwise. The counts of the
// alerts follow exactly, in the same transaction. Calls at the same time
// share a transaction.
func (s *Store) AddEvents(ctx context.Context, events []Ingest) error {
	if len(events) == 0 {
		return nil
	}
	return s.events.add(ctx, events, len(events))
}

func (s *Store) writeIngests(ctx context.Context, batches [][]Ingest) error {
	newest := make(map[eventKey]*Ingest)
	for _, batch := range batches {
		for i := range batch {
			k := eventKey{batch[i].Event.ID, batch[i].Event.Device}
			if have, ok := newest[k]; !ok || batch[i].Event.Count > have.Event.Count {
				newest[k] = &batch[i]
			}
		}
	}
	events := slices.SortedFunc(maps.Values(newest), func(a, b *Ingest) int {
		return cmp.Or(a.Arrived.Compare(b.Arrived), cmp.Compare(a.Event.ID, b.Event.ID), cmp.Compare(a.Event.Device, b.Event.Device))
	})
	return s.Write(ctx, func(tx *Tx) error { return tx.addEvents(events) })
}

func (tx *Tx) addEvents(events []*Ingest) error {
	// This holds the counter's row until the end, so that events become
	// visible in the order of their arrival, and nobody else counts alerts.
	first, err := tx.reserveArrivals(events[0].Arrived, len(events))
	if err != nil {
		return err
	}
	if err = tx.preferIndexes(); err != nil {
		return err
	}
	known, err := tx.knownEvents(events)
	if err != nil {
		return err
	}
	changes := make(alertChanges)
	b := tx.insert(`INSERT INTO events (id, device_id, arrival, time, event_id, action, app_id, host, user_name, process, alert_key, event_count, doc) VALUES `,
		13, ` ON CONFLICT (id, device_id) DO UPDATE SET arrival = excluded.arrival, time = excluded.time, event_id = excluded.event_id,
			action = excluded.action, app_id = excluded.app_id, host = excluded.host, user_name = excluded.user_name,
			process = excluded.process, alert_key = excluded.alert_key, event_count = excluded.event_count, doc = excluded.doc`)
	for i, in := range events {
		e := in.Event
		old, isKnown := known[eventKey{e.ID, e.Device}]
		if isKnown && old.count >= e.Count {
			continue
		}
		doc, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("encoding event %q: %w", e.ID, err)
		}
		err = b.add(e.ID, e.Device, first+int64(i), nanos(e.Time), int(e.EventID), string(e.Action), e.AppID,
			strings.ToLower(e.Destination.Host), e.User.Name, processOf(e), in.AlertKey, e.Count, string(doc))
		if err != nil {
			return fmt.Errorf("writing events: %w", err)
		}
		changes.replace(old, in)
	}
	if err := b.flush(); err != nil {
		return fmt.Errorf("writing events: %w", err)
	}
	return tx.applyAlerts(changes)
}

// reserveArrivals returns the first of n consecutive arrival numbers.
func (tx *Tx) reserveArrivals(now time.Time, n int) (int64, error) {
	var last int64
	err := tx.row(`UPDATE counters SET value = (CASE WHEN value < $1 THEN $1 ELSE value END) + $2 WHERE name = 'arrival' RETURNING value`,
		now.UnixMicro(), n).Scan(&last)
	if err != nil {
		return 0, fmt.Errorf("numbering events: %w", err)
	}
	return last - int64(n) + 1, nil
}

// preferIndexes has what follows in the transaction look things up by their
// keys. PostgreSQL keeps the plans that it made when there were few rows, as in
// the first minute of a new database, and would read all of them by then.
func (tx *Tx) preferIndexes() error {
	if !tx.postgres {
		return nil
	}
	if _, err := tx.exec(`SET LOCAL enable_seqscan = off`); err != nil {
		return fmt.Errorf("preferring indexes: %w", err)
	}
	return nil
}

func (tx *Tx) knownEvents(events []*Ingest) (map[eventKey]stored, error) {
	known := make(map[eventKey]stored)
	for chunk := range slices.Chunk(events, batchRows) {
		var q strings.Builder
		q.WriteString(`SELECT id, device_id, event_count, alert_key FROM events WHERE id IN (`)
		tx.placeholders(&q, 1, len(chunk))
		q.WriteByte(')')
		args := make([]any, len(chunk))
		for i, in := range chunk {
			args[i] = in.Event.ID
		}
		err := tx.each(func(rows *sql.Rows) error {
			var k eventKey
			var s stored
			if err := rows.Scan(&k.id, &k.device, &s.count, &s.alertKey); err != nil {
				return err
			}
			known[k] = s
			return nil
		}, q.String(), args...)
		if err != nil {
			return nil, fmt.Errorf("looking for known events: %w", err)
		}
	}
	return known, nil
}

// alertChanges are the changes to alerts, by their key.
type alertChanges map[string]*alertChange

type alertChange struct {
	count int
	// newest is the newest event, nil if events only left the alert.
	newest *Ingest
}

// replace counts an event in place of what was known of it, if anything.
func (c alertChanges) replace(old stored, in *Ingest) {
	if old.alertKey != "" {
		c.of(old.alertKey).count -= old.count
	}
	if in.AlertKey == "" {
		return
	}
	a := c.of(in.AlertKey)
	a.count += in.Event.Count
	if a.newest == nil || !in.Event.LastSeen.Before(a.newest.Event.LastSeen) {
		a.newest = in
	}
}

func (c alertChanges) of(key string) *alertChange {
	a, ok := c[key]
	if !ok {
		a = &alertChange{}
		c[key] = a
	}
	return a
}

func (tx *Tx) applyAlerts(changes alertChanges) error {
	for _, key := range slices.Sorted(maps.Keys(changes)) {
		change := changes[key]
		apply := tx.putAlert
		if change.newest == nil {
			apply = tx.reduceAlert
		}
		if err := apply(key, change); err != nil {
			return err
		}
	}
	return nil
}

// reduceAlert takes events out of an alert, which ends with the last of them.
func (tx *Tx) reduceAlert(key string, change *alertChange) error {
	if _, err := tx.exec(`UPDATE alerts SET event_count = event_count + $2 WHERE alert_key = $1`, key, change.count); err != nil {
		return fmt.Errorf("counting an alert: %w", err)
	}
	if _, err := tx.exec(`DELETE FROM alerts WHERE alert_key = $1 AND event_count <= 0`, key); err != nil {
		return fmt.Errorf("removing an alert without events: %w", err)
	}
	return nil
}

func (tx *Tx) putAlert(key string, change *alertChange) error {
	a := alert.From(change.newest.Event)
	a.ID = ulid.Make().String()
	doc, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encoding an alert: %w", err)
	}
	// The document is that of the newest event; id, count and times are the
	// columns'.
	_, err = tx.exec(`INSERT INTO alerts (id, alert_key, device_id, app_id, event_count, first_seen, last_seen, doc)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (alert_key) DO UPDATE SET
			event_count = alerts.event_count + excluded.event_count,
			first_seen = CASE WHEN excluded.first_seen < alerts.first_seen THEN excluded.first_seen ELSE alerts.first_seen END,
			doc = CASE WHEN excluded.last_seen >= alerts.last_seen THEN excluded.doc ELSE alerts.doc END,
			last_seen = CASE WHEN excluded.last_seen > alerts.last_seen THEN excluded.last_seen ELSE alerts.last_seen END`,
		a.ID, key, a.DeviceID, a.AppID, change.count, nanos(a.FirstSeen), nanos(a.LastSeen), string(doc))
	if err != nil {
		return fmt.Errorf("writing an alert: %w", err)
	}
	return nil
}
