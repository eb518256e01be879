package journal

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/event"
)

// following follows a log until the returned function is called, which
// returns the hosts that were seen.
func following(t *testing.T, dir string, last int, wanted func(event.Event) bool) (stop func() []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan []string)
	go func() {
		var hosts []string
		for e, err := range Follow(ctx, dir, last, wanted) {
			if err != nil {
				t.Errorf("following: %v", err)
				break
			}
			hosts = append(hosts, e.Destination.Host)
		}
		seen <- hosts
	}()
	return func() []string {
		elapse(2 * followEvery)
		synctest.Wait()
		cancel()
		return <-seen
	}
}

func TestFollowingOutlivesTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{}
		j, _, dir := openJournal(t, func(c *Config) { cfg = *c })
		for _, host := range []string{"a.example", "b.example", "c.example", "unwanted.example"} {
			j.Record(t.Context(), blocked(host))
		}
		stop := following(t, dir, 2, func(e event.Event) bool { return e.Destination.Host != "unwanted.example" })
		elapse(followEvery)
		j.Record(t.Context(), blocked("unwanted.example"))
		j.Record(t.Context(), blocked("d.example"))
		elapse(followEvery)
		if err := j.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		// What a crash left of a line is cut off by the next agent.
		torn, err := os.OpenFile(logName(dir, 0), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = torn.WriteString(`{"id":"half of`); err != nil {
			t.Fatal(err)
		}
		_ = torn.Close()
		elapse(followEvery)
		again, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		again.Record(t.Context(), blocked("e.example"))
		if diff := cmp.Diff([]string{"b.example", "c.example", "d.example", "e.example"}, stop()); diff != "" {
			t.Errorf("hosts (-want +got):\n%s", diff)
		}
		if err := again.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestFollowingLosesNothingWhenTheLogIsRotated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "events")
		// It begins before there is a log.
		stop := following(t, dir, 10, func(event.Event) bool { return true })
		// Not at the instant of a look, so that each finds the same.
		elapse(followEvery / 2)
		l, err := openLog(dir, 100, 8)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for n := range 40 {
			host := fmt.Sprintf("%02d.example", n)
			want = append(want, host)
			// Two lines fill a file, so that a look finds several files.
			line := fmt.Sprintf(`{"destination":{"host":%q}}`+"\n", host)
			if err := l.append([]byte(line)); err != nil {
				t.Fatal(err)
			}
			if n%5 == 4 {
				elapse(followEvery)
			}
		}
		if diff := cmp.Diff(want, stop()); diff != "" {
			t.Errorf("hosts (-want +got):\n%s", diff)
		}
		if err := l.close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestOnlyTheNewestRevisionOfAnEventIsShown(t *testing.T) {
	j, _, dir := openJournal(t, nil)
	j.Record(t.Context(), blocked("a.example"))
	j.Record(t.Context(), blocked("b.example"))
	j.Record(t.Context(), blocked("a.example"))
	j.Flush(t.Context())
	var got []event.Event
	for e, err := range Newest(dir) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	if len(got) != 2 || got[0].Destination.Host != "b.example" || got[1].Count != 2 {
		t.Errorf("got %+v, want each event once and a.example's with its count", got)
	}
}
