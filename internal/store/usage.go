package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"interdict/internal/event"
	"interdict/internal/fleet"
)

// Usage is how often one program of one user on one device used an app.
type Usage struct {
	AppID string
	// User and Process are empty where they are not known.
	User, Process string
	Count         int
}

// UsageReport is what a device reports at once: all in the same span of time.
type UsageReport struct {
	Device fleet.DeviceID
	// Key tells reports of the device apart.
	Key        string
	Start, End time.Time
	Received   time.Time
	Uses       []Usage
	// MaxBegun bounds how many rows the device may begin on the day on which
	// the report was received. 0 bounds nothing.
	MaxBegun int
}

// UsageAdded is what became of a report.
type UsageAdded struct {
	// Added is false for one of the last few that the device sent already.
	Added bool
	// LeftOut is how many uses would have begun a row too many, LeftOutToday
	// how many of the same day.
	LeftOut, LeftOutToday int
}

// keptReports is how many reports of a device are remembered by their keys. A
// device sends one after the other, so that it is the last one that may come
// again.
const keptReports = 16

// AddUsage adds a report to what its device used on the day of its end, once. No
// two uses may be of the same app, user and process.
func (s *Store) AddUsage(ctx context.Context, r UsageReport) (done UsageAdded, err error) {
	err = s.Write(ctx, func(tx *Tx) error {
		done, err = tx.addUsage(r)
		return err
	})
	if err != nil {
		return UsageAdded{}, fmt.Errorf("writing what device %q used: %w", r.Device, err)
	}
	return done, nil
}

func (tx *Tx) addUsage(r UsageReport) (done UsageAdded, err error) {
	note, err := tx.lastReports(&r)
	if err != nil || slices.Contains(note.keys, r.Key) {
		return done, err
	}
	if err := tx.preferIndexes(); err != nil {
		return done, err
	}
	if r.MaxBegun > 0 {
		known, err := tx.knownUses(&r)
		if err != nil {
			return done, err
		}
		done.LeftOut = note.admit(&r, known)
	}
	done.Added, done.LeftOutToday = true, note.leftOut
	note.keys = append(note.keys, r.Key)
	note.keys = note.keys[max(0, len(note.keys)-keptReports):]
	return done, errors.Join(tx.addUses(&r), tx.noteReport(&r, &note))
}

// usageNote is what is remembered of a device's reports.
type usageNote struct {
	keys []string
	// begun and leftOut are how many rows it began on the day, and how many it
	// would have begun beyond the bound.
	begun, leftOut int
}

// admit leaves out of a report what would begin a row too many, and returns how
// much that was.
func (n *usageNote) admit(r *UsageReport, known map[Usage]bool) (leftOut int) {
	var uses []Usage
	for _, u := range r.Uses {
		if !known[Usage{AppID: u.AppID, User: u.User, Process: u.Process}] {
			if n.begun >= r.MaxBegun {
				leftOut++
				continue
			}
			n.begun++
		}
		uses = append(uses, u)
	}
	r.Uses = uses
	n.leftOut += leftOut
	return leftOut
}

// lastReports returns what is remembered of a device's reports, the counts for
// the day on which this one was received. It holds the device's row until the
// end, so that the same report cannot be added twice at a time.
func (tx *Tx) lastReports(r *UsageReport) (n usageNote, err error) {
	var keys string
	var day int64
	err = tx.row(`INSERT INTO usage_reports (device_id, keys, received) VALUES ($1, '', $2)
		ON CONFLICT (device_id) DO UPDATE SET received = excluded.received RETURNING keys, day, begun, left_out`,
		string(r.Device), nanos(r.Received)).Scan(&keys, &day, &n.begun, &n.leftOut)
	if err != nil {
		return n, fmt.Errorf("reading what it reported last: %w", err)
	}
	n.keys = strings.Fields(keys)
	if day != dayOf(r.Received) {
		n.begun, n.leftOut = 0, 0
	}
	return n, nil
}

func (tx *Tx) noteReport(r *UsageReport, n *usageNote) error {
	_, err := tx.exec(`UPDATE usage_reports SET keys = $2, day = $3, begun = $4, left_out = $5 WHERE device_id = $1`,
		string(r.Device), strings.Join(n.keys, " "), dayOf(r.Received), n.begun, n.leftOut)
	if err != nil {
		return fmt.Errorf("noting the report: %w", err)
	}
	return nil
}

// knownUses returns what a device is known to have used of the apps of a report,
// on the day of its end; counts are 0.
func (tx *Tx) knownUses(r *UsageReport) (map[Usage]bool, error) {
	apps := make(map[string]bool)
	for _, u := range r.Uses {
		apps[u.AppID] = true
	}
	known := make(map[Usage]bool)
	for chunk := range slices.Chunk(slices.Sorted(maps.Keys(apps)), batchRows) {
		var w where
		query := `SELECT app_id, user_name, process FROM app_usage WHERE device_id = ` + w.arg(string(r.Device)) +
			` AND day = ` + w.arg(dayOf(r.End)) + ` AND app_id IN (` + w.list(chunk) + `)`
		err := tx.each(func(rows *sql.Rows) error {
			var u Usage
			err := rows.Scan(&u.AppID, &u.User, &u.Process)
			known[u] = true
			return err
		}, query, w.args...)
		if err != nil {
			return nil, fmt.Errorf("looking for what it used already: %w", err)
		}
	}
	return known, nil
}

func (tx *Tx) addUses(r *UsageReport) error {
	b := tx.insert(`INSERT INTO app_usage (app_id, day, device_id, user_name, process, uses, first_seen, last_seen) VALUES `, 8,
		` ON CONFLICT (app_id, day, device_id, user_name, process) DO UPDATE SET
			uses = app_usage.uses + excluded.uses,
			first_seen = CASE WHEN excluded.first_seen < app_usage.first_seen THEN excluded.first_seen ELSE app_usage.first_seen END,
			last_seen = CASE WHEN excluded.last_seen > app_usage.last_seen THEN excluded.last_seen ELSE app_usage.last_seen END`)
	for _, u := range r.Uses {
		if err := b.add(u.AppID, dayOf(r.End), string(r.Device), u.User, u.Process, u.Count, nanos(r.Start), nanos(r.End)); err != nil {
			return fmt.Errorf("adding uses: %w", err)
		}
	}
	if err := b.flush(); err != nil {
		return fmt.Errorf("adding uses: %w", err)
	}
	return nil
}

// dayOf returns the days since 1970 in UTC.
func dayOf(t time.Time) int64 { return t.Unix() / int64(24*time.Hour/time.Second) }

// ForgetUsage deletes what was used on the days before that of a time, and
// what is remembered of devices that have been silent since. It returns how
// many rows were deleted.
func (s *Store) ForgetUsage(ctx context.Context, before time.Time) (int64, error) {
	n, err := s.forgetDays(ctx, dayOf(before))
	if err != nil {
		return n, err
	}
	silent, err := s.forget(ctx, "usage_reports", "received", nanos(before))
	return n + silent, err
}

// forgetDays deletes the days before one in pieces: a day has too many rows to
// hold everybody up for it.
func (s *Store) forgetDays(ctx context.Context, before int64) (total int64, err error) {
	for {
		var n int64
		err := s.Write(ctx, func(tx *Tx) (err error) {
			n, err = tx.exec(`DELETE FROM app_usage WHERE (app_id, day, device_id, user_name, process) IN
				(SELECT app_id, day, device_id, user_name, process FROM app_usage WHERE day < $1 LIMIT $2)`, before, forgetRows)
			return err
		})
		if err != nil {
			return total, fmt.Errorf("forgetting old use: %w", err)
		}
		if total += n; n < forgetRows {
			return total, nil
		}
	}
}

// ActionCount is how many people and devices met with an action.
type ActionCount struct {
	Action  event.Action
	Devices int
	// Users counts names; who has none is not counted.
	Users  int
	Events int
}

// AppActivity counts, for each action that events report of connections to an
// app, whom it met with, in what arrived since a time. It is answered from an
// index alone. The inner sums are many times fewer than the events, and it is
// only among them that both engines have to look for what is different.
func (tx *Tx) AppActivity(app string, since time.Time) ([]ActionCount, error) {
	var all []ActionCount
	err := tx.each(func(rows *sql.Rows) error {
		var c ActionCount
		err := rows.Scan(&c.Action, &c.Devices, &c.Users, &c.Events)
		all = append(all, c)
		return err
	}, `SELECT action, COUNT(DISTINCT device_id), COUNT(DISTINCT NULLIF(user_name, '')), SUM(n) FROM
		(SELECT action, device_id, user_name, SUM(event_count) AS n
		FROM events WHERE app_id = $1 AND arrival >= $2 AND app_id <> '' AND event_id IN (1125, 1126, 1129)
		GROUP BY action, device_id, user_name) AS met
		GROUP BY action ORDER BY action`, app, since.UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("counting what happened about app %q: %w", app, err)
	}
	return all, nil
}

// maxProcess bounds the process of an event in the column that is counted by,
// in bytes: an index takes no longer ones.
const maxProcess = 512

// processOf returns the path of an event's process as it is counted by.
func processOf(e *event.Event) string {
	path := e.Process.Path
	return strings.ToValidUTF8(path[:min(len(path), maxProcess)], "")
}

// Used says by whom apps were used.
type Used struct {
	// Devices are all of them, with their counts.
	Devices map[fleet.DeviceID]int
	// Users and Processes count those that are known.
	Users, Processes int
	// TopUsers and TopProcesses are those with the highest counts.
	TopUsers, TopProcesses []NameCount
}

// NameCount is how often something happened under a name.
type NameCount struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

// UseQuery asks by whom apps were used.
type UseQuery struct {
	Apps  []string
	Since time.Time
	// Top bounds each list of the highest counts.
	Top int
}

// Used returns by whom apps were used since the day of a time, by what devices
// report of their connections and by what events report of those that were,
// or would have been, refused. A connection may be in both, so the counts are
// for comparing.
func (tx *Tx) Used(q UseQuery) (Used, error) {
	u := Used{Devices: make(map[fleet.DeviceID]int)}
	var w where
	from := q.from(&w)
	err := tx.each(func(rows *sql.Rows) error {
		var id fleet.DeviceID
		var n int
		err := rows.Scan(&id, &n)
		u.Devices[id] = n
		return err
	}, "SELECT device_id, SUM(n) FROM ("+from+") AS used GROUP BY device_id", w.args...)
	if err != nil {
		return u, fmt.Errorf("counting the devices that used apps: %w", err)
	}
	var userErr, processErr error
	u.Users, u.TopUsers, userErr = tx.usedBy("user_name", &q)
	u.Processes, u.TopProcesses, processErr = tx.usedBy("process", &q)
	return u, errors.Join(userErr, processErr)
}

// usedBy returns how many different values of a column there are, and those
// with the highest counts.
func (tx *Tx) usedBy(column string, q *UseQuery) (distinct int, top []NameCount, err error) {
	var w where
	grouped := "SELECT " + column + " AS name, SUM(n) AS n FROM (" + q.from(&w) + ") AS used WHERE " + column + " <> '' GROUP BY " + column
	err = tx.each(func(rows *sql.Rows) error {
		var c NameCount
		unread := rows.Scan(&c.Name, &c.Count, &distinct)
		top = append(top, c)
		return unread
	}, "SELECT name, n, COUNT(*) OVER () FROM ("+grouped+") AS grouped ORDER BY n DESC, name LIMIT "+w.arg(q.Top), w.args...)
	if err != nil {
		return 0, nil, fmt.Errorf("counting by %s who used apps: %w", column, err)
	}
	return distinct, top, nil
}

// from returns the rows of both sources: device_id, user_name, process and n.
func (q *UseQuery) from(w *where) string {
	in := "app_id IN (" + w.list(q.Apps) + ")"
	return `SELECT device_id, user_name, process, uses AS n FROM app_usage WHERE ` + in + ` AND day >= ` + w.arg(dayOf(q.Since)) +
		` UNION ALL SELECT device_id, user_name, process, event_count AS n FROM events WHERE ` + in + ` AND arrival >= ` + w.arg(q.Since.UnixMicro()) +
		` AND app_id <> '' AND event_id IN (1125, 1126, 1129)`
}
