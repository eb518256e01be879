package servertest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"interdict/internal/problem"
	"interdict/internal/server"
)

// Server is a real server in this process.
type Server struct {
	*server.Server

	Dir string
	// Token is the admin token.
	Token string
	// HTTP knows the server by the fingerprint in the admin token.
	HTTP *http.Client
	// Log is what the server logged, from level debug on; in a benchmark from
	// level info on.
	Log *Log
}

// Start starts a server on a free port of the loopback interface, with a new
// data directory. It is shut down at the end of the test at the latest.
func Start(tb testing.TB) *Server {
	tb.Helper()
	return StartIn(tb, tb.TempDir())
}

// StartIn is Start with a data directory that may have been used before.
func StartIn(tb testing.TB, dir string) *Server {
	tb.Helper()
	return StartWith(tb, server.Config{DataDir: dir})
}

// StartWith is Start with a configuration, of which it makes Listen, Version
// and Logger.
func StartWith(tb testing.TB, c server.Config) *Server {
	tb.Helper()
	log, level := &Log{}, slog.LevelDebug
	if _, measures := tb.(*testing.B); measures {
		level = slog.LevelInfo
	}
	c.Listen, c.Version = "127.0.0.1:0", "test"
	c.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: level}))
	s, err := server.New(c)
	if err != nil {
		tb.Fatal(err)
	}
	if err = s.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	token, err := os.ReadFile(filepath.Join(c.DataDir, "admin-token"))
	if err != nil {
		tb.Fatal(err)
	}
	_, pin, _ := strings.Cut(strings.TrimSpace(string(token)), ".")
	out := &Server{
		Server: s, Dir: c.DataDir, Token: strings.TrimSpace(string(token)), HTTP: pinned(s.LocalURL(), pin), Log: log,
	}
	tb.Cleanup(func() { out.Stop(tb) })
	return out
}

// Stop shuts the server down; it may be called again.
func (s *Server) Stop(tb testing.TB) {
	tb.Helper()
	s.HTTP.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		tb.Errorf("shutting the server down: %v", err)
	}
}

// Call sends a request to the admin API and returns the status. In is sent as
// JSON unless it is nil; a document in the answer is read into out unless that
// is nil, an error document into a *problem.Document.
func (s *Server) Call(tb testing.TB, method, path string, in, out any, header ...string) int {
	tb.Helper()
	var body io.Reader = http.NoBody
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			tb.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(tb.Context(), method, s.LocalURL()+path, body)
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.Token)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.HTTP.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	_, wantsProblem := out.(*problem.Document)
	if out != nil && wantsProblem == (resp.StatusCode >= http.StatusBadRequest) {
		if err := json.Unmarshal(text, out); err != nil {
			tb.Fatalf("%s %s: reading the answer %q: %v", method, path, text, err)
		}
	} else if out != nil {
		tb.Fatalf("%s %s: got status %d: %s", method, path, resp.StatusCode, text)
	}
	return resp.StatusCode
}

// Enroll makes a token and a device with it, which is closed at the end of the
// test.
func (s *Server) Enroll(tb testing.TB, name string) *Agent {
	tb.Helper()
	var token struct{ Token string }
	s.Call(tb, http.MethodPost, "/api/v1/tokens", map[string]any{"name": "for " + name}, &token)
	a, err := Enroll(tb.Context(), token.Token, name)
	if err != nil {
		tb.Fatalf("enrolling %s: %v", name, err)
	}
	tb.Cleanup(a.Close)
	return a
}

// Log collects what a server logs. It is safe for concurrent use.
type Log struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

// Write implements io.Writer.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// String returns the log so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
