package store

import (
	"database/sql"
	"fmt"
	"time"

	"interdict/internal/fleet"
	"interdict/internal/staging"
)

// KindRollout is a staged change.
const KindRollout Kind = "rollout"

// Rollouts are the staged changes; their name is RolloutName of their target.
func (tx *Tx) Rollouts() Docs[staging.Rollout] {
	return Docs[staging.Rollout]{
		tx: tx, kind: KindRollout, sql: statementsFor("rollouts"),
		key: func(r *staging.Rollout) (string, string) { return r.ID, RolloutName(r.Target()) },
	}
}

// RolloutName is the name of the rollouts of a target, see
// [staging.Rollout.Target].
func RolloutName(kind, id string) string { return kind + " " + id }

// Refused is how many connections of a device were refused.
type Refused struct {
	Device fleet.DeviceID
	Count  int
}

// RefusedByTag counts the refused connections (1126) to an app that devices
// reported from a time on, by the server's clock. Devices that reported none
// are left out.
func (tx *Tx) RefusedByTag(appID string, since time.Time) ([]Refused, error) {
	return tx.refused(`SELECT device_id, SUM(event_count) FROM events
		WHERE app_id = $1 AND arrival >= $2 AND app_id <> '' AND event_id IN (1125, 1126, 1129) AND action IN ('blocked', 'warned')
		GROUP BY device_id ORDER BY device_id`, appID, since)
}

// RefusedByDevice counts all connections of a device that were refused (1126),
// whatever refused them. There is at most one count.
func (tx *Tx) RefusedByDevice(id fleet.DeviceID, since time.Time) ([]Refused, error) {
	return tx.refused(`SELECT device_id, SUM(event_count) FROM events
		WHERE device_id = $1 AND arrival >= $2 AND event_id = 1126
		GROUP BY device_id`, string(id), since)
}

func (tx *Tx) refused(query, id string, since time.Time) ([]Refused, error) {
	var all []Refused
	err := tx.each(func(rows *sql.Rows) error {
		var r Refused
		err := rows.Scan(&r.Device, &r.Count)
		all = append(all, r)
		return err
	}, query, id, since.UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("counting refused connections: %w", err)
	}
	return all, nil
}
