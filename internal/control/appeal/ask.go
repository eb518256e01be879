package appeal

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/oklog/ulid/v2"

	"interdict/internal/access"
	"interdict/internal/control"
	"interdict/internal/control/input"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/store"
)

const (
	// maxPending bounds the requests of one device that nobody has decided.
	maxPending = 100
	// shown is for how long a device is told of a request that was decided.
	shown = 7 * 24 * time.Hour
	// The bounds of what a device says in a request, in bytes.
	maxUser, maxAppID, maxProcess = 256, 128, 4096
)

// Ask takes a request for access from a device, whose certificate said which
// it is, and returns it as it is kept: what is sent again is what was decided
// about it by then. The fault is Invalid if the request breaks a rule,
// Conflict if another device's has its id, and TooMany while too many of the
// device's requests are pending.
func (s *Service) Ask(ctx context.Context, id fleet.DeviceID, source string, r access.Request) (access.Request, error) {
	if err := s.control.Known(ctx, id); err != nil {
		return access.Request{}, err
	}
	now := s.control.Now().UTC()
	r, err := s.checkRequest(id, r, now)
	if err != nil {
		return access.Request{}, err
	}
	by := control.Actor{Kind: control.ActorDevice, ID: string(id), Name: s.deviceName(id), Source: source}
	err = s.control.Write(ctx, func(tx *store.Tx) error {
		have, missing := tx.AccessRequest(r.ID)
		switch {
		case missing == nil && have.Device != id:
			return fault.New(fault.Conflict, "the id of the request is taken")
		case missing == nil:
			r = have.Request
			return nil
		case !errors.Is(missing, store.ErrNotFound):
			return missing
		}
		return s.keep(tx, by, r, now)
	})
	return r, err
}

func (s *Service) keep(tx *store.Tx, by control.Actor, r access.Request, now time.Time) error {
	pending, err := tx.PendingAccessRequests(r.Device)
	if err != nil {
		return err
	}
	if pending >= maxPending {
		return fault.New(fault.TooMany, "%d requests of this device are not decided yet", pending).
			WithHint("send it again when some are")
	}
	added, err := tx.AddAccessRequest(store.PlacedRequest{Place: ulid.Make().String(), Request: r}, now)
	if err != nil {
		return err
	}
	if !added {
		// The same request came twice at the same time.
		return fault.New(fault.Unavailable, "request %s is being kept at this moment", r.ID).WithHint("send it again")
	}
	tx.Audit(s.control.Entry(by, "access.request", r.ID, nil, r))
	return nil
}

// checkRequest returns the request as it is to be kept: nothing of it is
// decided, and whose it is only the certificate says.
func (s *Service) checkRequest(id fleet.DeviceID, r access.Request, now time.Time) (access.Request, error) {
	var faults fault.Fields
	if _, err := ulid.ParseStrict(r.ID); err != nil {
		faults.Add("id", "must be a ULID")
	}
	for _, text := range []struct {
		field, value string
		limit        int
	}{{"user", r.User, maxUser}, {"app_id", r.AppID, maxAppID}} {
		if len(text.value) > text.limit || !input.IsText(text.value) {
			faults.Add(text.field, "must be printable text of at most %d bytes", text.limit)
		}
	}
	access.CheckText(&faults, "reason", r.Reason)
	kept := access.Request{
		ID: r.ID, Device: id, UID: r.UID, User: r.User, AppID: r.AppID, AppName: input.Clip(r.AppName, input.MaxFact),
		Process: input.Clip(r.Process, maxProcess), Reason: r.Reason, AskedAt: askedAt(r.AskedAt, now), State: access.StatePending,
	}
	if app, err := s.control.FindApp(r.AppID); r.AppID != "" && err == nil {
		kept.AppID, kept.AppName = app.ID, app.Name
	}
	if r.Host != "" || r.AppID == "" {
		_, host, err := destination(r.Host)
		if err != nil {
			faults.Add("host", "must be a name or an address: %s", err)
		}
		kept.Host = host
	}
	return kept, faults.Err("the request for access is not valid")
}

// destination returns what kind of indicator stands for a host, and the host in
// its canonical form.
func destination(host string) (indicator.Type, string, error) {
	kind := indicator.TypeDomain
	if _, err := netip.ParseAddr(host); err == nil {
		kind = indicator.TypeIP
	}
	value, err := indicator.Parse(kind, host)
	if err != nil {
		return "", "", fmt.Errorf("reading the destination %.80q: %w", host, err)
	}
	return kind, value, nil
}

// askedAt returns when a request was made as its device says, if that can be:
// it may have waited for the server for long, but not come from the future.
func askedAt(says, now time.Time) time.Time {
	if says.After(now) || now.Sub(says) > maxApproval {
		return now
	}
	return says.UTC()
}

// Of returns what a device is to tell its users: the requests that are
// pending, and those that were decided in the last week.
func (s *Service) Of(ctx context.Context, id fleet.DeviceID) ([]access.Request, error) {
	if err := s.control.Known(ctx, id); err != nil {
		return nil, err
	}
	since := s.control.Now().Add(-shown)
	var all []access.Request
	err := s.control.View(ctx, func(tx *store.Tx) (err error) {
		all, err = tx.AccessRequestsOf(id, since)
		return err
	})
	return all, err
}
