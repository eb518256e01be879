// Command interdict-agent enforces on one machine what an Interdict server
// decides.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"interdict/internal/agent/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command.Run(ctx, command.Env{Stdout: os.Stdout, Stderr: os.Stderr}, os.Args[1:])
	stop()
	os.Exit(code)
}
