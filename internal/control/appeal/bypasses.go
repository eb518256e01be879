package appeal

import (
	"context"
	"strconv"
	"time"

	"interdict/internal/bypass"
	"interdict/internal/control/audience"
	"interdict/internal/control/input"
	"interdict/internal/control/page"
	"interdict/internal/event"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/store"
)

// BypassView is a bypass that counts now, as the device reported it.
type BypassView struct {
	// ID is that of the event.
	ID         string         `json:"id"`
	Device     fleet.DeviceID `json:"device"`
	DeviceName string         `json:"device_name,omitempty"`
	User       string         `json:"user,omitempty"`
	// UID is missing where no user is known.
	UID *uint32 `json:"uid,omitempty"`
	// Subject is the id of the app, or of the indicator where it belongs to
	// no app.
	Subject string `json:"subject"`
	AppName string `json:"app_name,omitempty"`
	Host    string `json:"host,omitempty"`
	Process string `json:"process,omitempty"`
	Reason  string `json:"reason,omitempty"`
	// Since and Until are by the device's clock.
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`

	arrival int64
}

// BypassQuery asks for bypasses that count now, those that were reported last
// first. Empty fields do not limit.
type BypassQuery struct {
	// Device is the id or name of a device, App that of an app or the id of an
	// indicator.
	Device, App string
	User        string
	page.Query
}

// chunk is how many events are looked through at a time.
const chunk = 1000

// Bypasses returns the bypasses that count now.
func (s *Service) Bypasses(ctx context.Context, q BypassQuery) (page.Page[BypassView], error) {
	size, err := q.Size()
	if err != nil {
		return page.Page[BypassView]{}, err
	}
	var faults fault.Fields
	input.CheckText(&faults, "device", q.Device)
	input.CheckText(&faults, "app", q.App)
	input.CheckText(&faults, "user", q.User)
	var before int64
	if q.Cursor != "" {
		if before, err = strconv.ParseInt(q.Cursor, 10, 64); err != nil || before <= 0 {
			faults.Add("cursor", "must be one that the server returned")
		}
	}
	if err = faults.Err("the query is not valid"); err != nil {
		return page.Page[BypassView]{}, err
	}
	found, err := s.active(ctx, s.resolve(filter{q.Device, q.App, q.User}), before, size+1)
	if err == nil && len(found) == 0 {
		err = s.explain(ctx, filter{device: q.Device})
	}
	p := page.Page[BypassView]{Items: found[:min(size, len(found))]}
	if len(found) > size {
		p.Next = strconv.FormatInt(found[size-1].arrival, 10)
	}
	return p, err
}

// active returns up to limit bypasses that count now, those that arrived last
// first, before an arrival number unless that is 0.
func (s *Service) active(ctx context.Context, f filter, before int64, limit int) ([]BypassView, error) {
	now := s.control.Now()
	// It arrives after it began, and lasts no longer than that. A revision of
	// the event would arrive again.
	since := now.Add(-bypass.MaxAge)
	found := []BypassView{}
	err := s.control.View(ctx, func(tx *store.Tx) error {
		for more := true; more && len(found) < limit; {
			events, err := tx.ArrivedBypasses(since, before, chunk)
			if err != nil {
				return err
			}
			more = len(events) == chunk
			for i := range events {
				before = events[i].Arrival
				if v, ok := s.bypassOf(&events[i], now); ok && f.covers(&v) {
					found = append(found, v)
				}
			}
		}
		return nil
	})
	return found[:min(limit, len(found))], err
}

func (f *filter) covers(v *BypassView) bool {
	return (f.device == "" || f.device == string(v.Device)) && (f.app == "" || f.app == v.Subject) && (f.user == "" || f.user == v.User)
}

// bypassOf returns the bypass that an event reports, and whether it counts now.
func (s *Service) bypassOf(e *store.ArrivedEvent, now time.Time) (BypassView, bool) {
	b := bypass.Bypass{User: e.User.Name, Subject: subject(&e.Event), Since: e.Time, Until: e.Until}
	var known bool
	var revocations []bypass.Revocation
	s.control.Look(func(state *audience.State, snapshot *audience.Snapshot) {
		id := fleet.DeviceID(e.Device)
		_, known = state.Devices[id]
		groups := snapshot.Target(id).Groups
		for _, r := range state.Revocations {
			if r.Scope.Covers(groups) {
				revocations = append(revocations, r.Revocation)
			}
		}
	})
	if !known || !b.Active(now.Add(ahead(e)), revocations) {
		return BypassView{}, false
	}
	return BypassView{
		ID: e.ID, Device: fleet.DeviceID(e.Device), DeviceName: s.deviceName(fleet.DeviceID(e.Device)),
		User: e.User.Name, UID: e.User.UID, Subject: b.Subject, AppName: e.AppName, Host: e.Destination.Host,
		Process: e.Process.Path, Reason: e.Reason, Since: b.Since, Until: b.Until, arrival: e.Arrival,
	}, true
}

// subject is what a bypass is of, as the device has it.
func subject(e *event.Event) string {
	if e.AppID != "" {
		return e.AppID
	}
	return e.IndicatorID
}

// ahead is by how much at least the clock of an event's device is ahead of the
// server's: what it reports cannot arrive before it happened.
func ahead(e *store.ArrivedEvent) time.Duration {
	return max(0, e.Time.Sub(time.UnixMicro(e.Arrival)))
}
