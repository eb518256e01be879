package main

import (
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/cli"
	"interdict/internal/fault"
	"interdict/internal/server"
	"interdict/internal/version"
)

// newServerCmd makes the command that is the server itself.
func newServerCmd(env cli.Env) *cobra.Command {
	c := server.Config{Version: version.String()}
	var level, format string
	cmd := &cobra.Command{
		Use:   "server --data-dir DIR",
		Short: "Run the server",
		Long: `Server runs until it is interrupted or terminated. It keeps its state in an
embedded database in the data directory, or in PostgreSQL with --database-url;
several servers may share one PostgreSQL database.

It is its own certificate authority. Agents and commands know it by the
fingerprint that enrolment tokens and the admin token carry. At its first start
it writes into the data directory:

    admin-token   an API token that may do everything, readable by the owner
    ca.pem        the certificate authority
    url           where commands on this machine reach the server

so that on the same machine 'interdict login --data-dir DIR' is all that is
needed to use the other commands. If the admin token is lost, delete admin-token
and ca.pem and start the server again: it makes a new one.

It listens on every address of the machine, because agents on other machines
have to reach it. Without a token or a device certificate nothing is answered
but enrolment (which takes an enrolment token), the description of the API, and
/healthz and /readyz.`,
		Example: `  interdict server --data-dir /var/lib/interdict --url https://interdict.example.com:8443
  interdict server --data-dir ./state --listen 127.0.0.1:8443`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if c.DataDir == "" || len(args) > 0 {
				return fault.New(fault.Invalid, "the server takes --data-dir DIR and no arguments").WithHint("see 'interdict server --help'")
			}
			if c.DatabaseURL == "" {
				c.DatabaseURL = env.Getenv("INTERDICT_DATABASE_URL")
			}
			if c.EventRetention < 0 {
				return fault.New(fault.Invalid, "--event-retention %s is negative", c.EventRetention).WithHint("use 0 to keep events for ever")
			}
			logger, err := newLogger(env, level, format)
			if err != nil {
				return err
			}
			c.Logger = logger
			s, err := server.New(c)
			if err != nil {
				return err
			}
			return s.Run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.DataDir, "data-dir", "", "the `directory` of the server's state; made if it does not exist")
	f.StringVar(&c.Listen, "listen", server.DefaultListen, "the `address` to listen on, host:port; without a host every address")
	f.StringVar(&c.DatabaseURL, "database-url", "", "a PostgreSQL `URL`, postgres://user@host/database, in place of the embedded database (or INTERDICT_DATABASE_URL, which hides its password from other users)")
	f.StringVar(&c.URL, "url", "", "where agents reach the server, https://host:port; the machine's name and the port if missing")
	f.StringSliceVar(&c.Hosts, "host", nil, "another `name` or address that the server is reached under, for its certificate; may be repeated")
	f.DurationVar(&c.EventRetention, "event-retention", 90*24*time.Hour, "how `long` events and alerts are kept, 0 for ever; the audit log stays")
	f.StringVar(&level, "log-level", "info", "the least `level` that is logged: debug, info, warn or error")
	f.StringVar(&format, "log-format", "text", "how log lines are written: `text` or json")
	return cmd
}

// newLogger returns a logger to standard error.
func newLogger(env cli.Env, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fault.New(fault.Invalid, "--log-level %q is not known", level).WithHint("use debug, info, warn or error")
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(env.Stderr, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(env.Stderr, opts)), nil
	}
	return nil, fault.New(fault.Invalid, "--log-format %q is not known", format).WithHint("use text or json")
}
