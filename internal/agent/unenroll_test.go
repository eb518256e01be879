package agent

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/agent/state"
	"interdict/internal/fault"
	"interdict/internal/fleet"
)

func TestUnenrolRemovesEverythingAndEndsTheAgent(t *testing.T) {
	s := newSite(t)
	s.publish(bundleOf(t, 1, fleet.ModeBlock, fleet.FailOpen))
	r := s.run()
	if _, err := r.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Unenroll(t.Context(), Unenrolment{}); err != nil {
		t.Fatal(err)
	}
	// Whoever unenrols may enrol again at once.
	left, err := filepath.Glob(s.dir.Path("*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 0 {
		t.Errorf("%v are left, want nothing", left)
	}
	select {
	case err := <-r.ended:
		if err != nil {
			t.Errorf("the agent ended with %v", err)
		}
		r.ended <- nil
	case <-time.After(patience):
		t.Fatal("the agent goes on")
	}
	if !s.deleted || s.dir.Enrolled() == nil || !slices.Contains(r.lab.taken(), "clean up") {
		t.Errorf("deleted on the server %v, identity %v", s.deleted, s.dir.Enrolled())
	}
}

func TestUnenrolWithoutAServerChangesNothing(t *testing.T) {
	s := newSite(t)
	s.close()
	r := s.run()
	if err := r.Unenroll(t.Context(), Unenrolment{}); fault.CodeOf(err) != fault.Unreachable {
		t.Errorf("got %v, want unreachable", err)
	}
	if s.dir.Enrolled() != nil {
		t.Error("the identity is gone")
	}
	if err := r.Unenroll(t.Context(), Unenrolment{Local: true, KeepEvents: true}); err != nil {
		t.Errorf("locally: %v", err)
	}
	if err := soon(t, "the agent ends", r.ended); err != nil || s.dir.Enrolled() == nil {
		t.Errorf("locally: ended with %v, identity %v", err, s.dir.Enrolled())
	}
	left, err := filepath.Glob(s.dir.Path("*"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{s.dir.Path(state.DirEvents)}, left); diff != "" {
		t.Errorf("what is left with the events kept (-want +got):\n%s", diff)
	}
	r.ended <- nil
}

func TestWhatHappenedIsSentBeforeTheDeviceGoes(t *testing.T) {
	s := newSite(t)
	s.busy = make(chan struct{})
	s.publish(bundleOf(t, 1, fleet.ModeBlock, fleet.FailOpen))
	r := s.run()
	if _, err := r.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- r.Unenroll(t.Context(), Unenrolment{}) }()
	select {
	case err := <-done:
		t.Errorf("unenrolled with events unsent: %v", err)
		return
	case <-time.After(100 * time.Millisecond):
	}
	close(s.busy)
	if err := soon(t, "it is unenrolled", done); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.batches == 0 || !s.deleted {
		t.Errorf("deleted %v after %d batches, want it deleted after what happened was sent", s.deleted, s.batches)
	}
}

func TestTheLogThatIsKeptSaysThatSettingsEnded(t *testing.T) {
	s := newMachine(t)
	r := s.run()
	if _, err := r.Set(t.Context(), "network_protection", "block"); err != nil {
		t.Fatal(err)
	}
	if err := r.Unenroll(t.Context(), Unenrolment{Local: true, KeepEvents: true}); err != nil {
		t.Fatal(err)
	}
	r.end()
	want := []string{"network_protection disabled block local", "network_protection block disabled default"}
	if diff := cmp.Diff(want, s.changes()); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}
