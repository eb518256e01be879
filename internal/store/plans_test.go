package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"interdict/internal/event"
	"interdict/internal/store"
)

// TestPostgreSQLReadsNoTableFromEndToEnd lets a database grow from nothing
// without statistics, and asks on the way what is asked after every batch:
// PostgreSQL keeps plans that it made while there were few rows.
func TestPostgreSQLReadsNoTableFromEndToEnd(t *testing.T) {
	const batches, size = 40, 250
	c := store.Config{URL: postgres.URL(t)}
	s := open(t, c)
	watch := connect(t, c.URL)
	// Nobody takes statistics meanwhile.
	for _, table := range []string{"events", "alerts", "app_usage"} {
		if _, err := watch.Exec(t.Context(), "ALTER TABLE "+table+" SET (autovacuum_enabled = false)"); err != nil {
			t.Fatal(err)
		}
	}
	for i := range batches {
		growBy(t, s, i, size)
		askAround(t, s)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	waitUntilAlone(t, watch)
	// A page's worth is what a new table may be read for.
	for _, table := range []string{"events", "alerts", "app_usage"} {
		var rows, read int64
		err := watch.QueryRow(t.Context(), "SELECT n_live_tup, seq_tup_read FROM pg_stat_user_tables WHERE relname = $1", table).Scan(&rows, &read)
		if err != nil {
			t.Fatal(err)
		}
		if rows == 0 || read > size {
			t.Errorf("%s has %d rows, of which %d were read from end to end; want at most %d", table, rows, read, size)
		}
	}
}

// growBy adds the batch with a number: events, and what a device used.
func growBy(t *testing.T, s *store.Store, batch, size int) {
	t.Helper()
	var events []event.Event
	var uses []store.Usage
	for i := range size {
		e := newEvent(fmt.Sprint("d", i%10), 1)
		e.PolicyID = fmt.Sprint("p", i%3)
		if i == 0 {
			e.EventID, e.Action, e.Until = event.IDBypassed, event.ActionBypassed, noon.Add(time.Hour)
		}
		events = append(events, e)
		uses = append(uses, store.Usage{AppID: fmt.Sprint("a", i%7), Process: fmt.Sprint(batch, "/", i), Count: 1})
	}
	add(t, s, events...)
	r := report("d1", fmt.Sprint("k", batch), noon, uses...)
	r.MaxBegun = 1_000_000
	addUsage(t, s, r)
}

// askAround asks what is asked again and again while events come in.
func askAround(t *testing.T, s *store.Store) {
	t.Helper()
	view(t, s, func(tx *store.Tx) error {
		_, byTag := tx.RefusedByTag("itunes", noon.Add(-time.Hour))
		_, byDevice := tx.RefusedByDevice("d1", noon.Add(-time.Hour))
		_, activity := tx.AppActivity("itunes", noon.Add(-time.Hour))
		_, events := tx.Events(store.EventQuery{Limit: 10})
		return errors.Join(byTag, byDevice, activity, events)
	})
	view(t, s, func(tx *store.Tx) error {
		_, err := tx.ArrivedBypasses(noon.Add(-time.Hour), 0, 10)
		return err
	})
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("closing a connection: %v", err)
		}
	})
	return conn
}

// waitUntilAlone waits until no other connection is left: each counts what it
// read when it ends.
func waitUntilAlone(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for others := 1; others > 0; {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("a connection stays")
		}
		err := conn.QueryRow(t.Context(), `SELECT COUNT(*) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'`).Scan(&others)
		if err != nil {
			t.Fatal(err)
		}
	}
}
