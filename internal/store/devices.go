package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"interdict/internal/fleet"
)

// Membership says that a device is a static member of a group.
type Membership struct {
	GroupID  string
	DeviceID fleet.DeviceID
}

// Memberships returns all static memberships.
func (tx *Tx) Memberships() ([]Membership, error) {
	return tx.memberships(`SELECT group_id, device_id FROM group_members ORDER BY device_id, group_id`)
}

// GroupsOf returns the memberships of one device.
func (tx *Tx) GroupsOf(id fleet.DeviceID) ([]Membership, error) {
	return tx.memberships(`SELECT group_id, device_id FROM group_members WHERE device_id = $1 ORDER BY group_id`, string(id))
}

// MembersOf returns the memberships of one group.
func (tx *Tx) MembersOf(groupID string) ([]Membership, error) {
	return tx.memberships(`SELECT group_id, device_id FROM group_members WHERE group_id = $1 ORDER BY device_id`, groupID)
}

func (tx *Tx) memberships(query string, args ...any) ([]Membership, error) {
	var all []Membership
	err := tx.each(func(rows *sql.Rows) error {
		var m Membership
		if err := rows.Scan(&m.GroupID, &m.DeviceID); err != nil {
			return err
		}
		all = append(all, m)
		return nil
	}, query, args...)
	if err != nil {
		return nil, fmt.Errorf("reading memberships: %w", err)
	}
	return all, nil
}

// Join makes devices static members of a group; those that are stay so. It
// touches the devices.
func (tx *Tx) Join(groupID string, devices ...fleet.DeviceID) error {
	b := tx.insert(`INSERT INTO group_members (group_id, device_id) VALUES `, 2, ` ON CONFLICT (device_id, group_id) DO NOTHING`)
	for _, id := range devices {
		if err := b.add(groupID, string(id)); err != nil {
			return fmt.Errorf("joining group %q: %w", groupID, err)
		}
		if err := tx.touch(KindDevice, string(id)); err != nil {
			return err
		}
	}
	if err := b.flush(); err != nil {
		return fmt.Errorf("joining group %q: %w", groupID, err)
	}
	return nil
}

// Leave ends static memberships. It touches the devices.
func (tx *Tx) Leave(groupID string, devices ...fleet.DeviceID) error {
	for _, id := range devices {
		if _, err := tx.exec(`DELETE FROM group_members WHERE group_id = $1 AND device_id = $2`, groupID, string(id)); err != nil {
			return fmt.Errorf("leaving group %q: %w", groupID, err)
		}
		if err := tx.touch(KindDevice, string(id)); err != nil {
			return err
		}
	}
	return nil
}

// DeviceState is what a device says of itself, and who hears it.
type DeviceState struct {
	Device fleet.DeviceID
	// Server is the instance that holds the device's stream, empty for none.
	Server   string
	LastSeen time.Time
	Applied  fleet.Applied
	// UpdatedAt is when the state was written, by the writer's clock.
	UpdatedAt time.Time
}

const stateColumns = `device_id, server, last_seen, applied_version, applied_digest, applied_at, applied_mode, applied_error, applied_since, report, updated_at`

// report is what is read and written as a whole.
type report struct {
	Settings []fleet.SettingReport `json:"settings,omitempty"`
	Health   []fleet.HealthItem    `json:"health,omitempty"`
	Held     map[string]fleet.Held `json:"held,omitempty"`
}

func encodeReport(a *fleet.Applied) (string, error) {
	if len(a.Settings)+len(a.Health)+len(a.Held) == 0 {
		return "", nil
	}
	text, err := json.Marshal(report{a.Settings, a.Health, a.Held})
	return string(text), err
}

func decodeReport(text []byte, a *fleet.Applied) error {
	if len(text) == 0 {
		return nil
	}
	var r report
	err := json.Unmarshal(text, &r)
	a.Settings, a.Health, a.Held = r.Settings, r.Health, r.Held
	return err
}

// PutDeviceStates writes the states of devices. Calls at the same time share
// a transaction.
func (s *Store) PutDeviceStates(ctx context.Context, states ...DeviceState) error {
	if len(states) == 0 {
		return nil
	}
	return s.states.add(ctx, states, len(states))
}

func (s *Store) writeStates(ctx context.Context, batches [][]DeviceState) error {
	// One INSERT must not write a row twice: the last state of a device wins.
	newest := make(map[fleet.DeviceID]*DeviceState)
	for _, batch := range batches {
		for i := range batch {
			newest[batch[i].Device] = &batch[i]
		}
	}
	return s.Write(ctx, func(tx *Tx) error {
		b := tx.insert(`INSERT INTO device_states (`+stateColumns+`) VALUES `, 11, ` ON CONFLICT (device_id) DO UPDATE SET
			server = excluded.server, last_seen = excluded.last_seen, applied_version = excluded.applied_version,
			applied_digest = excluded.applied_digest, applied_at = excluded.applied_at, applied_mode = excluded.applied_mode,
			applied_error = excluded.applied_error, applied_since = excluded.applied_since, report = excluded.report, updated_at = excluded.updated_at`)
		for _, d := range sortedByKey(newest) {
			text, err := encodeReport(&d.Applied)
			if err != nil {
				return fmt.Errorf("encoding the report of device %q: %w", d.Device, err)
			}
			err = b.add(string(d.Device), d.Server, nanos(d.LastSeen), d.Applied.Version, d.Applied.Digest,
				nanos(d.Applied.At), string(d.Applied.Mode), d.Applied.Error, nanos(d.Applied.Since), text, nanos(d.UpdatedAt))
			if err != nil {
				return fmt.Errorf("writing the states of devices: %w", err)
			}
		}
		if err := b.flush(); err != nil {
			return fmt.Errorf("writing the states of devices: %w", err)
		}
		return nil
	})
}

// DeviceStates returns the states that were written since a time; the zero
// time is for all. Clocks of servers differ, so ask for a little more than
// is needed.
func (tx *Tx) DeviceStates(since time.Time) ([]DeviceState, error) {
	var all []DeviceState
	err := tx.each(func(rows *sql.Rows) error {
		var d DeviceState
		var seen, appliedAt, appliedSince, updated int64
		var text sql.RawBytes
		err := rows.Scan(&d.Device, &d.Server, &seen, &d.Applied.Version, &d.Applied.Digest, &appliedAt,
			&d.Applied.Mode, &d.Applied.Error, &appliedSince, &text, &updated)
		if err != nil {
			return err
		}
		d.LastSeen, d.Applied.At, d.Applied.Since = fromNanos(seen), fromNanos(appliedAt), fromNanos(appliedSince)
		d.UpdatedAt = fromNanos(updated)
		if err := decodeReport(text, &d.Applied); err != nil {
			return fmt.Errorf("decoding the report of device %q: %w", d.Device, err)
		}
		all = append(all, d)
		return nil
	}, `SELECT `+stateColumns+` FROM device_states WHERE updated_at >= $1`, nanos(since))
	if err != nil {
		return nil, fmt.Errorf("reading the states of devices: %w", err)
	}
	return all, nil
}

// ForgetDevice removes a device's state and memberships. Its events and
// alerts stay.
func (tx *Tx) ForgetDevice(id fleet.DeviceID) error {
	if _, err := tx.exec(`DELETE FROM group_members WHERE device_id = $1`, string(id)); err != nil {
		return fmt.Errorf("removing the memberships of device %q: %w", id, err)
	}
	if _, err := tx.exec(`DELETE FROM device_states WHERE device_id = $1`, string(id)); err != nil {
		return fmt.Errorf("removing the state of device %q: %w", id, err)
	}
	return nil
}
