package uplink

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/agent/health"
	"interdict/internal/agent/state"
	"interdict/internal/bundle"
	"interdict/internal/fleet"
)

// settle lets everything happen that needs no more than a moment.
func settle() {
	elapse(time.Second)
	synctest.Wait()
}

func TestABundleIsAppliedSavedAndAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		s.publish(3, setOf(t, fleet.ModeAudit, 100))
		dir, id := enrolled(t, s)
		a := startAgent(t, s, dir)
		settle()
		if diff := cmp.Diff([]uint64{3}, a.applied); diff != "" {
			t.Fatalf("applied (-want +got):\n%s", diff)
		}
		if got := s.lastApplied(); got.Version != 3 || got.Digest != s.header.Digest || got.Mode != fleet.ModeAudit || got.At.IsZero() {
			t.Errorf("acknowledged %+v, want version 3", got)
		}
		saved, err := dir.Bundle(id)
		if err != nil || saved.Header.Version != 3 || saved.Set.Digest() != s.header.Digest {
			t.Errorf("on disk is version %d (%v), want 3", saved.Header.Version, err)
		}

		// The next one comes as a difference, when the server says so.
		s.publish(4, setOf(t, fleet.ModeBlock, 101))
		s.say(bundle.MessageNudge)
		settle()
		if diff := cmp.Diff([]uint64{3, 4}, a.applied); diff != "" {
			t.Fatalf("applied (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"", "3"}, s.asked); diff != "" {
			t.Errorf("versions the agent said it has (-want +got):\n%s", diff)
		}
		saved, err = dir.Bundle(id)
		if err != nil || saved.Set.Digest() != s.header.Digest {
			t.Errorf("the difference is not whole on disk: %v", err)
		}
		if len(s.applied) != 2 {
			t.Errorf("%d acknowledgements for two bundles", len(s.applied))
		}
	})
}

func TestAnAgentAcknowledgesWhenAskedAndNotOtherwise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		s.publish(1, setOf(t, fleet.ModeAudit, 1))
		dir, _ := enrolled(t, s)
		startAgent(t, s, dir)
		settle()
		s.say(bundle.MessageNudge)
		settle()
		if len(s.applied) != 1 {
			t.Fatalf("%d acknowledgements after a nudge without news, want 1", len(s.applied))
		}
		s.say(bundle.MessageSync)
		settle()
		if len(s.applied) != 2 {
			t.Errorf("%d acknowledgements after sync, want 2", len(s.applied))
		}
	})
}

func TestABundleThatIsNotToBeTrustedChangesNothing(t *testing.T) {
	_, foreign, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		publish func(t *testing.T, s *testServer)
	}{
		{"the body was tampered with", func(t *testing.T, s *testServer) {
			t.Helper()
			s.publishAs(6, setOf(t, fleet.ModeBlock, 5), s.signing, func(e *bundle.Envelope) {
				e.Body = append(slices.Clone(e.Body), "+app\tmallory\tMallory\n"...)
			})
		}},
		{"the body was cut off", func(t *testing.T, s *testServer) {
			t.Helper()
			s.publishAs(6, setOf(t, fleet.ModeBlock, 5), s.signing, func(e *bundle.Envelope) {
				e.Body = e.Body[:len(e.Body)/2]
			})
		}},
		{"the header was tampered with", func(t *testing.T, s *testServer) {
			t.Helper()
			s.publishAs(6, setOf(t, fleet.ModeBlock, 5), s.signing, func(e *bundle.Envelope) {
				e.Header = slices.Clone(e.Header)
				e.Header[len(e.Header)/2] ^= 1
			})
		}},
		{"somebody else signed it", func(t *testing.T, s *testServer) {
			t.Helper()
			s.publishAs(6, setOf(t, fleet.ModeDisabled, 5), foreign, nil)
		}},
		{"it is older than what is in force", func(t *testing.T, s *testServer) {
			t.Helper()
			s.publish(4, setOf(t, fleet.ModeDisabled, 0))
		}},
		{"it is another one of the same version", func(t *testing.T, s *testServer) {
			t.Helper()
			s.publish(5, setOf(t, fleet.ModeDisabled, 0))
		}},
		{"it is no bundle at all", func(_ *testing.T, s *testServer) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.raw = []byte(`{"header":"AAA`)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer(t)
				s.publish(5, setOf(t, fleet.ModeAudit, 3))
				good := s.header.Digest
				dir, id := enrolled(t, s)
				a := startAgent(t, s, dir)
				settle()

				test.publish(t, s)
				for range 3 {
					s.say(bundle.MessageNudge)
					settle()
				}
				if diff := cmp.Diff([]uint64{5}, a.applied); diff != "" {
					t.Errorf("applied (-want +got):\n%s", diff)
				}
				if saved, err := dir.Bundle(id); err != nil || saved.Header.Digest != good {
					t.Errorf("the last good bundle is not on disk any more: %v", err)
				}
				if len(a.refused) != 1 {
					t.Errorf("reported %d times, want once: %q", len(a.refused), a.refused)
				}
				if !a.hasHealth(health.BundleRefused) {
					t.Error("no health item says so")
				}

				// A good one ends it.
				s.mu.Lock()
				s.raw = nil
				s.mu.Unlock()
				s.publish(7, setOf(t, fleet.ModeBlock, 4))
				s.say(bundle.MessageNudge)
				settle()
				if diff := cmp.Diff([]uint64{5, 7}, a.applied); diff != "" {
					t.Errorf("applied in the end (-want +got):\n%s", diff)
				}
				if a.hasHealth(health.BundleRefused) {
					t.Error("the health item stays after a good bundle")
				}
			})
		})
	}
}

func TestADifferenceToAnotherSetIsReplacedByTheWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		s.publish(1, setOf(t, fleet.ModeAudit, 3))
		dir, _ := enrolled(t, s)
		a := startAgent(t, s, dir)
		settle()
		s.publishAs(2, setOf(t, fleet.ModeBlock, 4), s.signing, func(e *bundle.Envelope) {
			if e.Base != "" {
				e.Base = bundle.Set{}.Digest()
			}
		})
		s.say(bundle.MessageNudge)
		settle()
		if diff := cmp.Diff([]uint64{1, 2}, a.applied); diff != "" {
			t.Errorf("applied (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"", "1", ""}, s.asked); diff != "" {
			t.Errorf("versions the agent said it has (-want +got):\n%s", diff)
		}
		if len(a.refused) > 0 {
			t.Errorf("that was reported as a refusal: %q", a.refused)
		}
	})
}

func TestAfterARestartTheBundleOnDiskIsBuiltOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		s.publish(1, setOf(t, fleet.ModeAudit, 3))
		dir, _ := enrolled(t, s)
		a := startAgent(t, s, dir)
		settle()
		a.stop()
		s.publish(2, setOf(t, fleet.ModeAudit, 4))
		b := startAgent(t, s, dir)
		settle()
		if diff := cmp.Diff([]uint64{2}, b.applied); diff != "" {
			t.Errorf("applied after the restart (-want +got):\n%s", diff)
		}
		if got := s.asked[len(s.asked)-1]; got != "1" {
			t.Errorf("the agent said it has %q, want 1", got)
		}
	})
}

func TestADamagedBundleOnDiskIsFetchedAgainButNeverAnOlderOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		s.publish(5, setOf(t, fleet.ModeAudit, 3))
		dir, id := enrolled(t, s)
		a := startAgent(t, s, dir)
		settle()
		a.stop()

		whole, err := os.ReadFile(dir.Path("bundle.json"))
		if err != nil {
			t.Fatal(err)
		}
		// The header survives, a record does not.
		var changed bool
		for i := len(whole) - 1; i > 0 && !changed; i-- {
			if whole[i] == 'A' {
				whole[i], changed = 'B', true
			}
		}
		if err = os.WriteFile(dir.Path("bundle.json"), whole, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := dir.Bundle(id)
		if !errors.Is(err, state.ErrDamaged) || got.Header.Version != 5 || got.Whole() {
			t.Fatalf("got version %d, %v; want the header of version 5 and ErrDamaged", got.Header.Version, err)
		}
		if _, err := os.Stat(dir.Path("bundle.json.damaged")); err != nil {
			t.Errorf("the file was not set aside: %v", err)
		}

		s.publish(4, setOf(t, fleet.ModeDisabled, 0))
		b := startAgentWith(t, s, dir, got)
		settle()
		if len(b.applied) > 0 || len(b.refused) != 1 {
			t.Errorf("applied %v, refused %q; an older bundle must be refused", b.applied, b.refused)
		}
		s.publish(6, setOf(t, fleet.ModeAudit, 3))
		s.say(bundle.MessageNudge)
		settle()
		if diff := cmp.Diff([]uint64{6}, b.applied); diff != "" {
			t.Errorf("applied (-want +got):\n%s", diff)
		}
	})
}

func TestABundleThatCannotBeAppliedIsToldAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		s.publish(1, setOf(t, fleet.ModeAudit, 3))
		dir, _ := enrolled(t, s)
		a := startAgent(t, s, dir)
		settle()
		a.mu.Lock()
		a.fail = errors.New("the kernel says no")
		a.mu.Unlock()
		s.publish(2, setOf(t, fleet.ModeBlock, 3))
		s.say(bundle.MessageNudge)
		settle()
		if got := s.lastApplied(); got.Version != 1 || got.Error != "the kernel says no" {
			t.Errorf("acknowledged %+v, want version 1 with the reason", got)
		}
		a.mu.Lock()
		a.fail = nil
		a.mu.Unlock()
		elapse(maxPause)
		synctest.Wait()
		if got := s.lastApplied(); got.Version != 2 || got.Error != "" {
			t.Errorf("acknowledged %+v in the end, want version 2", got)
		}
	})
}

func TestABundleThatCouldNotBeSavedIsSavedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		s.publish(1, setOf(t, fleet.ModeAudit, 3))
		dir, id := enrolled(t, s)
		// Where the new file would go there is a directory.
		inTheWay := dir.Path("bundle.json.new")
		if err := os.Mkdir(inTheWay, 0o700); err != nil {
			t.Fatal(err)
		}
		a := startAgent(t, s, dir)
		settle()
		if !a.hasHealth(health.BundleNotSaved) || s.lastApplied().Version != 1 {
			t.Errorf("acknowledged %+v, health %+v; want the bundle in force and the fault told", s.lastApplied(), a.health.Items())
		}
		// The first attempt may have cleared the way.
		if err := os.RemoveAll(inTheWay); err != nil {
			t.Fatal(err)
		}
		elapse(saveAgain + time.Second)
		synctest.Wait()
		if saved, err := dir.Bundle(id); err != nil || saved.Header.Version != 1 || a.hasHealth(health.BundleNotSaved) {
			t.Errorf("on disk is version %d (%v), health %+v; want version 1 and no fault", saved.Header.Version, err, a.health.Items())
		}
	})
}

func TestASilentServerIsLeftAfterThreeIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		dir, _ := enrolled(t, s)
		startAgent(t, s, dir)
		settle()
		s.mu.Lock()
		s.mute = true
		s.mu.Unlock()
		silent := time.Now()
		for range 200 {
			elapse(time.Second)
			synctest.Wait()
			s.mu.Lock()
			again := len(s.opened) > 1
			s.mu.Unlock()
			if again {
				break
			}
		}
		if len(s.opened) < 2 {
			t.Fatal("the agent never came back")
		}
		if took := s.opened[1].Sub(silent); took > (silentIntervals*pingEvery+2)*time.Second || took < (silentIntervals-1)*pingEvery*time.Second {
			t.Errorf("the agent came back after %s of silence, want about %d intervals of %d s", took, silentIntervals, pingEvery)
		}
	})
}

func TestAServerThatNeverAnswersIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		dir, id := enrolled(t, s)
		var attempts atomic.Int32
		u := New(Config{
			Dir: dir, Identity: id, Spool: newMemorySpool(), Health: &health.Set{}, Log: slog.New(slog.DiscardHandler),
			Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				attempts.Add(1)
				<-ctx.Done()
				return nil, ctx.Err()
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = u.Run(ctx, fleet.ModeDisabled)
		}()
		elapse(2 * (exchangeTimeout + maxPause))
		if got := attempts.Load(); got < 3 {
			t.Errorf("%d attempts in two minutes of silence, want at least 3", got)
		}
		cancel()
		<-ended
	})
}

func TestPingsKeepAStreamOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		dir, _ := enrolled(t, s)
		startAgent(t, s, dir)
		elapse(time.Hour)
		synctest.Wait()
		if len(s.opened) != 1 {
			t.Errorf("%d streams in an hour, want one", len(s.opened))
		}
	})
}

func TestAnAgentComesBackSoonAfterItsServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		s.publish(1, setOf(t, fleet.ModeAudit, 1))
		dir, _ := enrolled(t, s)
		a := startAgent(t, s, dir)
		settle()
		if !a.Status().Connected {
			t.Fatal("not connected")
		}
		s.stop()
		elapse(24 * time.Hour)
		synctest.Wait()
		if a.Status().Connected || !a.hasHealth(health.ServerUnreachable) {
			t.Error("nothing says that the server is away")
		}
		s.publish(2, setOf(t, fleet.ModeBlock, 1))
		s.start()
		elapse(maxPause + time.Second)
		synctest.Wait()
		if !a.Status().Connected || a.hasHealth(health.ServerUnreachable) {
			t.Error("not connected again")
		}
		if got := s.lastApplied(); got.Version != 2 {
			t.Errorf("acknowledged version %d, want 2", got.Version)
		}
	})
}

func TestTheSlowCheckFindsWhatNoNudgeTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		s.publish(1, setOf(t, fleet.ModeAudit, 1))
		dir, _ := enrolled(t, s)
		startAgent(t, s, dir)
		settle()
		s.publish(2, setOf(t, fleet.ModeBlock, 1))
		elapse(checkEvery + time.Second)
		synctest.Wait()
		if got := s.lastApplied(); got.Version != 2 {
			t.Errorf("acknowledged version %d, want 2", got.Version)
		}
	})
}

func TestSyncReturnsWhenTheNewestIsInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		s.publish(1, setOf(t, fleet.ModeAudit, 1))
		dir, _ := enrolled(t, s)
		a := startAgent(t, s, dir)
		settle()
		s.publish(2, setOf(t, fleet.ModeBlock, 1))
		if err := a.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := s.lastApplied(); got.Version != 2 {
			t.Errorf("acknowledged version %d, want 2", got.Version)
		}
		s.stop()
		if err := a.Sync(t.Context()); err == nil {
			t.Error("got no error without a server")
		}
	})
}

func TestTheCertificateIsRenewedAtTwoThirdsOfItsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		dir, id := enrolled(t, s)
		a := startAgent(t, s, dir)
		elapse(deviceLife*2/3 - 2*time.Hour)
		synctest.Wait()
		if now, err := dir.Identity(); err != nil || !now.Certificate.Leaf.Equal(id.Certificate.Leaf) {
			t.Fatalf("the certificate was renewed too early (%v)", err)
		}
		elapse(4 * time.Hour)
		synctest.Wait()
		renewed, err := dir.Identity()
		if err != nil || renewed.Certificate.Leaf.Equal(id.Certificate.Leaf) {
			t.Fatalf("the certificate was not renewed (%v)", err)
		}
		if got := a.Status().CertificateEnds; !got.Equal(renewed.Certificate.Leaf.NotAfter) {
			t.Errorf("the status says %s, the certificate %s", got, renewed.Certificate.Leaf.NotAfter)
		}
		// Although the server has been there all the time, all that follows
		// comes with the new one: the old one is about to end.
		before := len(s.serials)
		s.publish(1, setOf(t, fleet.ModeAudit, 1))
		s.say(bundle.MessageNudge)
		settle()
		if len(s.serials) == before {
			t.Fatal("the agent does not hear its server any more")
		}
		for _, got := range s.serials[before:] {
			if want := renewed.Certificate.Leaf.SerialNumber.String(); got != want {
				t.Errorf("the agent shows certificate %s, want %s", got, want)
			}
		}
		if a.hasHealth(health.ServerUnreachable) {
			t.Error("the server counts as unreachable because of a renewal")
		}
	})
}

func TestAWrongClockIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		dir, _ := enrolled(t, s)
		a := startAgent(t, s, dir)
		settle()
		hello := bundle.Message{Type: bundle.MessageHello, Now: time.Now().Add(2 * time.Hour)}
		a.handle(t.Context(), hello, nil)
		if !a.hasHealth(health.ClockWrong) {
			t.Error("two hours are not noticed")
		}
		hello.Now = time.Now().Add(time.Second)
		a.handle(t.Context(), hello, nil)
		if a.hasHealth(health.ClockWrong) {
			t.Error("a second is")
		}
	})
}

func TestEventsAreSentUntilTheServerHasThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		dir, _ := enrolled(t, s)
		a := startAgent(t, s, dir)
		s.eventStatus = http.StatusServiceUnavailable
		a.spool.add("batch-1")
		a.spool.add("batch-2")
		settle()
		if len(s.events) > 0 || len(a.spool.keys) != 2 {
			t.Fatalf("with a failing server %d batches arrived and %d wait", len(s.events), len(a.spool.keys))
		}
		s.mu.Lock()
		s.eventStatus = 0
		s.mu.Unlock()
		elapse(maxPause)
		synctest.Wait()
		if len(s.events) != 2 || len(a.spool.keys) != 0 {
			t.Errorf("%d batches arrived and %d wait, want all to have arrived", len(s.events), len(a.spool.keys))
		}
	})
}

func TestABatchThatIsNeverTakenDoesNotHoldUpTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		dir, _ := enrolled(t, s)
		a := startAgent(t, s, dir)
		s.eventStatus = http.StatusUnprocessableEntity
		a.spool.add("poison")
		settle()
		if diff := cmp.Diff([]string{"poison"}, a.spool.rejected); diff != "" {
			t.Errorf("rejected (-want +got):\n%s", diff)
		}
		if !a.hasHealth(health.EventsRejected) {
			t.Error("no health item says so")
		}
	})
}

func TestPausesGrowWithinBoundsAndDiffer(t *testing.T) {
	var b backoff
	first := b.next()
	if first < firstPause/2 || first > firstPause {
		t.Errorf("the first pause is %s, want between %s and %s", first, firstPause/2, firstPause)
	}
	seen := make(map[time.Duration]bool)
	for range 50 {
		d := b.next()
		if d > maxPause {
			t.Fatalf("a pause of %s is longer than %s", d, maxPause)
		}
		seen[d] = true
	}
	if len(seen) < 25 {
		t.Errorf("only %d different pauses of 50", len(seen))
	}
}
