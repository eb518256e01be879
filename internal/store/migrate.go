package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"interdict/internal/store/matchlabels"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrationWait is how many seconds a server waits for another's migrations.
const migrationWait = 300

// migrate brings the tables to the newest version, forward only. What SQL alone
// cannot do for both engines is a function, with a version of its own in the
// same order. Servers that
// start at the same time on PostgreSQL do it one after the other; on SQLite
// the lock of the data directory is held.
func (s *Store) migrate(ctx context.Context, logger *slog.Logger) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("reading the migrations: %w", err)
	}
	dialect := goose.DialectSQLite3
	options := []goose.ProviderOption{
		goose.WithDisableGlobalRegistry(true), goose.WithSlog(logger),
		goose.WithGoMigrations(goose.NewGoMigration(6, &goose.GoFunc{RunTx: matchlabels.ToRules}, nil)),
	}
	if s.postgres {
		locker, unmade := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, migrationWait))
		if unmade != nil {
			return fmt.Errorf("making the lock for migrations: %w", unmade)
		}
		dialect = goose.DialectPostgres
		options = append(options, goose.WithSessionLocker(locker))
	}
	provider, err := goose.NewProvider(dialect, s.write, files, options...)
	if err != nil {
		return fmt.Errorf("preparing the migrations: %w", err)
	}
	current, target, err := provider.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("reading the version of the tables: %w", err)
	}
	if current > target {
		return fmt.Errorf("the database has version %d, made by a newer server; this one knows versions up to %d", current, target)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("bringing the tables up to date: %w", err)
	}
	return nil
}
