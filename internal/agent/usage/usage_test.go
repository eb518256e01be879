package usage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"

	"interdict/internal/agent/netguard"
	"interdict/internal/agent/process"
	"interdict/internal/bundle"
	"interdict/internal/event"
)

// owners name the owner of a flow by its source port.
func owners(known map[uint16]process.Owner) func(context.Context, netguard.Flow) process.Owner {
	return func(_ context.Context, f netguard.Flow) process.Owner { return known[f.Source.Port()] }
}

func flow(port uint16) netguard.Flow {
	return netguard.Flow{
		Protocol: 6, Source: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port), Dest: netip.MustParseAddrPort("192.0.2.2:443"),
	}
}

// started is a Collector on a directory that works until the test says
// otherwise.
func started(t *testing.T, dir string, change func(*Config)) *Collector {
	t.Helper()
	cfg := Config{Dir: dir, Enabled: func() bool { return true }, Owner: owners(nil), Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.Start(context.Background())
	return c
}

// reports takes all reports that wait.
func reports(t *testing.T, c *Collector) []bundle.UsageReport {
	t.Helper()
	var all []bundle.UsageReport
	for {
		key, r, err := c.pending.oldest()
		if err != nil {
			t.Fatal(err)
		}
		if key == "" {
			return all
		}
		all = append(all, r)
		if err := c.Done(key); err != nil {
			t.Fatal(err)
		}
	}
}

// elapse lets time pass, and what happens in it happen.
func elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestConnectionsAreCountedByHostProgramAndUser(t *testing.T) {
	uid := uint32(4711)
	curl := process.Owner{Process: event.Process{Path: "/usr/bin/curl"}, User: event.User{Name: "ada"}}
	nameless := process.Owner{Process: event.Process{Path: "/usr/bin/curl"}, User: event.User{UID: &uid}}
	odd := process.Owner{Process: event.Process{Path: strings.Repeat("/long", 200)}, User: event.User{Name: strings.Repeat("x", 200)}}
	synctest.Test(t, func(t *testing.T) {
		c := started(t, t.TempDir(), func(cfg *Config) {
			cfg.Owner = owners(map[uint16]process.Owner{1: curl, 2: nameless, 3: odd})
		})
		began := time.Now().UTC()
		for _, u := range []struct {
			port uint16
			host string
		}{{1, "b.example"}, {1, "B.Example."}, {2, "b.example"}, {3, "b.example"}, {9, "b.example"}, {1, "a.example"}} {
			c.Used(flow(u.port), u.host)
		}
		elapse(interval - time.Millisecond)
		if early := reports(t, c); len(early) > 0 {
			t.Errorf("a report came early: %+v", early)
		}
		elapse(time.Millisecond)
		want := []bundle.UsageReport{{
			Start: began, End: began.Add(interval), Uses: []bundle.Use{
				{Host: "a.example", Process: "/usr/bin/curl", User: "ada", Count: 1},
				{Host: "b.example", Count: 2},
				{Host: "b.example", Process: "/usr/bin/curl", User: "4711", Count: 1},
				{Host: "b.example", Process: "/usr/bin/curl", User: "ada", Count: 2},
			},
		}}
		if diff := cmp.Diff(want, reports(t, c)); diff != "" {
			t.Errorf("reports differ (-want +got):\n%s", diff)
		}

		elapse(interval)
		if idle := reports(t, c); len(idle) > 0 {
			t.Errorf("nothing happened and was reported: %+v", idle)
		}
		c.Used(flow(9), "c.example")
		c.Shutdown()
		now := time.Now().UTC()
		want = []bundle.UsageReport{{Start: began.Add(2 * interval), End: now, Uses: []bundle.Use{{Host: "c.example", Count: 1}}}}
		if diff := cmp.Diff(want, reports(t, c)); diff != "" {
			t.Errorf("the last report differs (-want +got):\n%s", diff)
		}
	})
}

func TestWhatIsSwitchedOffIsNotReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var on atomic.Bool
		c := started(t, t.TempDir(), func(cfg *Config) { cfg.Enabled = on.Load })
		c.Used(flow(1), "while-off.example")
		on.Store(true)
		elapse(interval)
		c.Used(flow(1), "before-off.example")
		synctest.Wait()
		on.Store(false)
		elapse(interval)
		on.Store(true)
		c.Used(flow(1), "on.example")
		c.Shutdown()
		got := reports(t, c)
		if len(got) != 1 || len(got[0].Uses) != 1 || got[0].Uses[0].Host != "on.example" {
			t.Errorf("got %+v, want on.example alone", got)
		}
	})
}

func TestTooManyDifferentUsesAreCountedAsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := started(t, t.TempDir(), nil)
		for i := range bundle.MaxUses + 7 {
			c.Used(flow(1), fmt.Sprintf("h%d.example", i))
		}
		for range 3 {
			c.Used(flow(1), "h0.example")
		}
		c.Shutdown()
		got := reports(t, c)
		if len(got) != 1 || len(got[0].Uses) != bundle.MaxUses || got[0].Dropped < 7 || connections(got[0]) != bundle.MaxUses+10 {
			t.Errorf("got %d reports, the first with %d uses and %d dropped", len(got), len(got[0].Uses), got[0].Dropped)
		}
	})
}

func TestOwnersAreLookedForInATenthOfTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		c := started(t, t.TempDir(), func(cfg *Config) {
			cfg.Owner = func(ctx context.Context, _ netguard.Flow) process.Owner {
				asked.Add(1)
				<-ctx.Done()
				return process.Owner{User: event.User{Name: "ada"}}
			}
		})
		const connections = 3 * maxWaiting
		began := time.Now()
		for range connections {
			c.Used(flow(1), "a.example")
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("a packet waited for %s", took)
		}
		elapse(10 * time.Second)
		if n := asked.Load(); n < 9 || n > 11 {
			t.Errorf("%d look-ups of %s in 10 s, want a tenth of the time", n, findFor)
		}
		c.Shutdown()
		got := reports(t, c)
		total, known := 0, 0
		for _, u := range got[0].Uses {
			total += u.Count
			if u.User == "ada" {
				known = u.Count
			}
		}
		if total != connections || known != int(asked.Load()) {
			t.Errorf("%d connections are reported, %d with a user; want %d and %d", total, known, connections, asked.Load())
		}
	})
}

func TestAReportIsTheSameUntilItIsDone(t *testing.T) {
	dir := t.TempDir()
	first := started(t, dir, nil)
	first.Used(flow(1), "a.example")
	first.Shutdown()
	key, report, err := first.Next(t.Context())
	if err != nil || len(report.Uses) != 1 {
		t.Fatalf("got %v, %+v", err, report)
	}

	second := started(t, dir, nil)
	second.Used(flow(1), "b.example")
	second.Shutdown()
	for range 2 {
		again, same, nextErr := second.Next(t.Context())
		if nextErr != nil || again != key || !cmp.Equal(same, report) {
			t.Errorf("got %s, %+v, %v, want %s as before", again, same, nextErr, key)
		}
	}
	if err = second.Done(key); err != nil {
		t.Fatal(err)
	}
	newer, report, err := second.Next(t.Context())
	if err != nil || newer == key || report.Uses[0].Host != "b.example" {
		t.Errorf("got %s, %+v, %v, want the second report", newer, report, err)
	}
	if err := errors.Join(second.Done(newer), second.Done(newer)); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("%d files are left", len(left))
	}
}

func TestNextWaitsForAReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := started(t, t.TempDir(), nil)
		var host atomic.Value
		go func() {
			if _, r, err := c.Next(t.Context()); err == nil {
				host.Store(r.Uses[0].Host)
			}
		}()
		c.Used(flow(1), "a.example")
		elapse(interval - time.Second)
		if host.Load() != nil {
			t.Error("a report came early")
		}
		elapse(time.Second)
		if host.Load() != "a.example" {
			t.Error("no report came")
		}
		c.Shutdown()
		_ = reports(t, c)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		// A token may be left of what is done already.
		if _, _, err := c.Next(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the context's end", err)
		}
	})
}

func report(connections int) bundle.UsageReport {
	return bundle.UsageReport{Uses: []bundle.Use{{Host: "a.example", Count: connections}}}
}

func TestOldReportsMakeRoomAndAreCounted(t *testing.T) {
	p, err := openPending(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxPending {
		if err = p.add(report(1000 + i)); err != nil {
			t.Fatal(err)
		}
	}
	sent, _, err := p.next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err = p.add(report(1)); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.waiting) != maxPending {
		t.Errorf("%d reports wait, want %d", len(p.waiting), maxPending)
	}
	if again, r, _ := p.next(t.Context()); again != sent || r.Uses[0].Count != 1000 {
		t.Errorf("the report that was on its way has gone: got %s, %+v", again, r)
	}
	// The last report cannot know of those that it pushed out itself.
	last, err := p.read(p.waiting[maxPending-1].key)
	if err != nil || last.Dropped != 1002 || p.lost != 1003 {
		t.Errorf("got %+v, %v, and %d for the next, want the connections of one report each", last, err, p.lost)
	}
}

func TestReportsAreBoundedInBytes(t *testing.T) {
	dir := t.TempDir()
	for i, size := range []int64{1, maxBytes, 10} {
		name := ulid.MustNewDefault(time.UnixMilli(int64(i+1))).String() + suffix
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(dir, name), size); err != nil {
			t.Fatal(err)
		}
	}
	p, err := openPending(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.add(report(1)); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 2 || p.size > 1000 {
		t.Errorf("%d reports of %d bytes are left, want the small two", len(left), p.size)
	}
}

func TestWhatIsNoReportIsRemoved(t *testing.T) {
	dir := t.TempDir()
	early := ulid.MustNewDefault(time.UnixMilli(1)).String()
	for name, content := range map[string]string{
		early + suffix:                       "{",
		ulid.Make().String() + ".json.new":   "{}",
		"notes.json":                         "{}",
		ulid.Make().String():                 "{}",
		"01ARZ3NDEKTSV4RRFFQ69G5FA" + suffix: "{}",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := openPending(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err = p.add(report(1)); err != nil {
		t.Fatal(err)
	}
	key, r, err := p.next(t.Context())
	if err != nil || key == early || connections(r) != 1 {
		t.Errorf("got %s, %+v, %v, want the whole report", key, r, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%d files are left, want 1", len(left))
	}
}

func TestAReportThatCannotBeWrittenIsCountedInTheNext(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "usage")
	p, err := openPending(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err = os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err = p.add(report(5)); err == nil {
			t.Fatal("a report was written to no directory")
		}
	}
	if err = os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err = p.add(bundle.UsageReport{}); err != nil {
		t.Fatal(err)
	}
	if _, r, err := p.next(t.Context()); err != nil || r.Dropped != 10 {
		t.Errorf("got %+v, %v, want 10 dropped", r, err)
	}
	if err := p.add(bundle.UsageReport{}); err != nil || len(p.waiting) != 1 {
		t.Errorf("a report of nothing was written: %v", err)
	}
}

func TestEveryPartIsRequired(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("a collector was made of nothing")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Dir: file, Enabled: func() bool { return true }, Owner: owners(nil), Log: slog.New(slog.DiscardHandler)}
	if _, err := New(cfg); err == nil {
		t.Error("a file was taken for a directory")
	}
}

func BenchmarkUsed(b *testing.B) {
	cfg := Config{Dir: b.TempDir(), Enabled: func() bool { return true }, Owner: owners(nil), Log: slog.New(slog.DiscardHandler)}
	c, err := New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	c.Start(b.Context())
	defer c.Shutdown()
	f := flow(1)
	b.ReportAllocs()
	for b.Loop() {
		c.Used(f, "www.example.com")
	}
}
