package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// maxConnections bounds the pool of connections to PostgreSQL.
const maxConnections = 16

func openPostgres(ctx context.Context, c Config) (*Store, error) {
	config, err := pgx.ParseConfig(c.URL)
	if err != nil {
		return nil, fmt.Errorf("reading the database URL: %w", err)
	}
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(maxConnections)
	db.SetMaxIdleConns(maxConnections)
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("connecting to PostgreSQL: %w", err), db.Close())
	}
	return &Store{write: db, read: db, postgres: true, listen: config}, nil
}

// channel carries notices between servers.
const channel = "interdict"

// Notify tells every server that listens on the same database, this one too,
// once the transaction is committed. It does nothing on SQLite. The message
// is at most 7,999 bytes.
func (tx *Tx) Notify(message string) error {
	if !tx.postgres {
		return nil
	}
	if _, err := tx.exec(`SELECT pg_notify($1, $2)`, channel, message); err != nil {
		return fmt.Errorf("notifying other servers: %w", err)
	}
	return nil
}

// Listen calls ready when it has started to listen, and then handle with
// each message that any server sent by Notify, until ctx ends or the
// connection is lost. On SQLite it waits for ctx to end. Messages sent while
// nobody listened are lost: after ready the caller looks for itself.
func (s *Store) Listen(ctx context.Context, ready func(), handle func(message string)) error {
	if !s.postgres {
		ready()
		<-ctx.Done()
		return ctx.Err()
	}
	conn, err := pgx.ConnectConfig(ctx, s.listen)
	if err != nil {
		return fmt.Errorf("connecting to listen for changes: %w", err)
	}
	err = listen(ctx, conn, ready, handle)
	// The context has ended by now, and saying goodbye must not take long.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	return errors.Join(err, conn.Close(closing))
}

func listen(ctx context.Context, conn *pgx.Conn, ready func(), handle func(string)) error {
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return fmt.Errorf("listening for changes: %w", err)
	}
	ready()
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("waiting for changes: %w", err)
		}
		handle(n.Payload)
	}
}
