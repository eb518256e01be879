package store_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"

	"interdict/internal/alert"
	"interdict/internal/event"
	"interdict/internal/store"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// newEvent is a blocked connection to iTunes on a device.
func newEvent(device string, count int) event.Event {
	return event.Event{
		ID: ulid.Make().String(), Time: noon, Device: device, EventID: event.IDBlocked, Action: event.ActionBlocked,
		AppID: "itunes", AppName: "iTunes", IndicatorID: "itunes:itunes.apple.com", Severity: "medium",
		Destination: event.Destination{Host: "init.itunes.apple.com", Port: 443, Protocol: "tcp"},
		User:        event.User{Name: "ada"}, Count: count, FirstSeen: noon, LastSeen: noon, Alert: true,
	}
}

func ingests(events ...event.Event) []store.Ingest {
	all := make([]store.Ingest, len(events))
	for i := range events {
		all[i] = store.Ingest{Event: &events[i], AlertKey: alert.Key(&events[i]), Arrived: noon}
	}
	return all
}

func add(tb testing.TB, s *store.Store, events ...event.Event) {
	tb.Helper()
	if err := s.AddEvents(tb.Context(), ingests(events...)); err != nil {
		tb.Fatalf("adding events: %v", err)
	}
}

// alertCounts returns the counts of all alerts by app.
func alertCounts(t *testing.T, s *store.Store) map[string]int {
	t.Helper()
	counts := make(map[string]int)
	view(t, s, func(tx *store.Tx) error {
		all, err := tx.Alerts(store.AlertQuery{Limit: 100})
		for _, a := range all {
			counts[a.DeviceID+" "+a.AppID] += a.Count
		}
		return err
	})
	return counts
}

func view(tb testing.TB, s *store.Store, fn func(*store.Tx) error) {
	tb.Helper()
	if err := s.View(tb.Context(), fn); err != nil {
		tb.Fatalf("reading: %v", err)
	}
}

func events(t *testing.T, s *store.Store, q store.EventQuery) []event.Event {
	t.Helper()
	q.Limit = max(q.Limit, 100)
	var all []event.Event
	view(t, s, func(tx *store.Tx) error {
		found, err := tx.Events(q)
		for _, e := range found {
			all = append(all, e.Event)
		}
		return err
	})
	return all
}

func TestAnEventIsKeptOnceHoweverOftenItIsSent(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			s := open(t, e.config(t))
			e := newEvent("d1", 2)
			add(t, s, e, e)
			add(t, s, e)
			if diff := cmp.Diff([]event.Event{e}, events(t, s, store.EventQuery{}), cmp.Comparer(sameAddr)); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(map[string]int{"d1 itunes": 2}, alertCounts(t, s)); diff != "" {
				t.Errorf("alerts (-want +got):\n%s", diff)
			}
		})
	}
}

func TestARevisionWithAHigherCountReplacesTheEvent(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			s := open(t, e.config(t))
			e := newEvent("d1", 1)
			later := e
			later.Count, later.LastSeen = 5, noon.Add(time.Minute)
			add(t, s, e)
			add(t, s, later)
			add(t, s, e) // Late, and of no account.
			got := events(t, s, store.EventQuery{})
			if len(got) != 1 || got[0].Count != 5 {
				t.Fatalf("got events %+v, want one with count 5", got)
			}
			if diff := cmp.Diff(map[string]int{"d1 itunes": 5}, alertCounts(t, s)); diff != "" {
				t.Errorf("alerts (-want +got):\n%s", diff)
			}
		})
	}
}

func TestARevisionThatKnowsTheAppBetterMovesToItsAlert(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			s := open(t, e.config(t))
			guess := newEvent("d1", 1)
			guess.AppID, guess.AppName = "apple-music", "Apple Music"
			better := guess
			better.AppID, better.AppName, better.Count = "itunes", "iTunes", 2
			add(t, s, guess, newEvent("d1", 3))
			add(t, s, better)
			if diff := cmp.Diff(map[string]int{"d1 itunes": 5}, alertCounts(t, s)); diff != "" {
				t.Errorf("alerts (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheSameIDOnTwoDevicesIsTwoEvents(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			s := open(t, e.config(t))
			mine := newEvent("d1", 1)
			theirs := mine
			theirs.Device, theirs.Count = "d2", 9
			add(t, s, mine)
			add(t, s, theirs)
			if diff := cmp.Diff(map[string]int{"d1 itunes": 1, "d2 itunes": 9}, alertCounts(t, s)); diff != "" {
				t.Errorf("alerts (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConcurrentReplaysCountOnce(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			s := open(t, e.config(t))
			batch := make([]event.Event, 50)
			for i := range batch {
				batch[i] = newEvent(fmt.Sprintf("d%d", i%5), 1)
			}
			var senders sync.WaitGroup
			for range 8 {
				senders.Go(func() {
					if err := s.AddEvents(t.Context(), ingests(batch...)); err != nil {
						t.Errorf("adding events: %v", err)
					}
				})
			}
			senders.Wait()
			want := map[string]int{"d0 itunes": 10, "d1 itunes": 10, "d2 itunes": 10, "d3 itunes": 10, "d4 itunes": 10}
			if diff := cmp.Diff(want, alertCounts(t, s)); diff != "" {
				t.Errorf("alerts (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOldEventsAndAlertsAreForgotten(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			s := open(t, e.config(t))
			began := time.Now()
			old := make([]event.Event, 0, 6000)
			for range cap(old) {
				old = append(old, newEvent("d", 1))
			}
			kept := newEvent("d", 1)
			in := ingests(append(old, kept)...)
			for i := range old {
				in[i].Arrived = began.AddDate(0, -6, 0)
			}
			in[len(old)].Arrived = began
			for _, batch := range [][]store.Ingest{in[:len(old)], in[len(old):]} {
				if err := s.AddEvents(t.Context(), batch); err != nil {
					t.Fatal(err)
				}
			}
			n, alerts, err := s.Forget(t.Context(), began.AddDate(0, -3, 0))
			if err != nil || n != 6000 || alerts != 0 {
				t.Errorf("%d events and %d alerts went (%v), want 6000 and none: the alert was raised just now", n, alerts, err)
			}
			if left := events(t, s, store.EventQuery{Limit: 10}); len(left) != 1 || left[0].ID != kept.ID {
				t.Errorf("left are %+v, want the newest only", left)
			}
			if n, alerts, err = s.Forget(t.Context(), time.Now().Add(time.Minute)); err != nil || n != 1 || alerts != 1 {
				t.Errorf("%d events and %d alerts went (%v), want one of each", n, alerts, err)
			}
		})
	}
}

func TestQueriesFindTheirEvents(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			s := open(t, e.config(t))
			first, second, third := newEvent("d1", 1), newEvent("d2", 1), newEvent("d1", 1)
			second.Destination.Host, second.AppID, second.User.Name = "a_b.example.com", "", "bob"
			third.Action, third.EventID, third.Time = event.ActionAudited, event.IDAudited, noon.Add(time.Hour)
			add(t, s, first)
			add(t, s, second)
			add(t, s, third)
			for _, test := range []struct {
				name  string
				query store.EventQuery
				want  []event.Event
			}{
				{"all, newest first", store.EventQuery{}, []event.Event{third, second, first}},
				{"all, oldest first", store.EventQuery{Ascending: true}, []event.Event{first, second, third}},
				{"of a device", store.EventQuery{Device: "d1"}, []event.Event{third, first}},
				{"of an app", store.EventQuery{App: "itunes", Device: "d1", Action: "blocked"}, []event.Event{first}},
				{"below a name", store.EventQuery{Host: "Example.COM."}, []event.Event{second}},
				{"a wildcard is an ordinary character", store.EventQuery{Host: "_b.example.com"}, nil},
				{"a name is not its siblings", store.EventQuery{Host: "unes.apple.com"}, nil},
				{"of a user", store.EventQuery{User: "bob"}, []event.Event{second}},
				{"of a kind", store.EventQuery{EventID: event.IDAudited}, []event.Event{third}},
				{"since", store.EventQuery{Since: noon.Add(time.Minute)}, []event.Event{third}},
				{"until", store.EventQuery{Until: noon.Add(time.Minute)}, []event.Event{second, first}},
			} {
				got := events(t, s, test.query)
				if diff := cmp.Diff(test.want, got, cmp.Comparer(sameAddr)); diff != "" {
					t.Errorf("%s: (-want +got):\n%s", test.name, diff)
				}
			}
		})
	}
}

// BenchmarkIngest measures events made durable, as a fleet sends them:
// several devices at a time, 500 events a batch.
func BenchmarkIngest(b *testing.B) {
	for _, e := range engines() {
		b.Run(e.name, func(b *testing.B) {
			s := open(b, e.config(b))
			const senders, size = 4, 500
			work := make(chan []store.Ingest)
			var done sync.WaitGroup
			for range senders {
				done.Go(func() {
					for batch := range work {
						if err := s.AddEvents(b.Context(), batch); err != nil {
							b.Error(err)
						}
					}
				})
			}
			b.ResetTimer()
			for i := range b.N {
				batch := make([]event.Event, size)
				for j := range batch {
					batch[j] = newEvent(fmt.Sprintf("device-%d", i%100), 1)
				}
				work <- ingests(batch...)
			}
			close(work)
			done.Wait()
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
