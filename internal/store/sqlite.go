package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"

	_ "modernc.org/sqlite" // The database/sql driver "sqlite".
)

// The files in the directory of a SQLite database.
const (
	sqliteFile = "interdict.db"
	lockFile   = "interdict.lock"
)

func openSQLite(_ context.Context, c Config) (*Store, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	unlock, err := lockDir(filepath.Join(c.Dir, lockFile))
	if err != nil {
		return nil, err
	}
	s, err := openSQLiteFile(filepath.Join(c.Dir, sqliteFile))
	if err != nil {
		return nil, errors.Join(err, unlock())
	}
	s.unlock = unlock
	return s, nil
}

func openSQLiteFile(path string) (*Store, error) {
	// SQLite gives its other files the mode of this one.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("making the database: %w", err)
	}
	if err = errors.Join(f.Chmod(0o600), f.Close()); err != nil {
		return nil, fmt.Errorf("making the database: %w", err)
	}
	write, err := sql.Open("sqlite", sqliteDSN(path, "immediate", "synchronous(FULL)"))
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	write.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite", sqliteDSN(path, "deferred", "query_only(1)"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the database: %w", err), write.Close())
	}
	read.SetMaxOpenConns(max(4, runtime.NumCPU()))
	return &Store{write: write, read: read}, nil
}

func sqliteDSN(path, begin, pragma string) string {
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}
	u.RawQuery = url.Values{
		"_txlock": {begin},
		"_pragma": {
			"busy_timeout(10000)", "journal_mode(WAL)", pragma,
			"cache_size(-16000)", "mmap_size(0)", "wal_autocheckpoint(4000)",
		},
	}.Encode()
	return u.String()
}
