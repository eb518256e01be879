package server_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"interdict/internal/bundle"
	"interdict/internal/server/servertest"
)

// BenchmarkTagToApplied measures the time from a tag to the acknowledgement of
// every connected agent, over real TLS, agents and server in one process. The
// agents verify what they get and enforce nothing.
//
//	p50-ms, p99-ms   from the request to the acknowledgement of an agent
//	KiB/agent        memory of a connected agent, both ends together
func BenchmarkTagToApplied(b *testing.B) {
	for _, agents := range []int{1, 1000} {
		b.Run(fmt.Sprintf("agents=%d", agents), func(b *testing.B) { benchmarkTag(b, agents) })
	}
}

func benchmarkTag(b *testing.B, agents int) {
	b.Helper()
	s := servertest.Start(b)
	s.Call(b, http.MethodPost, "/api/v1/policies", map[string]any{"name": "all", "settings": map[string]any{"network_protection": "block"}}, nil)
	s.Call(b, http.MethodPut, "/api/v1/policies/all/assignment", map[string]any{}, nil)
	before := memory()
	fleet := connect(b, s, agents)
	each := float64(memory()-before) / 1024 / float64(agents)

	var took []time.Duration
	tags := []string{"unsanctioned", "none"}
	b.ResetTimer()
	for i := range b.N {
		start := time.Now()
		if got := s.Call(b, http.MethodPut, "/api/v1/app-tags", map[string]any{"apps": []string{"itunes"}, "tag": tags[i%2]}, nil); got != http.StatusOK {
			b.Fatalf("tagging: got status %d", got)
		}
		for range agents {
			select {
			case at := <-fleet.applied:
				took = append(took, at.Sub(start))
			case <-time.After(30 * time.Second):
				b.Fatalf("only %d acknowledgements within 30 s", len(took)%agents)
			}
		}
	}
	b.StopTimer()
	b.ReportMetric(each, "KiB/agent")
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	fleet.disconnect()
}

// connected is a fleet of agents that apply what they are told.
type connected struct {
	applied chan time.Time
	stop    context.CancelFunc
	running sync.WaitGroup
}

func connect(b *testing.B, s *servertest.Server, agents int) *connected {
	b.Helper()
	var token struct{ Token string }
	s.Call(b, http.MethodPost, "/api/v1/tokens", map[string]any{"name": "fleet", "uses": agents}, &token)
	ctx, stop := context.WithCancel(context.Background())
	f := &connected{applied: make(chan time.Time, agents), stop: stop}
	for i := range agents {
		a, err := servertest.Enroll(ctx, token.Token, fmt.Sprintf("pc-%d", i))
		if err != nil {
			b.Fatal(err)
		}
		f.running.Go(func() {
			defer a.Close()
			// It ends with ctx, and what it ends with shows in the count of
			// acknowledgements.
			_ = a.Run(ctx, func(bundle.Header, bundle.Set) { f.applied <- time.Now() })
		})
		// The first bundle, which says that it is connected.
		select {
		case <-f.applied:
		case <-time.After(30 * time.Second):
			b.Fatalf("agent %d did not connect within 30 s", i)
		}
	}
	return f
}

func (f *connected) disconnect() {
	f.stop()
	f.running.Wait()
}

func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
