package e2e

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

// requests counts what the web servers of the lab's Internet were asked for.
// It is a slog.Handler: a server logs each request before it answers.
type requests struct {
	mu    sync.Mutex // guards the following
	count map[string]int
}

func newRequests() *requests { return &requests{count: make(map[string]int)} }

// of says how often a host was asked for.
func (r *requests) of(host string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count[host]
}

// Enabled is part of slog.Handler.
func (r *requests) Enabled(context.Context, slog.Level) bool { return true }

// WithAttrs is part of slog.Handler.
func (r *requests) WithAttrs([]slog.Attr) slog.Handler { return r }

// WithGroup is part of slog.Handler.
func (r *requests) WithGroup(string) slog.Handler { return r }

// Handle is part of slog.Handler.
func (r *requests) Handle(_ context.Context, record slog.Record) error {
	if record.Message != "http request" {
		return nil
	}
	record.Attrs(func(a slog.Attr) bool {
		if a.Key != "host" {
			return true
		}
		host, _, _ := strings.Cut(strings.ToLower(a.Value.String()), ":")
		r.mu.Lock()
		defer r.mu.Unlock()
		r.count[strings.TrimSuffix(host, ".")]++
		return false
	})
	return nil
}

// unseen fails the test if a host was asked for more often than before.
func (f *fixture) unseen(t *testing.T, what, host string, before int) {
	t.Helper()
	if now := f.requests.of(host); now != before {
		t.Errorf("%s: the server at the far end saw %d requests more", what, now-before)
	}
}
