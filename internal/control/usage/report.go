package usage

import (
	"context"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"interdict/internal/bundle"
	"interdict/internal/control/input"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/store"
)

// The bounds of what a report says of one use.
const (
	maxUser    = 256
	maxProcess = 512
	maxCount   = 1_000_000
)

// maxBegun is how many apps, users and processes of a device begin to be counted
// on a day: a device that makes names up fills the database with them.
const maxBegun = 10_000

const (
	// oldest is how long ago a report may have been made.
	oldest = 90 * 24 * time.Hour
	// longest is the longest span of time of a report.
	longest = 24 * time.Hour
)

// Report takes in what a device's programs connected to, once: what was sent
// already with the same key changes nothing. What belongs to no app is left
// out. It is durable when Report returns. The fault is Invalid if the key is no
// ULID or there are too many uses; a use that makes no sense is left out, and
// what the device uses for the first time when it did that too often on the day.
func (s *Service) Report(ctx context.Context, id fleet.DeviceID, key string, r bundle.UsageReport) error {
	if err := s.control.Known(ctx, id); err != nil {
		return err
	}
	var faults fault.Fields
	if _, err := ulid.ParseStrict(key); err != nil {
		faults.Add("idempotency_key", "must be a ULID")
	}
	if len(r.Uses) > bundle.MaxUses {
		faults.Add("uses", "must not be more than %d", bundle.MaxUses)
	}
	if err := faults.Err("the report is not valid"); err != nil {
		return err
	}
	now := s.control.Now().UTC()
	kept := store.UsageReport{Device: id, Key: key, Received: now, Uses: s.attribute(r.Uses), MaxBegun: maxBegun}
	kept.Start, kept.End = clamp(r.Start, r.End, now)
	done, err := s.store.AddUsage(ctx, kept)
	if err != nil {
		return fmt.Errorf("keeping report %s of device %s: %w", key, id, err)
	}
	s.logger.DebugContext(ctx, "took in use", "device", id, "report", key, "uses", len(r.Uses), "of_apps", len(kept.Uses), "new", done.Added,
		"dropped", r.Dropped, "left_out", done.LeftOut)
	if done.LeftOut > 0 && done.LeftOut == done.LeftOutToday {
		s.logger.WarnContext(ctx, "a device reports more use than is kept of a day", "device", id, "limit", maxBegun)
	}
	return nil
}

// attribute adds up the uses of apps: names of one app count as one.
func (s *Service) attribute(uses []bundle.Use) []store.Usage {
	place := make(map[store.Usage]int)
	var kept []store.Usage
	for _, u := range uses {
		app := s.owners.Of(u.Host)
		if app == "" || u.Count < 1 {
			continue
		}
		one := store.Usage{AppID: app, User: input.Clip(u.User, maxUser), Process: input.Clip(u.Process, maxProcess)}
		i, ok := place[one]
		if !ok {
			i = len(kept)
			place[one] = i
			kept = append(kept, one)
		}
		kept[i].Count += min(u.Count, maxCount)
	}
	return kept
}

// clamp returns a span of time that can be, for one that a device says: it ends
// by now and is not too old or too long.
func clamp(start, end, now time.Time) (from, to time.Time) {
	to = end
	if to.After(now) {
		to = now
	}
	if early := now.Add(-oldest); to.Before(early) {
		to = early
	}
	from = start
	if from.After(to) {
		from = to
	}
	if early := to.Add(-longest); from.Before(early) {
		from = early
	}
	return from.UTC(), to.UTC()
}
