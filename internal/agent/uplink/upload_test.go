package uplink

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/agent/health"
	"interdict/internal/bundle"
)

func TestEventsAreSentNoMoreOftenThanTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		dir, _ := enrolled(t, s)
		a := startAgent(t, s, dir)
		a.SetUploadInterval(time.Hour)
		settle()
		began := time.Now()
		a.spool.add("first")
		settle()
		a.spool.add("second")
		a.spool.add("third")
		elapse(30 * time.Minute)
		a.spool.add("fourth")
		elapse(time.Hour)
		var after []time.Duration
		for _, at := range s.uploads {
			after = append(after, at.Sub(began))
		}
		if diff := cmp.Diff([]time.Duration{0, time.Hour, time.Hour, time.Hour}, after); diff != "" {
			t.Errorf("times of uploads (-want +got):\n%s", diff)
		}
	})
}

func TestWhatWaitsIsSentBeforeTheIntervalIsOver(t *testing.T) {
	for name, early := range map[string]func(s *testServer, a *testAgent){
		"when it is flushed":                   func(_ *testServer, a *testAgent) { a.Flush() },
		"when the interval becomes shorter":    func(_ *testServer, a *testAgent) { a.SetUploadInterval(time.Second) },
		"when the stream was lost and is back": func(s *testServer, _ *testAgent) { s.stop(); s.start(); elapse(time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer(t)
				dir, _ := enrolled(t, s)
				a := startAgent(t, s, dir)
				a.SetUploadInterval(24 * time.Hour)
				settle()
				a.spool.add("first")
				settle()
				a.spool.add("second")
				settle()
				if len(s.events) != 1 {
					t.Fatalf("%d batches have arrived, want the first alone", len(s.events))
				}
				early(s, a)
				settle()
				if len(s.events) != 2 {
					t.Errorf("%d batches have arrived, want both", len(s.events))
				}
			})
		})
	}
}

func TestReportsOfUseAreSentUntilTheServerHasThem(t *testing.T) {
	for name, test := range map[string]struct {
		status  int
		waiting int
	}{
		"taken":             {0, 0},
		"tried again":       {http.StatusServiceUnavailable, 2},
		"invalid, given up": {http.StatusUnprocessableEntity, 0},
		"an older server":   {http.StatusNotFound, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer(t)
				dir, _ := enrolled(t, s)
				a := startAgent(t, s, dir)
				s.usageStatus = test.status
				a.usage.add("one")
				a.usage.add("two")
				settle()
				if got := len(a.usage.keys); got != test.waiting {
					t.Errorf("%d reports wait, want %d", got, test.waiting)
				}
				s.mu.Lock()
				s.usageStatus = 0
				s.mu.Unlock()
				elapse(maxPause)
				synctest.Wait()
				want := map[string]bundle.UsageReport{}
				if test.status == 0 || test.waiting > 0 {
					want["one"] = bundle.UsageReport{Uses: []bundle.Use{{Host: "one.example", Count: 1}}}
					want["two"] = bundle.UsageReport{Uses: []bundle.Use{{Host: "two.example", Count: 1}}}
				}
				if diff := cmp.Diff(want, s.usage); diff != "" {
					t.Errorf("reports at the server (-want +got):\n%s", diff)
				}
				if a.hasHealth(health.EventsRejected) {
					t.Error("health says that events were rejected")
				}
			})
		})
	}
}
