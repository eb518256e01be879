package uplink

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"interdict/internal/access"
	"interdict/internal/agent/health"
	"interdict/internal/agent/state"
	"interdict/internal/bundle"
	"interdict/internal/fleet"
)

// testAgent is an Uplink with everything around it noted down.
type testAgent struct {
	*Uplink
	dir    state.Dir
	id     state.Identity
	health *health.Set
	spool  *memorySpool

	mu      sync.Mutex
	applied []uint64
	refused []string
	fail    error
	// settings are what Report says, requests what Requests was told.
	settings []fleet.SettingReport
	requests [][]access.Request
	// answer is Answer.
	answer func(ctx context.Context, q bundle.Question) bundle.Answer
	usage  *memoryUsage
	// suspended is what the agent says when asked.
	suspended atomic.Bool
	cancel    context.CancelFunc
	ended     chan struct{}
}

// enrolled returns the state of a machine that is enrolled with s.
func enrolled(t *testing.T, s *testServer) (state.Dir, state.Identity) {
	t.Helper()
	dir, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	id, err := Enroll(t.Context(), EnrollConfig{Token: s.token(), Name: "test", Dial: s.dial})
	if err != nil {
		t.Fatal(err)
	}
	if err := dir.SaveIdentity(id); err != nil {
		t.Fatal(err)
	}
	return dir, id
}

// startAgent starts an agent with what is on disk.
func startAgent(t *testing.T, s *testServer, dir state.Dir) *testAgent {
	t.Helper()
	id, err := dir.Identity()
	if err != nil {
		t.Fatal(err)
	}
	have, err := dir.Bundle(id)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return startAgentWith(t, s, dir, have)
}

// startAgentWith starts an agent that has a bundle in force.
func startAgentWith(t *testing.T, s *testServer, dir state.Dir, have state.Bundle) *testAgent {
	t.Helper()
	id, err := dir.Identity()
	if err != nil {
		t.Fatal(err)
	}
	a := &testAgent{dir: dir, id: id, health: &health.Set{}, spool: newMemorySpool(), usage: newMemoryUsage(), ended: make(chan struct{})}
	a.Uplink = New(Config{
		Dir: dir, Identity: id, Facts: bundle.Facts{AgentVersion: "test"}, Have: have, Spool: a.spool, Health: a.health, Log: slog.New(slog.DiscardHandler), Dial: s.dial,
		Apply: func(_ context.Context, b state.Bundle) (fleet.Mode, error) {
			a.mu.Lock()
			defer a.mu.Unlock()
			if a.fail != nil {
				return "", a.fail
			}
			a.applied = append(a.applied, b.Header.Version)
			return fleet.ModeAudit, nil
		},
		Suspended: a.suspended.Load,
		Report: func() ([]fleet.SettingReport, []fleet.HealthItem) {
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.settings, a.health.Report()
		},
		Answer: func(ctx context.Context, q bundle.Question) bundle.Answer { return a.answer(ctx, q) },
		Requests: func(requests []access.Request) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.requests = append(a.requests, requests)
		},
		Usage: a.usage,
		Refused: func(_ context.Context, _ bundle.Header, err error) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.refused = append(a.refused, err.Error())
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	a.cancel = cancel
	go func() {
		defer close(a.ended)
		_ = a.Run(ctx, fleet.ModeAudit)
	}()
	t.Cleanup(a.stop)
	return a
}

func (a *testAgent) stop() {
	a.cancel()
	<-a.ended
}

func (a *testAgent) hasHealth(code health.Code) bool {
	return slices.ContainsFunc(a.health.Items(), func(i health.Item) bool { return i.Code == code })
}

// memorySpool is a spool of batches that are put into it.
type memorySpool struct {
	mu       sync.Mutex
	keys     []string
	rejected []string
	put      chan struct{}
}

func newMemorySpool() *memorySpool { return &memorySpool{put: make(chan struct{}, 16)} }

func (m *memorySpool) add(key string) {
	m.mu.Lock()
	m.keys = append(m.keys, key)
	m.mu.Unlock()
	m.put <- struct{}{}
}

func (m *memorySpool) Next(ctx context.Context) (string, []byte, error) {
	for {
		m.mu.Lock()
		if len(m.keys) > 0 {
			defer m.mu.Unlock()
			return m.keys[0], bytes.Repeat([]byte(m.keys[0]), 3), nil
		}
		m.mu.Unlock()
		select {
		case <-ctx.Done():
			return "", nil, ctx.Err()
		case <-m.put:
		}
	}
}

func (m *memorySpool) Done(key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys = slices.DeleteFunc(m.keys, func(k string) bool { return k == key })
	return nil
}

func (m *memorySpool) Reject(key string) error {
	m.mu.Lock()
	m.rejected = append(m.rejected, key)
	m.mu.Unlock()
	return m.Done(key)
}

// memoryUsage is reports that are put into it, under the same keys.
type memoryUsage struct{ *memorySpool }

func newMemoryUsage() *memoryUsage { return &memoryUsage{newMemorySpool()} }

func (m *memoryUsage) Next(ctx context.Context) (string, bundle.UsageReport, error) {
	key, _, err := m.memorySpool.Next(ctx)
	return key, bundle.UsageReport{Uses: []bundle.Use{{Host: key + ".example", Count: 1}}}, err
}

// elapse lets time pass, in a synctest bubble.
func elapse(d time.Duration) { <-time.After(d) }
