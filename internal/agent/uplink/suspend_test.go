package uplink

import (
	"testing"
	"testing/synctest"
	"time"

	"interdict/internal/fleet"
)

func TestASuspensionIsReportedUntilItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		s.publish(1, setOf(t, fleet.ModeAudit, 1))
		dir, _ := enrolled(t, s)
		a := startAgent(t, s, dir)
		settle()
		inForce, asked := s.lastApplied(), len(s.asked)
		a.suspended.Store(true)
		a.Changed()
		settle()
		if got := s.lastApplied(); got.Digest != "" || got.Mode != fleet.ModeDisabled || got.Error != suspended {
			t.Errorf("acknowledged %+v, want that nothing is enforced, and why", got)
		}
		if len(s.asked) != asked {
			t.Error("a bundle was asked for, which would have ended the suspension")
		}
		a.suspended.Store(false)
		if err := a.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := s.lastApplied(); got.Digest != inForce.Digest || got.Mode != fleet.ModeAudit || got.Error != "" {
			t.Errorf("acknowledged %+v, want what was before, %+v", got, inForce)
		}

		// Where the server is away, it hears of it when it is back.
		s.stop()
		a.suspended.Store(true)
		a.Changed()
		settle()
		s.start()
		elapse(time.Minute)
		synctest.Wait()
		if got := s.lastApplied(); got.Error != suspended {
			t.Errorf("after an outage acknowledged %+v, want the suspension", got)
		}
	})
}
