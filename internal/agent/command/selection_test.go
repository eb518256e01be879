package command

import (
	"errors"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/event"
)

func TestTheEventsOfASelection(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	log := []event.Event{
		{ID: "a", EventID: event.IDBlocked, LastSeen: now.Add(-time.Hour)},
		{ID: "b", EventID: event.IDConfigChanged, LastSeen: now.Add(-10 * time.Minute)},
		{ID: "c", EventID: event.IDBlocked, LastSeen: now.Add(-5 * time.Minute)},
		{ID: "d", EventID: event.IDBypassed, LastSeen: now},
	}
	tests := []struct {
		name string
		selection
		want []string
	}{
		{"all", selection{whole: true}, []string{"a", "b", "c", "d"}},
		{"the last two", selection{last: 2}, []string{"c", "d"}},
		{"the last of more than there are", selection{last: 9}, []string{"a", "b", "c", "d"}},
		{"the last none", selection{}, nil},
		{"those of ten minutes", selection{whole: true, since: 10 * time.Minute}, []string{"b", "c", "d"}},
		{"those with an id", selection{whole: true, ids: []int{1126, 1129}}, []string{"a", "c", "d"}},
		{"the last with an id", selection{last: 1, ids: []int{1126}}, []string{"c"}},
		{"all at once", selection{last: 1, since: 7 * time.Minute, ids: []int{1126, 5007}}, []string{"c"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for e, err := range tt.of(succeeding(log), now) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, e.ID)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestASelectionOfALogThatCannotBeReadFails(t *testing.T) {
	broken := errors.New("broken")
	failing := func(yield func(event.Event, error) bool) { yield(event.Event{}, broken) }
	for _, s := range []selection{{whole: true}, {last: 3}} {
		for _, err := range s.of(failing, time.Now()) {
			if !errors.Is(err, broken) {
				t.Errorf("got %v, want %v", err, broken)
			}
		}
	}
}

func succeeding(events []event.Event) iter.Seq2[event.Event, error] {
	return func(yield func(event.Event, error) bool) {
		for e := range slices.Values(events) {
			if !yield(e, nil) {
				return
			}
		}
	}
}
