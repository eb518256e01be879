package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"interdict/internal/access"
	"interdict/internal/bypass"
	"interdict/internal/fleet"
)

// KindRevocation is what ends bypasses.
const KindRevocation Kind = "revocation"

// Revocations are what ends bypasses of warnings.
func (tx *Tx) Revocations() Docs[bypass.ScopedRevocation] {
	return Docs[bypass.ScopedRevocation]{
		tx: tx, kind: KindRevocation, sql: statementsFor("revocations"),
		key: func(r *bypass.ScopedRevocation) (string, string) { return r.ID, r.Subject },
	}
}

// PlacedRequest is a request for access with its place in the list of all.
type PlacedRequest struct {
	access.Request

	// Place is a ULID that the server gave it when it came in.
	Place string
}

// AccessRequestQuery asks for requests for access. Empty fields do not limit.
type AccessRequestQuery struct {
	Device, App, User string
	State             access.State
	// Before is a place; only older requests are wanted.
	Before string
	Limit  int
}

// AccessRequests returns requests, those that came in last first.
func (tx *Tx) AccessRequests(q AccessRequestQuery) ([]PlacedRequest, error) {
	var w where
	w.equal("device_id", q.Device)
	w.equal("app_id", q.App)
	w.equal("user_name", q.User)
	w.equal("state", string(q.State))
	w.compare("place", "<", q.Before)
	return tx.accessRequests(w.String()+" ORDER BY place DESC LIMIT "+w.arg(q.Limit), w.args...)
}

// AccessRequestsOf returns the requests of a device that are pending, or that
// were decided since a time, in the order they came in.
func (tx *Tx) AccessRequestsOf(id fleet.DeviceID, since time.Time) ([]access.Request, error) {
	placed, err := tx.accessRequests(` WHERE device_id = $1 AND (state = $2 OR settled >= $3) ORDER BY place`,
		string(id), string(access.StatePending), nanos(since))
	all := make([]access.Request, len(placed))
	for i := range placed {
		all[i] = placed[i].Request
	}
	return all, err
}

func (tx *Tx) accessRequests(rest string, args ...any) ([]PlacedRequest, error) {
	var all []PlacedRequest
	err := tx.each(func(rows *sql.Rows) error {
		r, err := scanAccessRequest(rows.Scan)
		all = append(all, r)
		return err
	}, "SELECT place, doc FROM access_requests"+rest, args...)
	if err != nil {
		return nil, fmt.Errorf("reading requests for access: %w", err)
	}
	return all, nil
}

// AccessRequest returns one request, or ErrNotFound.
func (tx *Tx) AccessRequest(id string) (PlacedRequest, error) {
	r, err := scanAccessRequest(tx.row(`SELECT place, doc FROM access_requests WHERE id = $1`, id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return PlacedRequest{}, fmt.Errorf("reading request for access %q: %w", id, err)
	}
	return r, nil
}

func scanAccessRequest(scan func(...any) error) (PlacedRequest, error) {
	var r PlacedRequest
	var doc []byte
	if err := scan(&r.Place, &doc); err != nil {
		return r, err
	}
	if err := json.Unmarshal(doc, &r.Request); err != nil {
		return r, fmt.Errorf("decoding a request for access: %w", err)
	}
	return r, nil
}

// AddAccessRequest keeps a request that came in at a time, unless there is one
// with its id, and reports whether it did.
func (tx *Tx) AddAccessRequest(r PlacedRequest, now time.Time) (bool, error) {
	doc, err := json.Marshal(r.Request)
	if err != nil {
		return false, fmt.Errorf("encoding request for access %q: %w", r.ID, err)
	}
	n, err := tx.exec(`INSERT INTO access_requests (id, place, device_id, app_id, user_name, state, settled, doc)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING`,
		r.ID, r.Place, string(r.Device), r.AppID, r.User, string(r.State), nanos(now), string(doc))
	if err != nil {
		return false, fmt.Errorf("writing request for access %q: %w", r.ID, err)
	}
	return n == 1, nil
}

// DecideAccessRequest writes what was decided about a request that was in a
// state before, and reports whether it still was.
func (tx *Tx) DecideAccessRequest(r access.Request, before access.State) (bool, error) {
	doc, err := json.Marshal(r)
	if err != nil {
		return false, fmt.Errorf("encoding request for access %q: %w", r.ID, err)
	}
	n, err := tx.exec(`UPDATE access_requests SET state = $3, settled = $4, doc = $5 WHERE id = $1 AND state = $2`,
		r.ID, string(before), string(r.State), nanos(r.DecidedAt), string(doc))
	if err != nil {
		return false, fmt.Errorf("writing request for access %q: %w", r.ID, err)
	}
	return n == 1, nil
}

// PendingAccessRequests counts the requests of a device that are not decided,
// of all devices if it is empty.
func (tx *Tx) PendingAccessRequests(id fleet.DeviceID) (int, error) {
	var w where
	w.equal("state", string(access.StatePending))
	w.equal("device_id", string(id))
	var n int
	if err := tx.row(`SELECT COUNT(*) FROM access_requests`+w.String(), w.args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("counting requests for access: %w", err)
	}
	return n, nil
}

// ForgetAccessRequests deletes the requests that came in or were decided, the
// later of the two, before a time, and returns how many there were.
func (s *Store) ForgetAccessRequests(ctx context.Context, before time.Time) (int64, error) {
	return s.forget(ctx, "access_requests", "settled", nanos(before))
}

// ForgetOrphanedRequests deletes the requests that nobody has decided of devices
// that are gone, and returns how many there were.
func (s *Store) ForgetOrphanedRequests(ctx context.Context) (n int64, err error) {
	err = s.Write(ctx, func(tx *Tx) (err error) {
		n, err = tx.exec(`DELETE FROM access_requests WHERE state = $1 AND device_id NOT IN (SELECT id FROM devices)`,
			string(access.StatePending))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("forgetting requests for access of devices that are gone: %w", err)
	}
	return n, nil
}

// BypassesOfDevice is how many events of bypasses are looked at of a device: the
// last ones. So one that reports many is no reason to read more than that.
const BypassesOfDevice = 100

// lastReported are the arrival numbers of the last bypasses of each device. It
// goes from device to device, and reads nothing in between, in the index
// events_bypassed.
const lastReported = `WITH RECURSIVE
	reporting (device) AS (
		SELECT MIN(device_id) FROM events WHERE event_id = 1129
		UNION ALL
		SELECT (SELECT MIN(device_id) FROM events WHERE event_id = 1129 AND device_id > reporting.device)
		FROM reporting WHERE device IS NOT NULL),
	first (device, arrival) AS (
		SELECT device, COALESCE((SELECT arrival FROM events WHERE event_id = 1129 AND device_id = reporting.device
			ORDER BY arrival DESC LIMIT 1 OFFSET $1), 0)
		FROM reporting WHERE device IS NOT NULL),
	last (arrival) AS MATERIALIZED (
		SELECT events.arrival FROM first JOIN events
		ON event_id = 1129 AND events.device_id = first.device AND events.arrival >= first.arrival AND events.arrival >= $2)
	`

// ArrivedBypasses returns the events of bypasses, the last [BypassesOfDevice] of
// each device, that arrived from since on and, unless that is 0, before an
// arrival number; newest first.
func (tx *Tx) ArrivedBypasses(since time.Time, before int64, limit int) ([]ArrivedEvent, error) {
	if err := tx.preferIndexes(); err != nil {
		return nil, err
	}
	w := where{args: []any{BypassesOfDevice - 1, since.UnixMicro()}}
	w.compareInt("arrival", "<", before)
	return tx.arrivedEvents(lastReported, " WHERE arrival IN (SELECT arrival FROM last"+w.String()+
		" ORDER BY arrival DESC LIMIT "+w.arg(limit)+") ORDER BY arrival DESC", w.args...)
}
