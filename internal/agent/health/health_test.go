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

func TestEveryChangeLeavesAToken(t *testing.T) {
	var s health.Set
	changed := func() bool {
		select {
		case <-s.Changed():
			return true
		default:
			return false
		}
	}
	for _, step := range []struct {
		name string
		do   func()
		want bool
	}{
		{"nothing yet", func() {}, false},
		{"it begins", func() { s.Raise(health.Suspended, "by hand") }, true},
		{"it is raised again", func() { s.Raise(health.Suspended, "by hand") }, false},
		{"its text changes", func() { s.Raise(health.Suspended, "by a script") }, true},
		{"another one ends that was not there", func() { s.Clear(health.ClockWrong) }, false},
		{"it ends", func() { s.Clear(health.Suspended) }, true},
		{"it ends again", func() { s.Clear(health.Suspended) }, false},
		{"two changes at once", func() { s.Raise(health.Suspended, ""); s.Clear(health.Suspended) }, true},
		{"and no more", func() {}, false},
	} {
		step.do()
		if got := changed(); got != step.want {
			t.Errorf("%s: a token is %v, want %v", step.name, got, step.want)
		}
	}
}

func TestTheServerIsNotToldOfItself(t *testing.T) {
	var s health.Set
	s.Raise(health.ServerUnreachable, "no route")
	s.Raise(health.DeviceRefused, "deleted")
	s.Raise(health.CaptureMissing, "no queue")
	got := s.Report()
	if len(got) != 1 || got[0].Code != string(health.CaptureMissing) || got[0].Text != "no queue" || got[0].Since.IsZero() {
		t.Errorf("the report has %+v, want the missing queue alone", got)
	}
}

// elapse lets time pass, in a synctest bubble.
func elapse(d time.Duration) { <-time.After(d) }
