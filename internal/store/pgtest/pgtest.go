// Package pgtest starts a private PostgreSQL for tests: one server for a test
// binary, started when the first test asks, with a database for each test.
//
//	var postgres = pgtest.New()
//
//	func TestMain(m *testing.M) { os.Exit(postgres.Run(m)) }
//
// It uses the programs that are installed, listens on a Unix socket in a
// directory of its own only, and ends with the test binary, however that
// ends. PostgreSQL refuses to run as root, so root runs it as the user
// postgres or nobody.
package pgtest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	superuser    = "interdict"
	startTimeout = time.Minute
)

// stopScript runs the server given by its arguments until standard input
// ends, which it does with this process.
const stopScript = `"$@" <&- & server=$!
read -r _
kill -INT "$server"
wait "$server"`

// Server is a PostgreSQL that is started when it is first needed.
type Server struct {
	once sync.Once
	err  error
	dir  string
	stop func() error

	// mu guards databases, the number of those that were made.
	mu        sync.Mutex
	databases int
}

// New returns a Server that is not started yet.
func New() *Server { return &Server{stop: func() error { return nil }} }

// Run runs the tests of a binary, stops the server and returns the exit code.
func (s *Server) Run(m *testing.M) int {
	code := m.Run()
	if err := s.stop(); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "stopping PostgreSQL:", err)
		return max(code, 1)
	}
	return code
}

// URL returns the connection string of a new, empty database. Where there is
// no PostgreSQL it skips the test, or fails it if the environment variable CI
// is set.
func (s *Server) URL(tb testing.TB) string {
	tb.Helper()
	s.once.Do(func() { s.err = s.start() })
	if s.err != nil {
		if os.Getenv("CI") != "" {
			tb.Fatalf("PostgreSQL is needed where CI is set: %v", s.err)
		}
		tb.Skipf("NOT TESTED ON POSTGRESQL: %v (on Debian and Ubuntu: apt-get install postgresql)", s.err)
	}
	s.mu.Lock()
	s.databases++
	name := fmt.Sprintf("test%d", s.databases)
	s.mu.Unlock()
	if err := s.execute(tb.Context(), "CREATE DATABASE "+name); err != nil {
		tb.Fatalf("making a database: %v", err)
	}
	return s.url(name)
}

func (s *Server) url(database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + database}
	u.RawQuery = url.Values{"host": {s.dir}}.Encode()
	return u.String()
}

func (s *Server) execute(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, s.url("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

func (s *Server) start() error {
	initdb, err := program("initdb")
	if err != nil {
		return err
	}
	// Not below the test's directory, whose path may be too long for a
	// socket.
	if s.dir, err = os.MkdirTemp("", "idt-pg-"); err != nil {
		return err
	}
	if err := own(s.dir); err != nil {
		return errors.Join(err, os.RemoveAll(s.dir))
	}
	s.stop = func() error { return os.RemoveAll(s.dir) }
	data := filepath.Join(s.dir, "data")
	command := exec.Command(initdb, "--pgdata", data, "--username", superuser, "--auth", "trust", //nolint:noctx // a program of PostgreSQL; it is short
		"--encoding", "UTF8", "--no-locale", "--no-sync")
	command.Dir = s.dir
	if err := unprivileged(command); err != nil {
		return err
	}
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("running initdb: %w: %s", err, out)
	}
	return s.run(filepath.Join(filepath.Dir(initdb), "postgres"), data)
}

func (s *Server) run(postgres, data string) error {
	command := exec.Command("sh", "-c", stopScript, "sh", postgres, "-D", data, "-k", s.dir, "-c", "listen_addresses=") //nolint:noctx // it ends with its standard input
	command.Dir = s.dir
	if err := unprivileged(command); err != nil {
		return err
	}
	var log bytes.Buffer
	command.Stdout, command.Stderr = &log, &log
	stdin, err := command.StdinPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	s.stop = func() error { return errors.Join(s.end(command, stdin), os.RemoveAll(s.dir)) }
	if err := s.ready(); err != nil {
		return errors.Join(err, s.stop(), errors.New(log.String()))
	}
	return nil
}

func (s *Server) end(command *exec.Cmd, stdin io.Closer) error {
	err := stdin.Close()
	var exit *exec.ExitError
	if waited := command.Wait(); waited != nil && !errors.As(waited, &exit) {
		err = errors.Join(err, waited)
	}
	s.stop = func() error { return nil }
	return err
}

// ready waits until the server answers.
func (s *Server) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.execute(ctx, "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for PostgreSQL: %w", err)
		}
	}
}

// program finds a program of the newest PostgreSQL that is installed.
func program(name string) (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		// A longer path has more digits in its version.
		return slices.MaxFunc(found, func(a, b string) int {
			return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
		}), nil
	}
	return exec.LookPath(name)
}
