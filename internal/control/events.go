package control

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/oklog/ulid/v2"

	"interdict/internal/alert"
	"interdict/internal/bundle"
	"interdict/internal/event"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/store"
)

// Ingest keeps a device's events, each once however often it is sent, and a
// revision with a higher count in place of the one before; the alerts follow.
// All of it is durable when Ingest returns. Events that are not valid are
// rejected without harm to the others. key names the batch in the log only:
// what makes sending again harmless are the events' own ids.
func (s *Service) Ingest(ctx context.Context, id fleet.DeviceID, key string, events []event.Event) (bundle.EventReceipt, error) {
	if err := s.known(ctx, id); err != nil {
		return bundle.EventReceipt{}, err
	}
	var faults fault.Fields
	if _, err := ulid.ParseStrict(key); err != nil {
		faults.Add("idempotency_key", "must be a ULID")
	}
	if len(events) > bundle.MaxEventBatch {
		faults.Add("events", "must not be more than %d", bundle.MaxEventBatch)
	}
	if err := faults.Err("the batch is not valid"); err != nil {
		return bundle.EventReceipt{}, err
	}
	var receipt bundle.EventReceipt
	valid := make([]store.Ingest, 0, len(events))
	now := s.now()
	for i := range events {
		e := events[i]
		if err := checkEvent(&e); err != nil {
			if receipt.Rejected++; receipt.Fault == "" {
				receipt.Fault = clipText(fmt.Sprintf("event %d: %s", i, err), maxDescription)
			}
			continue
		}
		// Whose certificate it came with, not what it says.
		e.Device = string(id)
		valid = append(valid, store.Ingest{Event: &e, AlertKey: alert.Key(&e), Arrived: now})
	}
	if err := s.store.AddEvents(ctx, valid); err != nil {
		return bundle.EventReceipt{}, fmt.Errorf("keeping batch %s of device %s: %w", key, id, err)
	}
	receipt.Stored = len(valid)
	s.logger.DebugContext(ctx, "took in events", "device", id, "batch", key, "stored", receipt.Stored, "rejected", receipt.Rejected)
	return receipt, nil
}

// maxCount bounds an event's count, so that the sums of alerts stay numbers.
const maxCount = 1_000_000_000

// checkEvent makes sure that an event can be kept, which takes more than being
// valid: concurrent batches share a transaction, so what the database refuses
// would harm other devices.
func checkEvent(e *event.Event) error {
	if err := e.Validate(); err != nil {
		return err
	}
	if e.Count > maxCount {
		return fmt.Errorf("count: %d is more than %d", e.Count, maxCount)
	}
	for _, t := range []time.Time{e.Time, e.FirstSeen, e.LastSeen} {
		if t.Year() < 1970 || t.Year() > 2200 {
			return fmt.Errorf("time: the year %d is not between 1970 and 2200", t.Year())
		}
	}
	return nil
}

// Alerts returns alerts, those that were raised last first.
func (s *Service) Alerts(ctx context.Context, q AlertQuery) (Page[alert.Alert], error) {
	var faults fault.Fields
	checkText(&faults, "device", q.Device)
	checkText(&faults, "app", q.App)
	if err := faults.Err("the query is not valid"); err != nil {
		return Page[alert.Alert]{}, err
	}
	device := s.eventDevice(q.Device)
	page, err := pageOf(ctx, s, q.PageQuery, func(tx *store.Tx, size int) ([]alert.Alert, error) {
		return tx.Alerts(store.AlertQuery{Device: device, App: s.eventApp(q.App), Before: q.Cursor, Limit: size})
	}, func(a *alert.Alert) string { return a.ID })
	for i := range page.Items {
		s.nameDevice(&page.Items[i])
	}
	if err == nil && len(page.Items) == 0 {
		err = s.checkFilters(q.Device, q.App)
	}
	return page, err
}

// Alert returns the alert with an id.
func (s *Service) Alert(ctx context.Context, id string) (alert.Alert, error) {
	var a alert.Alert
	if !isText(id) {
		return a, fault.New(fault.NotFound, "there is no alert %q", id)
	}
	err := s.store.View(ctx, func(tx *store.Tx) (err error) {
		a, err = tx.Alert(id)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return a, fault.New(fault.NotFound, "there is no alert %q", id)
	}
	s.nameDevice(&a)
	return a, err
}

func (s *Service) nameDevice(a *alert.Alert) {
	a.DeviceName = s.deviceName(a.DeviceID)
}

// The cursors that After knows beside those of pages.
const (
	afterNow   = "now"
	afterStart = "start"
)

// Events returns events, see EventQuery.
func (s *Service) Events(ctx context.Context, q EventQuery) (Page[EventView], error) {
	query, err := s.eventQuery(&q)
	if err != nil {
		return Page[EventView]{}, err
	}
	size := query.Limit
	query.Limit++
	page := Page[EventView]{Items: []EventView{}}
	var found []store.ArrivedEvent
	err = s.store.View(ctx, func(tx *store.Tx) (err error) {
		if q.After == afterNow {
			query.After, err = tx.LastArrival()
			return err
		}
		found, err = tx.Events(query)
		return err
	})
	if err == nil && len(found) == 0 {
		err = s.checkFilters(q.Device, q.App)
	}
	if err != nil {
		return Page[EventView]{}, err
	}
	last := query.After
	for _, e := range found[:min(size, len(found))] {
		page.Items = append(page.Items, EventView{e.Event, s.deviceName(e.Event.Device)})
		last = e.Arrival
	}
	if query.Ascending || len(found) > size {
		page.Next = strconv.FormatInt(last, 10)
	}
	return page, nil
}

func (s *Service) eventQuery(q *EventQuery) (store.EventQuery, error) {
	size, err := q.size()
	if err != nil {
		return store.EventQuery{}, err
	}
	query := store.EventQuery{
		Device: s.eventDevice(q.Device), App: s.eventApp(q.App), Host: q.Host, EventID: q.EventID, Action: string(q.Action), User: q.User,
		Since: q.Since, Until: q.Until, Limit: size, Ascending: q.After != "",
	}
	var faults fault.Fields
	checkText(&faults, "device", q.Device)
	checkText(&faults, "app", q.App)
	checkText(&faults, "host", q.Host)
	checkText(&faults, "action", string(q.Action))
	checkText(&faults, "user", q.User)
	if q.After != "" && q.Cursor != "" {
		faults.Add("cursor", "must be empty when after is given")
	}
	if q.After != "" && q.After != afterNow && q.After != afterStart {
		query.After = arrival(q.After, "after", &faults)
	}
	if q.Cursor != "" {
		query.Before = arrival(q.Cursor, "cursor", &faults)
	}
	return query, faults.Err("the query is not valid")
}

func arrival(text, field string, faults *fault.Fields) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		faults.Add(field, "must be one that the server returned")
	}
	return n
}
