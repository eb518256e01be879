// Command bench measures the budgets of docs/benchmarks.md on this machine: in
// a private lab, with the real programs, figures with and without the agent
// taken in turn in the same run. It prints a table in Markdown.
//
// It never fails because a budget is missed: it says so in the table.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"interdict/internal/lab"
	"interdict/internal/lab/site"
)

// The hosts of the lab. Bare and guarded are the same but for the agent.
const (
	hostServer  = "hq"
	hostBare    = "bare"
	hostGuarded = "guarded"
	hostFleet   = "fleet"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) > 0 && args[0] == "client":
		return clientMain(ctx, args[1:])
	case !lab.Inside():
		return lab.Enter(ctx)
	}
	l, err := lab.New(ctx, lab.Config{
		Hosts:  []string{hostServer, hostBare, hostGuarded, hostFleet},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return errors.Join(fmt.Errorf("finding this program: %w", err), l.Close())
	}
	b := &bench{
		lab: l, self: self, out: os.Stdout,
		site: site.New(site.Config{Lab: l, Programs: filepath.Dir(self), ServerHost: hostServer}),
	}
	err = b.measure(ctx)
	return errors.Join(err, b.site.Close(), l.Close())
}
