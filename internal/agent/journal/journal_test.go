package journal

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/agent/health"
	"interdict/internal/event"
)

func openJournal(t *testing.T, change func(*Config)) (*Journal, *health.Set, string) {
	t.Helper()
	dir := t.TempDir()
	set := &health.Set{}
	cfg := Config{
		LogDir: filepath.Join(dir, "events"), SpoolDir: filepath.Join(dir, "spool"), Device: "device-1",
		Health: set, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	j, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return j, set, cfg.LogDir
}

// running runs a journal until the returned function is called.
func running(t *testing.T, j *Journal) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = j.Run(ctx)
	}()
	return func() {
		cancel()
		<-ended
		if err := j.Close(context.Background()); err != nil {
			t.Errorf("closing: %v", err)
		}
	}
}

func readAll(t *testing.T, dir string) []event.Event {
	t.Helper()
	var all []event.Event
	for e, err := range Read(dir) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func blocked(host string) event.Event {
	return event.Event{
		EventID: event.IDBlocked, Action: event.ActionBlocked, Evidence: event.EvidenceTLSSNI,
		Destination: event.Destination{Host: host},
	}
}

func TestAnEventIsCompleteWhenItIsWritten(t *testing.T) {
	j, _, dir := openJournal(t, nil)
	j.Record(t.Context(), blocked("a.example"))
	got := readAll(t, dir)
	if len(got) != 1 {
		t.Fatalf("%d events in the log at once, want 1", len(got))
	}
	if err := got[0].Validate(); err != nil {
		t.Errorf("the event is not valid: %v", err)
	}
	if got[0].Device != "device-1" || got[0].FirstSeen.IsZero() || got[0].LastSeen.IsZero() {
		t.Errorf("got %+v, want device and times filled in", got[0])
	}
	if n := j.Spool().Stats().Events; n != 1 {
		t.Errorf("%d events in the spool, want 1", n)
	}
}

func TestWithoutAServerNothingIsSpooled(t *testing.T) {
	j, set, dir := openJournal(t, func(c *Config) { c.SpoolDir, c.Device = "", "" })
	stop := running(t, j)
	j.Record(t.Context(), blocked("a.example"))
	j.Flush(t.Context())
	stop()
	if got := readAll(t, dir); len(got) != 1 || got[0].Device != "" {
		t.Errorf("got %+v in the log, want the event", got)
	}
	if j.Spool() != nil || j.Spool().Stats() != (SpoolStats{}) || len(set.Items()) > 0 {
		t.Errorf("got spool %+v and items %+v, want nothing", j.Spool().Stats(), set.Items())
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(dir), "*")); err != nil || len(left) != 1 {
		t.Errorf("%v are on disk (%v), want the log alone", left, err)
	}
}

func TestAProgramCannotNameItselfOutOfTheLog(t *testing.T) {
	j, set, dir := openJournal(t, nil)
	for _, text := range []string{"<", "\"", "\\", "\u2028"} {
		e := blocked("a.example")
		longest := strings.Repeat(text, (4<<10)/len(text))
		e.Process = event.Process{PID: 1, Path: longest, Command: longest, ParentPath: longest}
		j.Record(t.Context(), e)
	}
	if got := readAll(t, dir); len(got) != 4 {
		t.Errorf("%d events in the log, want 4; health %+v", len(got), set.Items())
	}
}

func TestAWindowClosesByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, _, dir := openJournal(t, nil)
		stop := running(t, j)
		for range 3 {
			j.Record(t.Context(), blocked("a.example"))
			elapse(10 * time.Second)
		}
		if got := readAll(t, dir); len(got) != 2 || got[1].Count != 2 {
			t.Fatalf("got %+v before the window closes, want the count after 20 seconds", got)
		}
		elapse(time.Minute)
		synctest.Wait()
		got := readAll(t, dir)
		if len(got) != 3 || got[2].Count != 3 || got[2].ID != got[0].ID || !got[2].LastSeen.After(got[0].LastSeen) {
			t.Errorf("got %+v, want a revision with count 3", got)
		}
		stop()
	})
}

func TestClosingWritesWhatTheWindowsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, _, dir := openJournal(t, nil)
		stop := running(t, j)
		j.Record(t.Context(), blocked("a.example"))
		j.Record(t.Context(), blocked("a.example"))
		stop()
		if got := readAll(t, dir); len(got) != 2 || got[1].Count != 2 {
			t.Errorf("got %+v, want the count of 2 written", got)
		}
	})
}

func TestFlushingWritesCountsAtOnce(t *testing.T) {
	j, _, dir := openJournal(t, nil)
	j.Record(t.Context(), blocked("a.example"))
	j.Record(t.Context(), blocked("a.example"))
	j.Flush(t.Context())
	if got := readAll(t, dir); len(got) != 2 || got[1].Count != 2 {
		t.Errorf("got %+v, want the count of 2 written", got)
	}
}

func TestASteadyStreamIsStillMadeDurableEverySecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, _, _ := openJournal(t, nil)
		stop := running(t, j)
		for n := range 30 {
			j.Record(t.Context(), blocked(fmt.Sprintf("%d.example", n)))
			elapse(100 * time.Millisecond)
			j.mu.Lock()
			since := j.unsynced
			j.mu.Unlock()
			if !since.IsZero() && time.Since(since) > syncEvery {
				t.Fatalf("an event has waited %s for the disk", time.Since(since))
			}
		}
		stop()
	})
}

func TestTheLogIsRotatedAndBounded(t *testing.T) {
	j, _, dir := openJournal(t, func(c *Config) { c.LogSize, c.LogFiles = 2000, 3 })
	for n := range 60 {
		j.Record(t.Context(), blocked(fmt.Sprintf("host-%d.example", n)))
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{logName(dir, 1), logName(dir, 2), logName(dir, 0)}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	for _, name := range names {
		if info, err := os.Stat(name); err != nil || info.Size() > 2000 {
			t.Errorf("%s has %d bytes (%v), want at most 2000", name, info.Size(), err)
		}
	}
	got := readAll(t, dir)
	if last := got[len(got)-1].Destination.Host; last != "host-59.example" {
		t.Errorf("the last event is %s, want that of host-59.example", last)
	}
	for i := 1; i < len(got); i++ {
		if got[i].ID <= got[i-1].ID {
			t.Fatalf("event %d is out of order", i)
		}
	}
}

func TestATornLastLineOfTheLogIsCutOff(t *testing.T) {
	j, _, dir := openJournal(t, nil)
	j.Record(t.Context(), blocked("a.example"))
	j.Record(t.Context(), blocked("b.example"))
	whole, err := os.ReadFile(logName(dir, 0))
	if err != nil {
		t.Fatal(err)
	}
	firstLine := strings.IndexByte(string(whole), '\n') + 1
	for cut := firstLine; cut < len(whole); cut++ {
		after := t.TempDir()
		if err := os.WriteFile(logName(after, 0), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := openLog(after, 1<<20, 2)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.append([]byte(string(whole[:firstLine]))); err != nil {
			t.Fatal(err)
		}
		_ = l.close()
		if got, _ := os.ReadFile(logName(after, 0)); string(got) != strings.Repeat(string(whole[:firstLine]), 2) {
			t.Fatalf("cut at %d: the log is %q", cut, got)
		}
	}
}

func TestAnUnwritableLogIsAHealthItemUntilItIsNot(t *testing.T) {
	j, set, dir := openJournal(t, func(c *Config) { c.LogSize = 1 })
	j.Record(t.Context(), blocked("a.example"))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	j.Record(t.Context(), blocked("b.example"))
	if items := set.Items(); len(items) != 1 || items[0].Code != health.JournalFailing {
		t.Fatalf("got items %+v, want journal_failing", items)
	}
	if n := j.Spool().Stats().Events; n != 2 {
		t.Errorf("%d events in the spool, want both", n)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	j.Record(t.Context(), blocked("c.example"))
	if items := set.Items(); len(items) != 0 {
		t.Errorf("got items %+v when writing works again", items)
	}
}

func TestASettingsChangeIsAnEventOfItsOwn(t *testing.T) {
	j, _, dir := openJournal(t, nil)
	j.Changes(t.Context(), "policy-1", 7,
		event.Change{Setting: "fail_mode", Old: "open", New: "closed", Channel: "server"},
		event.Change{Setting: "network_protection", Old: "audit", New: "block", Channel: "server"})
	got := readAll(t, dir)
	if len(got) != 2 {
		t.Fatalf("%d events, want 2", len(got))
	}
	e := got[1]
	want := &event.Change{Setting: "network_protection", Old: "audit", New: "block", Channel: "server"}
	if diff := cmp.Diff(want, e.Change); diff != "" || e.EventID != event.IDConfigChanged || e.PolicyID != "policy-1" || e.BundleVersion != 7 {
		t.Errorf("got %+v (-want +got):\n%s", e, diff)
	}
}

func TestTheSystemsJournalGetsEveryField(t *testing.T) {
	uid := uint32(1000)
	e := blocked("a.example")
	e.ID, e.User, e.Process, e.BundleVersion = "id-1", event.User{Name: "ann", UID: &uid}, event.Process{PID: 12, Path: "/curl"}, 1<<60
	e.Destination.IP = netip.MustParseAddr("2001:db8::1")
	got, err := systemFields(e)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"SYSLOG_IDENTIFIER": "interdict-agent", "INTERDICT_ID": "id-1", "INTERDICT_EVENT_ID": "1126",
		"INTERDICT_DESTINATION_HOST": "a.example", "INTERDICT_DESTINATION_IP": "2001:db8::1", "INTERDICT_PROCESS_PID": "12",
		"INTERDICT_USER_UID": "1000", "INTERDICT_BUNDLE_VERSION": "1152921504606846976",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
}

func TestSentences(t *testing.T) {
	tests := []struct {
		event event.Event
		want  string
	}{
		{event.Event{EventID: 1126, AppName: "Tunes", Destination: event.Destination{Host: "t.example"}, Process: event.Process{Path: "/curl"}}, "1126 blocked: Tunes (t.example) by /curl"},
		{event.Event{EventID: 1125, Destination: event.Destination{IP: netip.MustParseAddr("192.0.2.1")}}, "1125 would have been blocked: 192.0.2.1 by an unknown process"},
		{event.Event{EventID: 5007, Change: &event.Change{Setting: "s", Old: "a", New: "b"}}, `5007 setting changed: s from "a" to "b"`},
		{event.Event{EventID: 5007, Change: &event.Change{Setting: "s", New: "b", Channel: "file"}}, `5007 setting changed: s from "" to "b", by channel file`},
		{event.Event{EventID: 5007, PolicyID: "p-1", Change: &event.Change{Setting: "s", New: "b", Channel: "server"}}, `5007 setting changed: s from "" to "b", by policy p-1`},
		{event.Event{EventID: 1126, Action: event.ActionWarned, AppID: "tunes", Process: event.Process{Path: "/tmp/\x1b[2J"}}, "1126 warned: tunes by /tmp/?[2J"},
		{
			event.Event{EventID: 1129, Action: event.ActionBypassed, Destination: event.Destination{Host: "t.example"}, Until: time.Unix(0, 0), Reason: "work"},
			`1129 bypassed a warning: t.example by an unknown process, until 1970-01-01T00:00:00Z, reason "work"`,
		},
		{event.Event{EventID: 5903, Reason: "an administrator ran rescue"}, "5903 enforcement suspended: an administrator ran rescue"},
		{event.Event{EventID: 5904, Reason: "the agent was started again"}, "5904 enforcement resumed: the agent was started again"},
		{event.Event{EventID: 5900, Reason: "the signature is not the server's"}, "5900 bundle refused: the signature is not the server's"},
	}
	for _, test := range tests {
		if got := Sentence(test.event); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

// elapse lets time pass, in a synctest bubble.
func elapse(d time.Duration) { <-time.After(d) }
