package observation

import (
	"context"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"interdict/internal/alert"
	"interdict/internal/bundle"
	"interdict/internal/control/input"
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
	if err := s.control.Known(ctx, id); err != nil {
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
	now := s.control.Now()
	for i := range events {
		e := events[i]
		if err := checkEvent(&e); err != nil {
			if receipt.Rejected++; receipt.Fault == "" {
				receipt.Fault = input.Clip(fmt.Sprintf("event %d: %s", i, err), input.MaxDescription)
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
	s.observed(events)
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
