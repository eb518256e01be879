package health_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/agent/health"
)

func TestAFaultKeepsItsBeginningUntilItIsCleared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s health.Set
		began := time.Now().UTC()
		s.Raise(health.ServerUnreachable, "try %d", 1)
		s.Raise(health.ClockWrong, "an hour")
		elapse(time.Minute)
		s.Raise(health.ServerUnreachable, "try %d", 2)

		want := []health.Item{
			{Code: health.ClockWrong, Since: began, Text: "an hour"},
			{Code: health.ServerUnreachable, Since: began, Text: "try 2"},
		}
		if diff := cmp.Diff(want, s.Items()); diff != "" {
			t.Errorf("items (-want +got):\n%s", diff)
		}

		s.Clear(health.ServerUnreachable)
		s.Raise(health.ServerUnreachable, "again")
		if got := s.Items()[1].Since; got.Equal(began) {
			t.Errorf("got since %s after the fault was cleared, want the time it came back", got)
		}
	})
}

// elapse lets time pass, in a synctest bubble.
func elapse(d time.Duration) { <-time.After(d) }
