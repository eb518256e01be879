package agent

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"interdict/internal/agent/health"
	"interdict/internal/agent/netguard"
	"interdict/internal/agent/process"
	"interdict/internal/agent/verdict"
	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// finder finds with a function.
type finder func(ctx context.Context, f process.Flow) (process.Owner, error)

func (f finder) Find(ctx context.Context, flow process.Flow) (process.Owner, error) {
	return f(ctx, flow)
}

var curl = process.Owner{Process: event.Process{PID: 7, Path: "/usr/bin/curl"}}

func TestAConnectionWaitsForItsOwnerOnlyALittle(t *testing.T) {
	tests := []struct {
		name  string
		takes time.Duration
		// released and recorded are after the report; found says whether
		// the event has the process.
		released, recorded time.Duration
		found              bool
	}{
		{"an owner that is found at once", 0, 0, 0, true},
		{"a slow look-up holds the connection no longer, but still counts", 300 * time.Millisecond, holdFor, 300 * time.Millisecond, true},
		{"an endless look-up ends, and the event is written without", time.Hour, holdFor, findFor, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var released, recorded time.Duration
				var got event.Event
				var calls atomic.Int32
				o := newObserver(observerConfig{
					Health: &health.Set{},
					Finder: finder(func(ctx context.Context, _ process.Flow) (process.Owner, error) {
						select {
						case <-time.After(test.takes):
							return curl, nil
						case <-ctx.Done():
							return process.Owner{}, process.ErrNotFound
						}
					}),
					Record: func(_ context.Context, e event.Event) { got, recorded = e, time.Since(began) },
				})
				o.start(t.Context())
				o.report(netguard.Observation{Time: began, Done: func() {
					calls.Add(1)
					released = time.Since(began)
				}})
				o.stop()
				if released != test.released || recorded != test.recorded {
					t.Errorf("released after %s, recorded after %s; want %s and %s", released, recorded, test.released, test.recorded)
				}
				if (got.Process.PID == 7) != test.found {
					t.Errorf("got process %+v", got.Process)
				}
				if calls.Load() != 1 {
					t.Errorf("Done was called %d times", calls.Load())
				}
			})
		})
	}
}

func TestARequestIsExplainedBeforeItIsRefused(t *testing.T) {
	warn := verdict.Decision{Action: indicator.ActionWarn, AppName: "Tunes"}
	tests := []struct {
		name  string
		takes time.Duration
		// explained is when that is, after the report, and pid the process
		// that the page's address was asked for first.
		explained time.Duration
		pid       int
	}{
		{"by what is found in time", 30 * time.Millisecond, 30 * time.Millisecond, 7},
		{"by what the kernel knows when that takes too long", 300 * time.Millisecond, holdFor, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var mu sync.Mutex
				var steps []string
				var explained time.Duration
				var asked []event.Event
				o := newObserver(observerConfig{
					Health: &health.Set{},
					Finder: finder(func(context.Context, process.Flow) (process.Owner, error) {
						elapse(test.takes)
						return curl, nil
					}),
					Record: func(context.Context, event.Event) {},
					Why: func(e event.Event) string {
						mu.Lock()
						defer mu.Unlock()
						asked = append(asked, e)
						return "http://why"
					},
					Settings: func() fleet.Settings {
						return fleet.Settings{SupportContact: "desk", SupportURL: "https://help.example/"}
					},
				})
				o.start(t.Context())
				o.report(netguard.Observation{
					Time: began, Decision: warn, UID: 1000, HasUID: true, Destination: event.Destination{Host: "t.example"},
					Done: func() {
						mu.Lock()
						defer mu.Unlock()
						steps = append(steps, "refused")
					},
					Explain: func(e netguard.Explanation) {
						mu.Lock()
						defer mu.Unlock()
						if len(steps) == 0 {
							explained = time.Since(began)
						}
						steps = append(steps, "explained")
						want := netguard.Explanation{
							App: "Tunes", Host: "t.example", URL: "http://why", Warned: true, Contact: "desk", Support: "https://help.example/",
						}
						if e != want {
							t.Errorf("got %+v, want %+v", e, want)
						}
					},
				})
				o.stop()
				if len(steps) < 2 || steps[0] != "explained" || steps[1] != "refused" || explained != test.explained {
					t.Errorf("got %q, explained after %s, want explained after %s and then refused", steps, explained, test.explained)
				}
				if e := asked[0]; e.Process.PID != test.pid || e.User.UID == nil || *e.User.UID != 1000 {
					t.Errorf("the page is about %+v, want process %d of user 1000", e, test.pid)
				}
			})
		})
	}
}

func TestAFloodReleasesEveryConnectionAndIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const flood = 3 * maxObserved
		set := &health.Set{}
		var mu sync.Mutex
		var recorded int
		var released atomic.Int32
		o := newObserver(observerConfig{
			Health: set,
			Finder: finder(func(ctx context.Context, _ process.Flow) (process.Owner, error) {
				<-ctx.Done()
				return process.Owner{}, process.ErrNotFound
			}),
			Record: func(context.Context, event.Event) {
				mu.Lock()
				recorded++
				mu.Unlock()
			},
		})
		o.start(t.Context())
		began := time.Now()
		for range flood {
			o.report(netguard.Observation{Time: began, Done: func() { released.Add(1) }})
		}
		elapse(holdFor)
		synctest.Wait()
		if released.Load() != flood {
			t.Errorf("%d of %d connections go on after %s", released.Load(), flood, holdFor)
		}
		o.stop()
		if took := time.Since(began); took > 2*findFor {
			t.Errorf("the backlog took %s", took)
		}
		if got := recorded + int(o.dropped.Load()); got != flood {
			t.Errorf("%d recorded and %d dropped are not %d", recorded, o.dropped.Load(), flood)
		}
		if items := set.Items(); len(items) != 1 || items[0].Code != health.ObservationsDropped {
			t.Errorf("got items %+v, want observations_dropped", items)
		}
	})
}

func TestALookUpThatPanicsCostsNoEventAndNoAgent(t *testing.T) {
	var logged bytes.Buffer
	set, recorded := &health.Set{}, make(chan event.Event, 2)
	o := newObserver(observerConfig{
		Health: set, Log: slog.New(slog.NewTextHandler(&logged, nil)),
		Finder: finder(func(context.Context, process.Flow) (process.Owner, error) { panic("boom") }),
		Record: func(_ context.Context, e event.Event) { recorded <- e },
	})
	o.start(t.Context())
	for range cap(recorded) {
		o.report(netguard.Observation{Time: time.Now(), Done: func() {}})
	}
	o.stop()
	if len(recorded) != cap(recorded) {
		t.Errorf("%d events, want %d without a process", len(recorded), cap(recorded))
	}
	if n := strings.Count(logged.String(), "boom"); n != 1 {
		t.Errorf("the panic was logged %d times, want once:\n%s", n, logged.String())
	}
	if items := set.Items(); len(items) != 1 || items[0].Code != health.Panicked {
		t.Errorf("got items %+v, want panicked", items)
	}
}

func TestWhatAnObservationBecomes(t *testing.T) {
	block := indicator.Indicator{ID: "i-1", Action: indicator.ActionBlock, Severity: indicator.SeverityHigh, GenerateAlert: true}
	uid := uint32(1000)
	tests := []struct {
		name string
		obs  netguard.Observation
		want event.Event
	}{
		{
			"refused",
			netguard.Observation{
				Decision:    verdict.Decision{Action: indicator.ActionBlock, Indicator: block, AppID: "tunes", AppName: "Tunes", PolicyID: "p-1"},
				Destination: event.Destination{Host: "t.example", Port: 443, Protocol: "tcp"}, Evidence: event.EvidenceTLSSNI,
			},
			event.Event{
				EventID: 1126, Action: event.ActionBlocked, AppID: "tunes", AppName: "Tunes", IndicatorID: "i-1", Severity: "high",
				Destination: event.Destination{Host: "t.example", Port: 443, Protocol: "tcp"}, Evidence: event.EvidenceTLSSNI,
				PolicyID: "p-1", BundleVersion: 9, Alert: true, Process: curl.Process,
			},
		},
		{
			"warned",
			netguard.Observation{Decision: verdict.Decision{Action: indicator.ActionWarn}, Cut: true},
			event.Event{EventID: 1126, Action: event.ActionWarned, BundleVersion: 9, Cut: true, Process: curl.Process},
		},
		{
			"audited, with the user that the kernel knows",
			netguard.Observation{Decision: verdict.Decision{Action: indicator.ActionAudit}, UID: 1000, HasUID: true},
			event.Event{EventID: 1125, Action: event.ActionAudited, BundleVersion: 9, Process: curl.Process, User: event.User{UID: &uid}},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := eventOf(test.obs, curl, 9)
			if diff := cmp.Diff(test.want, got, cmpopts.EquateComparable(event.Destination{})); diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUsersWhomOnlyADirectoryKnowsAreNamed(t *testing.T) {
	for _, test := range []struct {
		name     string
		user     event.User
		takes    time.Duration
		want     string
		recorded time.Duration
	}{
		{"a user of a directory", event.User{UID: new(uint32(70001))}, 0, "carla", 0},
		{"a directory that takes its time", event.User{UID: new(uint32(70001))}, nameFor / 2, "carla", nameFor / 2},
		{"a directory that hangs", event.User{UID: new(uint32(70001))}, time.Hour, "", nameFor},
		{"a user who is known", event.User{UID: new(uint32(1000)), Name: "anna"}, time.Hour, "anna", 0},
		{"nobody", event.User{}, time.Hour, "", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var released, recorded time.Duration
				var got event.User
				o := newObserver(observerConfig{
					Health: &health.Set{},
					Finder: finder(func(context.Context, process.Flow) (process.Owner, error) { return process.Owner{User: test.user}, nil }),
					Names: func(ctx context.Context, uid uint32) string {
						select {
						case <-time.After(test.takes):
							return map[uint32]string{70001: "carla", 1000: "somebody else"}[uid]
						case <-ctx.Done():
							return ""
						}
					},
					Record: func(_ context.Context, e event.Event) { got, recorded = e.User, time.Since(began) },
				})
				o.start(t.Context())
				o.report(netguard.Observation{Time: began, Done: func() { released = time.Since(began) }})
				o.stop()
				if got.Name != test.want || recorded != test.recorded || released != 0 {
					t.Errorf("got %q, recorded after %s, the connection released after %s; want %q, %s and at once", got.Name, recorded, released, test.want, test.recorded)
				}
			})
		})
	}
}
