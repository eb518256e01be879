package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"syscall"

	"interdict/internal/fault"
)

// check refuses what was typed wrong before anything is touched.
func (c *Config) check() error {
	if _, port, err := net.SplitHostPort(c.Listen); err != nil || port == "" {
		return fault.New(fault.Invalid, "the address to listen on, %q, is not of the form host:port", c.Listen).
			WithHint("write it like 127.0.0.1:8443, or :8443 for every address")
	}
	if c.URL != "" {
		if _, err := parseURL(c.URL); err != nil {
			return err
		}
	}
	if c.DatabaseURL != "" && !strings.HasPrefix(c.DatabaseURL, "postgres://") && !strings.HasPrefix(c.DatabaseURL, "postgresql://") {
		// It is not repeated: it may have a password.
		return fault.New(fault.Invalid, "the database's URL does not begin with postgres://").
			WithHint("write it like postgres://user@host/database")
	}
	return nil
}

// startFault says what kept a part of the server from starting, and what to do
// about it if that is known.
func startFault(part string, c Config, err error) error {
	if fault.CodeOf(err) != fault.Internal {
		return err
	}
	var told *fault.Error
	_, badAddress := errors.AsType[*net.AddrError](err)
	_, badName := errors.AsType[*net.DNSError](err)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		told = fault.New(fault.Conflict, "starting the %s: %s is in use already", part, c.Listen).
			WithHint("does another server run there? choose another address with --listen")
	case errors.Is(err, syscall.EADDRNOTAVAIL), badAddress, badName:
		told = fault.New(fault.Invalid, "starting the %s: %s is no address of this machine", part, c.Listen).
			WithHint("choose another address with --listen; :8443 is every address")
	case errors.Is(err, fs.ErrPermission):
		told = fault.New(fault.Forbidden, "starting the %s: %v", part, err).
			WithHint("run the server as a user who may; it has to write to %s", c.DataDir)
	default:
		return fmt.Errorf("starting the %s: %w", part, err)
	}
	return told.Because(err)
}

// databaseFault tells the errors of a driver that writes a line for each way
// it tried, some of them more than once, as one sentence.
func databaseFault(err error) error {
	var lines []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	text := strings.ReplaceAll(strings.Join(lines, "; "), ":; ", ": ")
	return fault.New(fault.Unavailable, "starting the store: %s", text).Because(err).
		WithHint("check --database-url or INTERDICT_DATABASE_URL, and that PostgreSQL runs and lets this user in")
}
