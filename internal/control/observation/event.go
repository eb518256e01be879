package observation

import (
	"context"
	"strconv"
	"time"

	"interdict/internal/control/input"
	"interdict/internal/control/page"
	"interdict/internal/event"
	"interdict/internal/fault"
	"interdict/internal/store"
)

// EventView is an event with what its device is called.
type EventView struct {
	event.Event

	// DeviceName is empty when the device was deleted.
	DeviceName string `json:"device_name,omitempty"`
}

// EventQuery asks for events. Without After they come newest first, by the
// time they arrived; with it, in the order they arrived.
type EventQuery struct {
	// Device is the id or name of a device.
	Device string
	// App is the id or name of an app, Host a destination with what is below it.
	App, Host string
	EventID   event.ID
	Action    event.Action
	User      string
	// Since and Until bound the time of the event: from Since on, before
	// Until. Zero is unbounded.
	Since, Until time.Time
	// After asks for what arrived after a cursor, oldest first; "now" is the
	// cursor of this moment, "start" that of the beginning. The page's Next
	// is then always set, and the After of the next question. A revision of
	// an event arrives again.
	After string
	page.Query
}

// The cursors that After knows beside those of pages.
const (
	afterNow   = "now"
	afterStart = "start"
)

// Events returns events, see EventQuery.
func (s *Service) Events(ctx context.Context, q EventQuery) (page.Page[EventView], error) {
	query, err := s.eventQuery(&q)
	if err != nil {
		return page.Page[EventView]{}, err
	}
	size := query.Limit
	query.Limit++
	p := page.Page[EventView]{Items: []EventView{}}
	var found []store.ArrivedEvent
	err = s.control.View(ctx, func(tx *store.Tx) (err error) {
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
		return page.Page[EventView]{}, err
	}
	last := query.After
	for _, e := range found[:min(size, len(found))] {
		p.Items = append(p.Items, EventView{e.Event, s.deviceName(e.Event.Device)})
		last = e.Arrival
	}
	if query.Ascending || len(found) > size {
		p.Next = strconv.FormatInt(last, 10)
	}
	return p, nil
}

func (s *Service) eventQuery(q *EventQuery) (store.EventQuery, error) {
	size, err := q.Size()
	if err != nil {
		return store.EventQuery{}, err
	}
	query := store.EventQuery{
		Device: s.deviceMeant(q.Device), App: s.appMeant(q.App), Host: q.Host, EventID: q.EventID, Action: string(q.Action), User: q.User,
		Since: q.Since, Until: q.Until, Limit: size, Ascending: q.After != "",
	}
	var faults fault.Fields
	input.CheckText(&faults, "device", q.Device)
	input.CheckText(&faults, "app", q.App)
	input.CheckText(&faults, "host", q.Host)
	input.CheckText(&faults, "action", string(q.Action))
	input.CheckText(&faults, "user", q.User)
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
