// Interdict is the server and the administrator's command.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"interdict/internal/cli"
	"interdict/internal/demo"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// Without one, nothing can be remembered, and the commands say so.
	dir, _ := os.UserConfigDir()
	env := cli.Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Getenv: os.Getenv, ConfigDir: dir, Terminal: term.IsTerminal(int(os.Stderr.Fd())),
	}
	code := cli.Run(ctx, env, os.Args[1:], newServerCmd(env), demo.NewCmd())
	stop()
	os.Exit(code)
}
