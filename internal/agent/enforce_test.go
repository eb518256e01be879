package agent

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"interdict/internal/agent/health"
	"interdict/internal/agent/netguard"
	"interdict/internal/agent/state"
	"interdict/internal/agent/verdict"
	"interdict/internal/bundle"
	"interdict/internal/bypass"
	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

func TestABundleGoesIntoForceInOrder(t *testing.T) {
	l, e, _ := newLab(t)
	mustApply(t, e, bundleOf(t, 1, fleet.ModeAudit, fleet.FailOpen))
	l.taken()
	l.open = []netguard.Observation{{
		Time: time.Now(), Flow: netguard.Flow{Protocol: 6}, Cut: true, Done: func() {},
		Decision: verdict.Decision{Action: indicator.ActionBlock, AppID: "tunes"},
	}}
	mode, err := e.Apply(t.Context(), bundleOf(t, 2, fleet.ModeBlock, fleet.FailOpen, block("203.0.113.9", time.Time{})))
	if err != nil || mode != fleet.ModeBlock {
		t.Fatalf("got mode %q, %v", mode, err)
	}
	// Owners are looked for before a cut, after which nobody can tell.
	if diff := cmp.Diff([]string{"inspector", "kernel", "find", "cut", "5007", "sync", "record"}, l.taken()); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	want := netguard.Config{
		Inspect: true, QueueBase: QueueBase, Exempt: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:8443")},
		Refused: []netguard.Range{{From: netip.MustParseAddr("203.0.113.9"), To: netip.MustParseAddr("203.0.113.9")}},
	}
	if diff := cmp.Diff(want, l.told()[1], cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the kernel's rules (-want +got):\n%s", diff)
	}
	cut := l.events[2]
	if !cut.Cut || cut.EventID != event.IDBlocked || cut.Process.PID != 42 || cut.BundleVersion != 2 {
		t.Errorf("got %+v, want 1126 of a cut connection with its process", cut)
	}
}

func TestOnlyWhatWasOpenIsReportedAsCut(t *testing.T) {
	l, e, _ := newLab(t)
	for _, port := range []uint16{closedPort, 2, closedPort} {
		l.open = append(l.open, netguard.Observation{
			Flow: netguard.Flow{Protocol: 6, Source: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port)}, Done: func() {},
			Decision: verdict.Decision{Action: indicator.ActionBlock},
		})
	}
	mustApply(t, e, bundleOf(t, 1, fleet.ModeBlock, fleet.FailOpen))
	var blocked int
	for _, ev := range l.events {
		if ev.EventID == event.IDBlocked {
			blocked++
		}
	}
	if blocked != 1 {
		t.Errorf("%d connections reported as cut, want the open one", blocked)
	}
}

func TestSomebodyListensBeforeTheKernelAsks(t *testing.T) {
	l, e, _ := newLab(t)
	mustApply(t, e, bundleOf(t, 1, fleet.ModeBlock, fleet.FailOpen))
	if diff := cmp.Diff([]string{"listen", "inspector", "kernel", "5007", "sync"}, l.taken()); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	mustApply(t, e, bundleOf(t, 2, fleet.ModeBlock, fleet.FailClosed))
	if diff := cmp.Diff([]string{"stop listening", "listen", "inspector", "kernel", "5007", "sync"}, l.taken()); diff != "" {
		t.Errorf("steps for another fail mode (-want +got):\n%s", diff)
	}
	if !l.told()[1].FailClosed {
		t.Error("the kernel was not told to fail closed")
	}
	mustApply(t, e, bundleOf(t, 3, fleet.ModeDisabled, fleet.FailClosed))
	if c := l.told()[2]; c.Inspect {
		t.Errorf("disabled, the kernel was told %+v", c)
	}
}

func TestEveryChangeOfASettingIsReportedOnce(t *testing.T) {
	l, e, _ := newLab(t)
	mustApply(t, e, bundleOf(t, 1, fleet.ModeAudit, fleet.FailOpen))
	mustApply(t, e, bundleOf(t, 2, fleet.ModeAudit, fleet.FailOpen, block("203.0.113.9", time.Time{})))
	mustApply(t, e, bundleOf(t, 3, fleet.ModeBlock, fleet.FailClosed))
	want := []event.Event{
		{EventID: 5007, PolicyID: "policy-1", BundleVersion: 1, Change: &event.Change{Setting: "network_protection", Old: "disabled", New: "audit", Channel: "server"}},
		{EventID: 5007, PolicyID: "policy-1", BundleVersion: 3, Change: &event.Change{Setting: "network_protection", Old: "audit", New: "block", Channel: "server"}},
		{EventID: 5007, BundleVersion: 3, Change: &event.Change{Setting: "fail_mode", Old: "open", New: "closed", Channel: "default"}},
	}
	if diff := cmp.Diff(want, l.events, cmpopts.IgnoreUnexported(netip.Addr{})); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}

	// A restart with the same bundle changes nothing.
	settings := e.cfg.Settings
	l2, e2, _ := newLab(t)
	e2.cfg.Settings = settings
	mustApply(t, e2, bundleOf(t, 3, fleet.ModeBlock, fleet.FailClosed))
	if len(l2.events) > 0 {
		t.Errorf("after a restart %+v was reported again", l2.events)
	}
	// A damaged memory of them must not stop enforcement.
	if err := os.WriteFile(settings, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustApply(t, e2, bundleOf(t, 4, fleet.ModeAudit, fleet.FailOpen))
	if len(l2.events) != 1 || l2.events[0].Change.Old != "disabled" {
		t.Errorf("with damaged settings got %+v, want a change from the default", l2.events)
	}
}

func TestWhatCannotBePutIntoForceLeavesTheOldRules(t *testing.T) {
	l, e, _ := newLab(t)
	mustApply(t, e, bundleOf(t, 1, fleet.ModeAudit, fleet.FailOpen))
	old, before := e.rules(), len(l.events)
	l.setFails = errors.New("the kernel says no")
	if _, err := e.Apply(t.Context(), bundleOf(t, 2, fleet.ModeBlock, fleet.FailOpen)); !errors.Is(err, l.setFails) {
		t.Errorf("got %v, want the kernel's answer", err)
	}
	if e.rules() != old || l.rules != old {
		t.Error("the new rules stayed")
	}
	if got := e.cfg.Observer.version.Load(); got != 1 {
		t.Errorf("events would carry version %d, want 1", got)
	}
	if len(l.events) != before {
		t.Errorf("a change was reported that did not happen: %+v", l.events[before:])
	}

	bad, err := bundle.NewSet(slices.Values([]bundle.Record{bundle.Setting(fleet.SettingNetworkProtection, "sideways", "")}))
	if err != nil {
		t.Fatal(err)
	}
	l.taken()
	if _, err := e.Apply(t.Context(), state.Bundle{Set: bad}); err == nil {
		t.Error("a bundle that cannot be compiled was applied")
	}
	if got := l.taken(); len(got) > 0 {
		t.Errorf("a bundle that cannot be compiled led to %q", got)
	}
}

func TestAnExpiredIndicatorLeavesTheKernelByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, e, _ := newLab(t)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = e.run(ctx)
		}()
		mustApply(t, e, bundleOf(t, 1, fleet.ModeBlock, fleet.FailOpen, block("203.0.113.9", time.Now().Add(time.Hour))))
		elapse(time.Hour - time.Second)
		synctest.Wait()
		if len(l.told()) != 1 || len(l.told()[0].Refused) != 1 {
			t.Fatalf("before its end the kernel was told %+v", l.told())
		}
		elapse(2 * time.Second)
		synctest.Wait()
		if len(l.told()) != 2 || len(l.told()[1].Refused) != 0 {
			t.Errorf("after its end the kernel was told %+v", l.told())
		}
		cancel()
		<-ended
	})
}

func TestRulesThatFailedAtStartAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, e, _ := newLab(t)
		l.setFails = errors.New("not yet")
		if _, err := e.Apply(t.Context(), bundleOf(t, 1, fleet.ModeBlock, fleet.FailOpen)); err == nil {
			t.Fatal("got no error")
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = e.run(ctx)
		}()
		elapse(time.Minute)
		synctest.Wait()
		if e.enforcing() {
			t.Error("enforcing although the kernel refuses")
		}
		l.mu.Lock()
		l.setFails = nil
		l.mu.Unlock()
		elapse(time.Minute)
		synctest.Wait()
		if !e.enforcing() || e.mode() != fleet.ModeBlock {
			t.Error("not tried again")
		}
		cancel()
		<-ended
	})
}

func TestQueuesThatCouldNotBeOpenedAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, e, set := newLab(t)
		opening := errors.New("another program listens to this queue")
		e.cfg.Platform.NewCapture = func(netguard.Handler, fleet.FailMode) (Capture, error) { return l, opening }
		mustApply(t, e, bundleOf(t, 1, fleet.ModeBlock, fleet.FailOpen))
		if items := set.Items(); len(items) != 1 || items[0].Code != health.CaptureMissing {
			t.Fatalf("got items %+v, want capture_missing", items)
		}
		e.cfg.Platform.NewCapture = l.platform().NewCapture
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = e.run(ctx)
		}()
		elapse(2 * retryAfter)
		synctest.Wait()
		if items := set.Items(); len(items) > 0 || !slices.Contains(l.taken(), "listen") {
			t.Errorf("got items %+v and no second attempt to listen", items)
		}
		l.taken()
		elapse(time.Minute)
		synctest.Wait()
		if steps := l.taken(); len(steps) > 0 {
			t.Errorf("steps %v although all is well", steps)
		}
		cancel()
		<-ended
	})
}

func TestAWatchThatEndsIsStartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set, starts := &health.Set{}, make(chan int, 9)
		a := &agent{health: set, cfg: Config{Platform: Platform{Watch: func(ctx context.Context, _ func(error)) error {
			starts <- 1
			if len(starts) == 1 {
				return errors.New("the socket is gone")
			}
			<-ctx.Done()
			return nil
		}}}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- a.watch(ctx) }()
		synctest.Wait()
		if items := set.Items(); len(items) != 1 || items[0].Code != health.WatchMissing {
			t.Errorf("got items %+v, want watch_missing", items)
		}
		elapse(retryAfter)
		synctest.Wait()
		if items := set.Items(); len(starts) != 2 || len(items) > 0 {
			t.Errorf("%d starts and items %+v, want a second start and nothing wrong", len(starts), items)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestRescueLastsUntilSomebodyEndsIt(t *testing.T) {
	l, e, set := newLab(t)
	b := bundleOf(t, 1, fleet.ModeBlock, fleet.FailOpen)
	mustApply(t, e, b)
	if err := e.Suspend(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.taken()
	if err := e.reapply(t.Context()); err != nil || len(l.taken()) > 0 {
		t.Errorf("the rules came back by themselves (%v)", err)
	}
	if items := set.Items(); e.enforcing() || len(items) != 1 || items[0].Code != health.Suspended {
		t.Errorf("nothing says that all is suspended: %+v", items)
	}
	if err := e.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !e.enforcing() || len(set.Items()) > 0 || !slices.Contains(l.taken(), "kernel") {
		t.Error("the rules did not come back when asked for")
	}
}

func TestADisabledCaptureStillRefusesAddresses(t *testing.T) {
	l, e, set := newLab(t)
	e.cfg.Platform.NewCapture = func(netguard.Handler, fleet.FailMode) (Capture, error) {
		return nil, errors.New("no queues here")
	}
	mustApply(t, e, bundleOf(t, 1, fleet.ModeBlock, fleet.FailOpen, block("203.0.113.9", time.Time{})))
	if len(l.told()) != 1 || len(l.told()[0].Refused) != 1 {
		t.Errorf("the kernel was told %+v", l.told())
	}
	if items := set.Items(); len(items) != 1 || items[0].Code != health.CaptureMissing {
		t.Errorf("got items %+v, want capture_missing", items)
	}
}

func TestBypassesThatAreKnownChangeNothing(t *testing.T) {
	l, e, _ := newLab(t)
	mustApply(t, e, bundleOf(t, 1, fleet.ModeBlock, fleet.FailOpen))
	l.taken()
	now := time.Now().UTC()
	one := bypass.Bypass{ID: "b-1", UID: 1000, Subject: "tunes", Since: now, Until: now.Add(time.Hour)}
	for _, step := range []struct {
		name   string
		all    []bypass.Bypass
		writes bool
	}{
		{"none where there were none", []bypass.Bypass{}, false},
		{"the first", []bypass.Bypass{one}, true},
		{"the same again", []bypass.Bypass{one}, false},
		{"none any more", nil, true},
	} {
		if err := e.SetBypasses(t.Context(), step.all); err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(l.taken(), "kernel"); got != step.writes {
			t.Errorf("%s: the kernel was told %v, want %v", step.name, got, step.writes)
		}
	}
}

func TestARescueAndItsEndAreRecordedOnceEach(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(t *testing.T, e *enforcer)
		want string
	}{
		{"sync", func(t *testing.T, e *enforcer) {
			t.Helper()
			for range 2 {
				if err := e.Resume(t.Context()); err != nil {
					t.Error(err)
				}
			}
		}, endsBySync},
		{"a bundle", func(t *testing.T, e *enforcer) {
			t.Helper()
			mustApply(t, e, bundleOf(t, 2, fleet.ModeBlock, fleet.FailOpen))
		}, endsByBundle},
		{"a restart", func(t *testing.T, e *enforcer) {
			t.Helper()
			for range 2 {
				next := newEnforcer(e.cfg)
				mustApply(t, next, bundleOf(t, 1, fleet.ModeBlock, fleet.FailOpen))
			}
		}, endsByStart},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, e, _ := newLab(t)
			mustApply(t, e, bundleOf(t, 1, fleet.ModeBlock, fleet.FailOpen))
			for range 2 {
				if err := e.Suspend(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			test.end(t, e)
			var got []string
			for _, ev := range l.events {
				if ev.EventID == event.IDSuspended || ev.EventID == event.IDResumed {
					got = append(got, string(ev.Action)+" "+ev.Reason)
				}
			}
			if len(got) != 2 || !strings.HasPrefix(got[0], "suspended an administrator") || !strings.HasPrefix(got[1], "resumed ") || !strings.HasSuffix(got[1], test.want) {
				t.Errorf("got %q, want the rescue and its end by %q, once each", got, test.want)
			}
		})
	}
}

func TestARescueThatCannotBeEndedIsNotRecordedAsOver(t *testing.T) {
	l, e, _ := newLab(t)
	mustApply(t, e, bundleOf(t, 1, fleet.ModeBlock, fleet.FailOpen))
	if err := e.Suspend(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.setFails = errors.New("no memory")
	if err := e.Resume(t.Context()); err == nil || e.enforcing() {
		t.Fatal("the rules went into force")
	}
	if n := len(l.events); l.events[n-1].EventID != event.IDSuspended {
		t.Errorf("the last event is %+v, want the rescue", l.events[n-1])
	}
}

func TestUnenrolmentIsNoRescue(t *testing.T) {
	l, e, set := newLab(t)
	mustApply(t, e, bundleOf(t, 1, fleet.ModeBlock, fleet.FailOpen))
	n := len(l.events)
	if err := e.Withdraw(t.Context()); err != nil || e.enforcing() || len(set.Items()) > 0 || len(l.events) != n {
		t.Errorf("got %v, items %+v, events %+v", err, set.Items(), l.events[n:])
	}
}
