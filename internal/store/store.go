// Package store decides how the server's state is kept: one concrete Store
// on database/sql, with one set of statements that SQLite and PostgreSQL
// both understand.
//
// Configuration (devices, groups, policies, tags, indicators, features) is
// kept as documents, see Docs, and only changes inside Change, which gives
// every change a revision and notes what it touched, so that any server can
// follow from the revision it knows. Whatever else is written (what devices
// say of themselves, events, alerts, tokens, the audit log) does not count
// as a change. The tables are described in the migrations.
//
// What a method wrote is durable when it returns.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrNotFound says that there is nothing with that id.
var ErrNotFound = errors.New("not found")

// Config says where the state is kept.
type Config struct {
	// Dir is a directory for an embedded SQLite database; it is made if it
	// does not exist. Only one Store at a time can have it open.
	Dir string
	// URL is a PostgreSQL connection string, which takes the place of Dir.
	// Several servers may share the database.
	URL string
	// Logger is optional.
	Logger *slog.Logger
}

// Store is the database of a server. It is safe for concurrent use.
type Store struct {
	// write has one connection on SQLite, which knows one writer only.
	write, read *sql.DB
	postgres    bool
	// listen is how to connect for Listen, on PostgreSQL.
	listen    *pgx.ConnConfig
	unlock    func() error
	events    *combiner[[]Ingest]
	states    *combiner[[]DeviceState]
	closeOnce sync.Once
	closeErr  error
}

// Open opens the database, brings its tables up to date under a lock, and
// returns when it is ready. The caller closes the Store.
func Open(ctx context.Context, c Config) (*Store, error) {
	if (c.Dir == "") == (c.URL == "") {
		return nil, errors.New("opening the store: exactly one of directory and URL is needed")
	}
	logger := c.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	open := openSQLite
	if c.URL != "" {
		open = openPostgres
	}
	s, err := open(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := s.migrate(ctx, logger); err != nil {
		return nil, errors.Join(err, s.closeDatabases())
	}
	s.events = newCombiner(maxCombined, s.writeIngests)
	s.states = newCombiner(maxCombined, s.writeStates)
	return s, nil
}

// Close waits for what is being written and closes the database. Calling it
// again does nothing.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.events.close()
		s.states.close()
		s.closeErr = s.closeDatabases()
	})
	return s.closeErr
}

func (s *Store) closeDatabases() error {
	err := s.write.Close()
	if s.read != s.write {
		err = errors.Join(err, s.read.Close())
	}
	if s.unlock != nil {
		err = errors.Join(err, s.unlock())
	}
	return err
}

// Shared reports whether other servers may have the database open as well.
func (s *Store) Shared() bool { return s.postgres }

// Ping returns nil if the database answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.read.PingContext(ctx); err != nil {
		return fmt.Errorf("asking the database: %w", err)
	}
	return nil
}

// View runs fn on one consistent state of the database.
func (s *Store) View(ctx context.Context, fn func(*Tx) error) error {
	opts := &sql.TxOptions{ReadOnly: true}
	if s.postgres {
		opts.Isolation = sql.LevelRepeatableRead
	}
	return s.run(ctx, s.read, opts, fn)
}

// Write runs fn in a transaction, for what is not configuration. Touching a
// document in it is an error.
func (s *Store) Write(ctx context.Context, fn func(*Tx) error) error {
	return s.run(ctx, s.write, nil, func(tx *Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		return tx.writeAudit(0)
	})
}

// Change runs fn in a transaction, after all changes before it and before
// all changes after it, over all servers, and returns the revision with the
// change in it. If fn touches no document there is no new revision and the
// current one is returned.
func (s *Store) Change(ctx context.Context, fn func(*Tx) error) (uint64, error) {
	var revision uint64
	err := s.run(ctx, s.write, nil, func(tx *Tx) error {
		tx.touched = make(map[Touched]bool)
		// The row is written, not only read, because this is what holds it
		// until the end on both engines.
		err := tx.row(`UPDATE counters SET value = value WHERE name = 'revision' RETURNING value`).Scan(&revision)
		if err != nil {
			return fmt.Errorf("locking the revision: %w", err)
		}
		if err := fn(tx); err != nil {
			return err
		}
		if len(tx.touched) == 0 {
			return tx.writeAudit(0)
		}
		revision++
		if err := tx.writeChanges(revision); err != nil {
			return err
		}
		return tx.writeAudit(revision)
	})
	if err != nil {
		return 0, err
	}
	return revision, nil
}

func (s *Store) run(ctx context.Context, db *sql.DB, opts *sql.TxOptions, fn func(*Tx) error) error {
	t, err := db.BeginTx(ctx, opts)
	if err != nil {
		return fmt.Errorf("starting a transaction: %w", err)
	}
	tx := &Tx{ctx: ctx, tx: t, postgres: s.postgres}
	if err := fn(tx); err != nil {
		// The reason to roll back is the one worth telling.
		_ = t.Rollback()
		return err
	}
	if err := t.Commit(); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	return nil
}

// Tx is a transaction. It is valid until the function it was given to
// returns, in one goroutine.
type Tx struct {
	// ctx is that of the call which opened the transaction, and ends with it.
	ctx      context.Context
	tx       *sql.Tx
	postgres bool
	// touched is nil outside Change.
	touched map[Touched]bool
	audit   []AuditEntry
}

func (tx *Tx) row(query string, args ...any) *sql.Row {
	return tx.tx.QueryRowContext(tx.ctx, query, args...)
}

func (tx *Tx) exec(query string, args ...any) (int64, error) {
	res, err := tx.tx.ExecContext(tx.ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// each runs a query and scan for every row.
func (tx *Tx) each(scan func(*sql.Rows) error, query string, args ...any) (err error) {
	rows, err := tx.tx.QueryContext(tx.ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// nanos and fromNanos are how times are kept; the zero time is 0.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
