package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"interdict/internal/cli"
	"interdict/internal/server/servertest"
)

func TestTailPrintsWhatArrivesAndEndsWithAnInterrupt(t *testing.T) {
	s := servertest.Start(t)
	a := &running{agent: s.Enroll(t, "alice-pc")}
	if err := a.blocked("dropbox", "before.dropbox.com"); err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	out, stdout := io.Pipe()
	var stderr bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- cli.Run(ctx, cli.Env{
			Stdin: strings.NewReader(""), Stdout: stdout, Stderr: &stderr, Getenv: func(string) string { return "" },
		}, []string{"--server", s.LocalURL(), "--token", s.Token, "event", "tail", "app=dropbox"})
		stdout.Close()
	}()
	// The tail begins with its first request.
	waitFor(t, func() bool { return strings.Contains(s.Log.String(), "path=/api/v1/events") })
	for _, app := range []string{"itunes", "dropbox"} {
		if err := a.blocked(app, "after."+app+".com"); err != nil {
			t.Fatal(err)
		}
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("reading the tail: %v; it said %s", err, stderr.String())
	}
	if !strings.Contains(line, "1126  blocked") || !strings.Contains(line, "after.dropbox.com port 443") {
		t.Errorf("got %q, want the event about dropbox that arrived after the start", line)
	}
	interrupt()
	if got := <-code; got != cli.ExitDone {
		t.Errorf("got exit code %d, want 0: %s", got, stderr.String())
	}
}

// waitFor waits until a condition holds, but not for ever.
func waitFor(t *testing.T, holds func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it did not come about within 10 s")
		}
	}
}
