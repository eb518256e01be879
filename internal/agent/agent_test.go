package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/agent/health"
	"interdict/internal/agent/state"
	"interdict/internal/bundle"
	"interdict/internal/event"
	"interdict/internal/fault"
	"interdict/internal/fleet"
)

func TestWithoutANetworkTheLastGoodBundleIsInForce(t *testing.T) {
	s := newSite(t)
	s.close()
	b := bundleOf(t, 7, fleet.ModeBlock, fleet.FailOpen, block("203.0.113.9", time.Time{}))
	if err := s.dir.SaveBundle(s.seal(b), b.Set); err != nil {
		t.Fatal(err)
	}
	r := s.run()
	if len(r.lab.told()) != 1 || len(r.lab.told()[0].Refused) != 1 {
		t.Fatalf("when the agent was ready the kernel had been told %+v", r.lab.told())
	}
	if got, want := r.lab.told()[0].Exempt, netip.MustParseAddrPort(strings.TrimPrefix(s.server.URL, "https://")); !slices.Equal(got, []netip.AddrPort{want}) {
		t.Errorf("exempt is %v, want the server, %s", got, want)
	}
	eventually(t, "the server is said to be unreachable", func() bool {
		status, err := r.Status(t.Context())
		return err == nil && status.Enforcing && status.Mode == fleet.ModeBlock && status.Uplink.Version == 7 &&
			slices.ContainsFunc(status.Health, func(i health.Item) bool { return i.Code == health.ServerUnreachable })
	})
	if _, err := r.Sync(t.Context()); fault.CodeOf(err) != fault.Unreachable {
		t.Errorf("sync says %v, want that the server is unreachable", err)
	}
	r.end()
	if slices.Contains(r.lab.taken(), "clean up") {
		t.Error("an orderly end removed the kernel's rules")
	}
	noGoroutinesLeft(t)
}

func TestSyncReturnsWhenTheKernelHasTheRules(t *testing.T) {
	s := newSite(t)
	r := s.run()
	s.publish(bundleOf(t, 1, fleet.ModeAudit, fleet.FailOpen))
	status, err := r.Sync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if status.Mode != fleet.ModeAudit || status.PolicyID != "policy-1" || !status.Uplink.Acknowledged || s.lastAcked() != 1 {
		t.Errorf("got %+v, acknowledged %d; want audit mode of bundle 1, acknowledged", status, s.lastAcked())
	}
	if len(r.lab.told()) == 0 || !r.lab.told()[len(r.lab.told())-1].Inspect {
		t.Errorf("the kernel was told %+v", r.lab.told())
	}
	got := s.events()
	if len(got) != 1 || got[0].EventID != event.IDConfigChanged || got[0].Device != "device-1" {
		t.Fatalf("got events %+v, want one 5007", got)
	}
	want := &event.Change{Setting: "network_protection", Old: "disabled", New: "audit", Channel: "server"}
	if diff := cmp.Diff(want, got[0].Change); diff != "" {
		t.Errorf("change (-want +got):\n%s", diff)
	}
}

func TestADamagedBundleAtStartIsReportedAndReplaced(t *testing.T) {
	s := newSite(t)
	b := bundleOf(t, 2, fleet.ModeBlock, fleet.FailOpen)
	s.publish(b)
	if err := os.WriteFile(s.dir.Path("bundle.json"), []byte(`{"header":"bm90aGluZw==","signature":"","body":""}`), 0o600); err != nil {
		t.Fatal(err)
	}
	r := s.run()
	eventually(t, "the server's bundle is in force", func() bool { return s.lastAcked() == 2 })
	if got := s.events(); len(got) == 0 || got[0].EventID != event.IDBundleRefused {
		t.Errorf("got events %+v, want 5900 first", got)
	}
	status, err := r.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(status.Health, func(i health.Item) bool { return i.Code == health.BundleDamaged }) {
		t.Errorf("still said to be damaged: %+v", status.Health)
	}
}

func TestExplainSaysWhatDecidesAndWhy(t *testing.T) {
	s := newSite(t)
	s.publish(bundleOf(t, 3, fleet.ModeBlock, fleet.FailOpen, block("203.0.113.9", time.Time{})))
	r := s.run()
	if _, err := r.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := r.Explain(t.Context(), bundle.Question{IP: netip.MustParseAddr("203.0.113.9")})
	if err != nil {
		t.Fatal(err)
	}
	want := Explanation{
		Schema: 2, IP: netip.MustParseAddr("203.0.113.9"), App: "Tunes", PolicyID: "policy-1", Refused: true,
		Answer: bundle.Answer{
			Version: 3, Enforcing: true, Listening: true, Action: "block", Step: "address", AppID: "tunes", Mode: fleet.ModeBlock,
			Indicator: "203.0.113.9", IndicatorID: "ind-203.0.113.9", Settings: got.Settings,
		},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("explanation (-want +got):\n%s", diff)
	}
	if len(got.Settings) != len(fleet.Definitions()) {
		t.Errorf("%d settings are told, want all %d", len(got.Settings), len(fleet.Definitions()))
	}
	if got, err = r.Explain(t.Context(), bundle.Question{Host: "other.example"}); err != nil || got.Refused || got.Step != "none" {
		t.Errorf("got %+v, %v for a name that no indicator is for", got, err)
	}
	if got, err = r.Explain(t.Context(), bundle.Question{Host: "other.example", User: "no such user"}); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("got %+v, %v for a user that there is not", got, err)
	}
}

func TestTheServerIsToldOfARescue(t *testing.T) {
	s := newSite(t)
	s.publish(bundleOf(t, 2, fleet.ModeBlock, fleet.FailOpen))
	r := s.run()
	if _, err := r.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := func() fleet.Applied {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.acked[len(s.acked)-1]
	}
	if err := r.Rescue(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server knows that nothing is enforced", func() bool { return last().Error != "" && last().Digest == "" })
	if _, err := r.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := last(); got.Version != 2 || got.Mode != fleet.ModeBlock || got.Error != "" {
		t.Errorf("after sync the server was told %+v, want bundle 2 in force", got)
	}
}

func TestRulesThatSomebodyElseRemovedAreReported(t *testing.T) {
	s := newSite(t)
	s.publish(bundleOf(t, 1, fleet.ModeBlock, fleet.FailOpen))
	disturb := make(chan error)
	r := s.runWith(func(p *Platform) {
		p.Watch = func(ctx context.Context, restored func(error)) error {
			for {
				select {
				case <-ctx.Done():
					return nil
				case err := <-disturb:
					restored(err)
				}
			}
		}
	})
	restored := func() (n int) {
		for _, e := range s.events() {
			if e.EventID == event.IDGuardRestored {
				n++
			}
		}
		return n
	}
	disturbed := func() bool {
		status, err := r.Status(t.Context())
		return err == nil && slices.ContainsFunc(status.Health, func(i health.Item) bool { return i.Code == health.RulesDisturbed })
	}
	disturb <- errors.New("the kernel says no")
	eventually(t, "a health item says that the rules are not back", disturbed)
	disturb <- nil
	eventually(t, "both are recorded and the item is gone", func() bool { return restored() == 2 && !disturbed() })
}

func TestOneAgentToADirectory(t *testing.T) {
	s := newSite(t)
	s.run()
	err := Run(t.Context(), Config{Dir: s.dir, Platform: (&lab{t: t}).platform(), Log: slog.New(slog.DiscardHandler)})
	if fault.CodeOf(err) != fault.Conflict {
		t.Errorf("a second agent got %v, want a conflict", err)
	}
}

func TestWithoutAnAgentTheClientSaysHowToStartOne(t *testing.T) {
	dir, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewClient(dir).Status(t.Context())
	var f *fault.Error
	if !errors.As(err, &f) || f.Code != fault.Unreachable || !strings.Contains(f.Hint, "interdict-agent run") {
		t.Errorf("got %v, want unreachable with a hint", err)
	}
}

// elapse lets time pass, in a synctest bubble.
func elapse(d time.Duration) { <-time.After(d) }
