package journal

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/event"
)

// listening is a socket in the place of the system's journal's.
func listening(t *testing.T) (*net.UnixConn, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socket")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn, path
}

// received reads what was sent, whose values are all of one line.
func received(t *testing.T, conn *net.UnixConn) map[string]string {
	t.Helper()
	buf := make([]byte, 256<<10)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	fields := make(map[string]string)
	for line := range strings.Lines(string(buf[:n])) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok {
			t.Errorf("%q is no field", line)
		}
		fields[name] = value
	}
	return fields
}

func TestEventsArriveInTheSystemsJournal(t *testing.T) {
	conn, path := listening(t)
	s, ok := NewSystem(SystemConfig{Socket: path, Log: slog.New(slog.DiscardHandler)})
	if !ok {
		t.Fatal("there is no journal")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	long := strings.Repeat("x", 8<<10)
	tests := []struct {
		name  string
		event event.Event
		want  map[string]string
	}{
		{
			"a refusal",
			event.Event{
				EventID: event.IDBlocked, Action: event.ActionBlocked, AppName: "Tunes",
				Destination: event.Destination{Host: "t.example", Port: 443}, Process: event.Process{PID: 7, Path: "/usr/bin/curl", Command: long},
			},
			map[string]string{
				"MESSAGE": "1126 blocked: Tunes (t.example) by /usr/bin/curl", "PRIORITY": "4", "INTERDICT_EVENT_ID": "1126",
				"INTERDICT_DESTINATION_HOST": "t.example", "INTERDICT_DESTINATION_PORT": "443", "INTERDICT_PROCESS_PID": "7",
				"INTERDICT_PROCESS_COMMAND": long, "INTERDICT_APP_NAME": "Tunes",
			},
		},
		{
			"a change",
			event.Event{EventID: event.IDConfigChanged, Change: &event.Change{Setting: "mode", Old: "audit", New: "block", Channel: "file"}},
			map[string]string{
				"MESSAGE": `5007 setting changed: mode from "audit" to "block", by channel file`, "PRIORITY": "5", "INTERDICT_EVENT_ID": "5007",
				"INTERDICT_CHANGE_SETTING": "mode", "INTERDICT_CHANGE_OLD": "audit", "INTERDICT_CHANGE_NEW": "block", "INTERDICT_CHANGE_CHANNEL": "file",
			},
		},
		{
			"a file that was not taken",
			event.Event{EventID: event.IDFileRefused, Reason: "it is torn"},
			map[string]string{"MESSAGE": "5902 " + event.IDFileRefused.Title() + ": it is torn", "PRIORITY": "5", "INTERDICT_EVENT_ID": "5902", "INTERDICT_REASON": "it is torn"},
		},
	}
	for _, tt := range tests {
		s.Write(tt.event)
		got := received(t, conn)
		tt.want["SYSLOG_IDENTIFIER"] = "interdict-agent"
		for name := range got {
			if _, ok := tt.want[name]; !ok && strings.HasPrefix(name, "INTERDICT_") {
				delete(got, name)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestAValueOfSeveralLinesHasItsLength(t *testing.T) {
	got := string(native(map[string]string{"B": "x", "A": "1\n2"}))
	if want := "A\n\x03\x00\x00\x00\x00\x00\x00\x001\n2\nB=x\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWithoutASystemsJournalThereIsNoSystem(t *testing.T) {
	if _, ok := NewSystem(SystemConfig{Socket: filepath.Join(t.TempDir(), "none")}); ok {
		t.Error("there is one")
	}
}

func TestEventsAreLeftOutWhileTheSystemsJournalIsGone(t *testing.T) {
	conn, path := listening(t)
	s, ok := NewSystem(SystemConfig{Socket: path, Log: slog.New(slog.DiscardHandler)})
	if !ok {
		t.Fatal("there is no journal")
	}
	_ = conn.Close()
	if err := s.send(event.Event{EventID: event.IDBlocked}); err == nil {
		t.Error("it was sent to nobody")
	}
}
