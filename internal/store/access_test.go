package store_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"

	"interdict/internal/access"
	"interdict/internal/bypass"
	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/store"
)

// asked is a request that a device sent.
func asked(device fleet.DeviceID, app, user string) store.PlacedRequest {
	return store.PlacedRequest{Place: ulid.Make().String(), Request: access.Request{
		ID: ulid.Make().String(), Device: device, UID: 1000, User: user, AppID: app, AppName: app, Host: app + ".example",
		Process: "/usr/bin/curl", Reason: "I need it\nfor the report", AskedAt: noon, State: access.StatePending,
	}}
}

func keep(tb testing.TB, s *store.Store, r store.PlacedRequest) bool {
	tb.Helper()
	var added bool
	err := s.Write(tb.Context(), func(tx *store.Tx) (err error) {
		added, err = tx.AddAccessRequest(r, noon)
		return err
	})
	if err != nil {
		tb.Fatalf("keeping a request: %v", err)
	}
	return added
}

func TestRequestsForAccess(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			s := open(t, e.config(t))
			first, second, third := asked("d1", "itunes", "ada"), asked("d1", "dropbox", "ben"), asked("d2", "itunes", "ada")
			for _, r := range []store.PlacedRequest{first, second, third} {
				if !keep(t, s, r) {
					t.Errorf("request %s was there already", r.ID)
				}
			}
			again := third
			again.Place, again.Device = ulid.Make().String(), "d1"
			if keep(t, s, again) {
				t.Error("a request took the place of another with its id")
			}
			decided := second.Request
			decided.State, decided.DecidedBy, decided.DecidedAt, decided.Note = access.StateDenied, "root", noon.Add(time.Hour), "no"
			decide := func(want bool) {
				err := s.Write(t.Context(), func(tx *store.Tx) error {
					done, err := tx.DecideAccessRequest(decided, access.StatePending)
					if done != want {
						t.Errorf("deciding: %v, want %v", done, want)
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			decide(true)
			decide(false)
			second.Request = decided
			for _, tt := range []struct {
				name string
				q    store.AccessRequestQuery
				want []store.PlacedRequest
			}{
				{"all, newest first", store.AccessRequestQuery{Limit: 10}, []store.PlacedRequest{third, second, first}},
				{"the first page", store.AccessRequestQuery{Limit: 1}, []store.PlacedRequest{third}},
				{"the page after", store.AccessRequestQuery{Before: third.Place, Limit: 1}, []store.PlacedRequest{second}},
				{"pending ones", store.AccessRequestQuery{State: access.StatePending, Limit: 10}, []store.PlacedRequest{third, first}},
				{"of a device and a user", store.AccessRequestQuery{Device: "d1", User: "ada", Limit: 10}, []store.PlacedRequest{first}},
				{"about an app", store.AccessRequestQuery{App: "dropbox", Limit: 10}, []store.PlacedRequest{second}},
			} {
				view(t, s, func(tx *store.Tx) error {
					got, err := tx.AccessRequests(tt.q)
					if diff := cmp.Diff(tt.want, got); diff != "" {
						t.Errorf("%s (-want +got):\n%s", tt.name, diff)
					}
					return err
				})
			}
			checkOfDevice(t, s, first.Request, decided)
		})
	}
}

func checkOfDevice(t *testing.T, s *store.Store, pending, decided access.Request) {
	t.Helper()
	view(t, s, func(tx *store.Tx) error {
		of, err := tx.AccessRequestsOf("d1", decided.DecidedAt)
		if diff := cmp.Diff([]access.Request{pending, decided}, of); diff != "" {
			t.Errorf("of a device (-want +got):\n%s", diff)
		}
		later, laterErr := tx.AccessRequestsOf("d1", decided.DecidedAt.Add(1))
		if diff := cmp.Diff([]access.Request{pending}, later); diff != "" {
			t.Errorf("of a device, later (-want +got):\n%s", diff)
		}
		ofDevice, deviceErr := tx.PendingAccessRequests("d1")
		ofAll, allErr := tx.PendingAccessRequests("")
		if ofDevice != 1 || ofAll != 2 {
			t.Errorf("%d of a device and %d in all are pending, want 1 and 2", ofDevice, ofAll)
		}
		_, missing := tx.AccessRequest("nothing")
		if !errors.Is(missing, store.ErrNotFound) {
			t.Errorf("got %v for a request that is not there, want ErrNotFound", missing)
		}
		return errors.Join(err, laterErr, deviceErr, allErr)
	})
	n, err := s.ForgetAccessRequests(t.Context(), decided.DecidedAt)
	if err != nil || n != 2 {
		t.Errorf("forgot %d (%v), want the two that were not decided since", n, err)
	}
}

func TestRevocationsAreConfiguration(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			s := open(t, e.config(t))
			want := bypass.ScopedRevocation{
				Revocation: bypass.Revocation{ID: "r1", Subject: "itunes", User: "ada", Before: noon},
				Scope:      indicator.Scope{Include: []string{"device:d1"}}, By: "root",
			}
			revision := change(t, s, func(tx *store.Tx) error { return tx.Revocations().Put(want) })
			view(t, s, func(tx *store.Tx) error {
				got, err := tx.Revocations().All()
				if diff := cmp.Diff([]bypass.ScopedRevocation{want}, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				touched, _, touchedErr := tx.ChangesSince(revision-1, 10)
				if diff := cmp.Diff([]store.Touched{{Kind: store.KindRevocation, ID: "r1"}}, touched); diff != "" {
					t.Errorf("touched (-want +got):\n%s", diff)
				}
				return errors.Join(err, touchedErr)
			})
		})
	}
}

func TestBypassesAreFoundAmongEvents(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			s := open(t, e.config(t))
			var want []string
			for range 3 {
				b := newEvent("d1", 1)
				b.EventID, b.Action, b.Until = event.IDBypassed, event.ActionBypassed, noon.Add(time.Hour)
				add(t, s, newEvent("d1", 1), b)
				want = append([]string{b.ID}, want...)
			}
			view(t, s, func(tx *store.Tx) error {
				all, err := tx.ArrivedBypasses(noon.Add(-time.Hour), 0, 10)
				rest, restErr := tx.ArrivedBypasses(noon.Add(-time.Hour), all[0].Arrival, 1)
				late, lateErr := tx.ArrivedBypasses(noon.Add(time.Hour), 0, 10)
				if got := eventIDs(all); got != strings.Join(want, " ") || eventIDs(rest) != want[1] || len(late) != 0 {
					t.Errorf("got %s, then %s, and %d late, want %v, its second and none", got, eventIDs(rest), len(late), want)
				}
				return errors.Join(err, restErr, lateErr)
			})
		})
	}
}

func TestADeviceWithManyBypassesHidesNoOther(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			s := open(t, e.config(t))
			bypassed := func(device string) event.Event {
				b := newEvent(device, 1)
				b.EventID, b.Action, b.Until = event.IDBypassed, event.ActionBypassed, noon.Add(time.Hour)
				return b
			}
			quiet := bypassed("d1")
			flood := []event.Event{quiet}
			for range 3 * store.BypassesOfDevice {
				flood = append(flood, bypassed("d2"))
			}
			add(t, s, append(flood, bypassed("d3"))...)
			view(t, s, func(tx *store.Tx) error {
				all, err := tx.ArrivedBypasses(noon.Add(-time.Hour), 0, len(flood))
				if len(all) != store.BypassesOfDevice+2 || all[len(all)-1].ID != quiet.ID {
					t.Errorf("got %d bypasses, want %d, the quiet device's the last", len(all), store.BypassesOfDevice+2)
				}
				return err
			})
		})
	}
}

func eventIDs(events []store.ArrivedEvent) string {
	ids := make([]string, len(events))
	for i := range events {
		ids[i] = events[i].ID
	}
	return strings.Join(ids, " ")
}
