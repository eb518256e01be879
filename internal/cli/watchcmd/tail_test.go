package watchcmd_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"interdict/internal/cli"
	"interdict/internal/event"
	"interdict/internal/server/servertest"
)

func TestTailPrintsWhatArrivesAndEndsWithAnInterrupt(t *testing.T) {
	s := servertest.Start(t)
	a := s.Enroll(t, "alice-pc")
	blocked(t, a, "dropbox", "before.dropbox.com")
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
		blocked(t, a, app, "after."+app+".com")
	}
	lines := bufio.NewScanner(out)
	lines.Scan()
	head := lines.Text()
	lines.Scan()
	line := lines.Text()
	if !strings.HasPrefix(head, "TIME ") || !strings.Contains(line, "alice-pc") || !strings.Contains(line, "after.dropbox.com port 443") {
		t.Errorf("got %q and %q, want a head and the event about dropbox that arrived after the start: %s", head, line, stderr.String())
	}
	if at := strings.Index(head, "DESTINATION"); at < 0 || !strings.HasPrefix(line[min(at, len(line)):], "after.dropbox.com") {
		t.Errorf("the destination of\n%s\nis not below its head\n%s", line, head)
	}
	interrupt()
	if got := <-code; got != cli.ExitDone {
		t.Errorf("got exit code %d, want 0: %s", got, stderr.String())
	}
}

func TestTailGoesOnWhenTheServerIsBack(t *testing.T) {
	s := servertest.Start(t)
	a := s.Enroll(t, "alice-pc")
	// Closing what is in front of the server looks like a restart.
	front := newFront(t, s)
	ctx, interrupt := context.WithCancel(t.Context())
	out, stdout := io.Pipe()
	said, stderr := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- cli.Run(ctx, cli.Env{
			Stdin: strings.NewReader(""), Stdout: stdout, Stderr: stderr, Getenv: func(string) string { return "" },
		}, []string{"--server", "https://" + front.address, "--token", s.Token, "event", "tail", "--output", "csv"})
		stdout.Close()
		stderr.Close()
	}()
	lines, told := bufio.NewScanner(out), bufio.NewScanner(said)
	if lines.Scan(); lines.Text() != "time,event_id,action,device,app,destination,process,user,count" {
		t.Errorf("got the head %q", lines.Text())
	}
	front.close()
	if told.Scan(); !strings.Contains(told.Text(), "does not answer") {
		t.Errorf("got %q, want that the server does not answer", told.Text())
	}
	blocked(t, a, "dropbox", "meanwhile.dropbox.com")
	front.open()
	if lines.Scan(); !strings.Contains(lines.Text(), "meanwhile.dropbox.com") {
		t.Errorf("got %q, want the event that arrived meanwhile", lines.Text())
	}
	if told.Scan(); told.Text() != "the server answers again" {
		t.Errorf("got %q, want that the server answers again", told.Text())
	}
	interrupt()
	if got := <-code; got != cli.ExitDone {
		t.Errorf("got exit code %d, want 0", got)
	}
}

// blocked reports that a connection was refused.
func blocked(t *testing.T, a *servertest.Agent, app, host string) {
	t.Helper()
	now := time.Now().UTC()
	_, err := a.Send(t.Context(), ulid.Make().String(), event.Event{
		ID: ulid.Make().String(), Time: now, EventID: event.IDBlocked, Action: event.ActionBlocked, AppID: app,
		Destination: event.Destination{Host: host, Port: 443, Protocol: "tcp"}, Evidence: event.EvidenceTLSSNI,
		Count: 1, FirstSeen: now, LastSeen: now,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// front passes connections on to a server while it is open.
type front struct {
	t               *testing.T
	address, target string

	listener net.Listener
	mu       sync.Mutex // guards the following
	conns    []net.Conn
}

func newFront(t *testing.T, s *servertest.Server) *front {
	t.Helper()
	f := &front{t: t, address: "127.0.0.1:0", target: strings.TrimPrefix(s.LocalURL(), "https://")}
	f.open()
	t.Cleanup(f.close)
	return f
}

func (f *front) open() {
	f.t.Helper()
	l, err := new(net.ListenConfig).Listen(f.t.Context(), "tcp", f.address)
	if err != nil {
		f.t.Fatal(err)
	}
	f.listener, f.address = l, l.Addr().String()
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			f.pass(in)
		}
	}()
}

func (f *front) pass(in net.Conn) {
	out, err := new(net.Dialer).DialContext(f.t.Context(), "tcp", f.target)
	if err != nil {
		in.Close()
		return
	}
	f.mu.Lock()
	f.conns = append(f.conns, in, out)
	f.mu.Unlock()
	go func() { _, _ = io.Copy(in, out) }()
	go func() { _, _ = io.Copy(out, in) }()
}

// close breaks every connection, and refuses new ones.
func (f *front) close() {
	f.listener.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		c.Close()
	}
	f.conns = nil
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
