package store

import (
	"context"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
)

// forgetRows bounds the rows that one transaction of Forget deletes, so that
// events which come in meanwhile do not wait for long.
const forgetRows = 5000

// Forget deletes the events that arrived, and the alerts that were raised,
// before a time, by the server's clock: devices do not decide how long
// something is kept. It returns how many were deleted, also with an error.
func (s *Store) Forget(ctx context.Context, before time.Time) (events, alerts int64, err error) {
	events, err = s.forget(ctx, "events", "arrival", before.UnixMicro())
	if err != nil {
		return events, 0, err
	}
	// The id of an alert begins with the time at which it was raised.
	var first ulid.ULID
	if err = first.SetTime(ulid.Timestamp(before)); err != nil {
		return events, 0, fmt.Errorf("forgetting alerts before %s: %w", before, err)
	}
	alerts, err = s.forget(ctx, "alerts", "id", first.String())
	return events, alerts, err
}

// forget deletes the rows of a table whose column is below a bound.
func (s *Store) forget(ctx context.Context, table, column string, bound any) (total int64, err error) {
	query := "DELETE FROM " + table + " WHERE " + column + " IN (SELECT " + column + " FROM " + table +
		" WHERE " + column + " < $1 ORDER BY " + column + " LIMIT $2)"
	for {
		var n int64
		err := s.Write(ctx, func(tx *Tx) (err error) {
			n, err = tx.exec(query, bound, forgetRows)
			return err
		})
		if err != nil {
			return total, fmt.Errorf("forgetting old %s: %w", table, err)
		}
		if total += n; n < forgetRows {
			return total, nil
		}
	}
}
