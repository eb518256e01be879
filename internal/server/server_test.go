package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"interdict/internal/alert"
	"interdict/internal/bundle"
	"interdict/internal/control"
	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/server"
	"interdict/internal/server/servertest"
	"interdict/internal/store/pgtest"
)

// postgres is the private PostgreSQL of this test binary.
var postgres = pgtest.New()

func TestMain(m *testing.M) {
	servertest.Main(func() int { return postgres.Run(m) })
}

// page is one page of a list.
type page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next"`
}

func TestATagReachesAConnectedDevice(t *testing.T) {
	s := servertest.Start(t)
	a := s.Enroll(t, "alice-pc")
	s.Call(t, http.MethodPost, "/api/v1/policies", map[string]any{"name": "all", "settings": map[string]any{"network_protection": "block"}}, &struct{}{})
	s.Call(t, http.MethodPut, "/api/v1/policies/all/assignment", map[string]any{}, &struct{}{})

	applied := make(chan bundle.Set, 16)
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- a.Run(ctx, func(_ bundle.Header, set bundle.Set) { applied <- set }) }()
	if set := receive(t, applied); hasIndicator(set, "itunes") {
		t.Fatal("an indicator of itunes is there before the tag")
	}

	start := time.Now()
	var ch control.Change
	s.Call(t, http.MethodPut, "/api/v1/app-tags", map[string]any{"apps": []string{"itunes"}, "tag": "unsanctioned"}, &ch)
	if set := receive(t, applied); !hasIndicator(set, "itunes") {
		t.Fatal("no indicator of itunes is there after the tag")
	}
	t.Logf("tag to applied: %s", time.Since(start))
	if a.Have.Version != ch.Revision {
		t.Errorf("got version %d, want the revision %d of the change", a.Have.Version, ch.Revision)
	}
	var got fleet.Progress
	s.Call(t, http.MethodGet, "/api/v1/progress", nil, &got)
	if want := (fleet.Progress{Total: 1, Applied: 1}); got != want {
		t.Errorf("got progress %+v, want %+v", got, want)
	}
	var d control.DeviceView
	s.Call(t, http.MethodGet, "/api/v1/devices/alice-pc", nil, &d)
	if !d.Online || d.Applied.Mode != fleet.ModeBlock || d.AgentVersion != "test-2" {
		t.Errorf("got online %v, mode %q, agent %q; want true, block, and the version that it said when it connected", d.Online, d.Applied.Mode, d.AgentVersion)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the stream ended with %v, want that it was canceled", err)
	}
}

func TestServersThatShareADatabaseAreOne(t *testing.T) {
	url := postgres.URL(t)
	one := servertest.StartWith(t, server.Config{DataDir: t.TempDir(), DatabaseURL: url})
	other := servertest.StartWith(t, server.Config{DataDir: t.TempDir(), DatabaseURL: url})
	a := one.Enroll(t, "alice-pc")
	var d control.DeviceView
	applied := make(chan bundle.Set, 16)
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- a.Run(ctx, func(_ bundle.Header, set bundle.Set) { applied <- set }) }()
	receive(t, applied)
	other.Call(t, http.MethodGet, "/api/v1/devices/alice-pc", nil, &d)
	if d.ID != a.ID {
		t.Errorf("got device %q at the other server, want %q", d.ID, a.ID)
	}
	// Changed at one server, told by the other.
	other.Call(t, http.MethodPut, "/api/v1/app-tags", map[string]any{"apps": []string{"itunes"}, "tag": "unsanctioned"}, &struct{}{})
	if set := receive(t, applied); !hasIndicator(set, "itunes") {
		t.Error("no indicator of itunes is there after the tag at the other server")
	}
	cancel()
	<-ended
	// Each server has an admin token of its own, which all accept.
	other.Token = one.Token
	if got := other.Call(t, http.MethodGet, "/api/v1/features", nil, nil); got != http.StatusOK {
		t.Errorf("got status %d at the other server for the token of the one, want 200", got)
	}
}

func TestABatchOfEventsIsStoredOnce(t *testing.T) {
	s := servertest.Start(t)
	a := s.Enroll(t, "alice-pc")
	now := time.Now().UTC()
	events := make([]event.Event, 3)
	for i := range events {
		events[i] = event.Event{
			ID: ulid.Make().String(), Time: now, EventID: event.IDBlocked, Action: event.ActionBlocked,
			AppID: "itunes", AppName: "iTunes", Severity: "medium", Destination: event.Destination{Host: "init.itunes.apple.com", Port: 443},
			Count: 2, FirstSeen: now, LastSeen: now, Alert: true,
		}
	}
	key := ulid.Make().String()
	for range 2 {
		if _, err := a.Send(t.Context(), key, events...); err != nil {
			t.Fatal(err)
		}
	}
	// The same events in another batch, as after a crash between the two.
	if _, err := a.Send(t.Context(), ulid.Make().String(), events[1:]...); err != nil {
		t.Fatal(err)
	}
	var got page[event.Event]
	s.Call(t, http.MethodGet, "/api/v1/events?app=itunes", nil, &got)
	if len(got.Items) != len(events) {
		t.Fatalf("got %d events, want %d", len(got.Items), len(events))
	}
	for _, e := range got.Items {
		if e.Device != string(a.ID) || e.Count != 2 {
			t.Errorf("got device %q and count %d, want %q and 2", e.Device, e.Count, a.ID)
		}
	}
	var alerts page[alert.Alert]
	s.Call(t, http.MethodGet, "/api/v1/alerts", nil, &alerts)
	if len(alerts.Items) != 1 || alerts.Items[0].Count != 6 {
		t.Errorf("got alerts %+v, want one with count 6", alerts.Items)
	}
}

func TestShutdownEndsStreamsAndRequestsInOrder(t *testing.T) {
	s := servertest.Start(t)
	a := s.Enroll(t, "alice-pc")
	hello := make(chan bundle.Message, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- a.Stream(t.Context(), func(m bundle.Message) error { hello <- m; return nil })
	}()
	if m := receive(t, hello); m.Type != bundle.MessageHello || m.PingSeconds == 0 {
		t.Fatalf("got %+v first, want hello with the interval of pings", m)
	}
	start := time.Now()
	s.Stop(t)
	if err := receive(t, ended); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v, want a clean end", err)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("shutting down took %s, want the stream not to hold it up", took)
	}
}

func TestARestartKeepsIdentityAndState(t *testing.T) {
	dir := t.TempDir()
	s := servertest.StartIn(t, dir)
	a := s.Enroll(t, "alice-pc")
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	token := s.Token
	s.Stop(t)

	s = servertest.StartIn(t, dir)
	if s.Token != token {
		t.Error("the admin token changed")
	}
	if again, err := os.ReadFile(filepath.Join(dir, "ca.pem")); err != nil || string(again) != string(ca) {
		t.Errorf("the certificate authority changed (%v)", err)
	}
	var d control.DeviceView
	s.Call(t, http.MethodGet, "/api/v1/devices/alice-pc", nil, &d)
	if d.ID != a.ID {
		t.Errorf("got device %q, want %q", d.ID, a.ID)
	}
}

func TestTheAdminTokenIsMadeAtTheFirstStartOnly(t *testing.T) {
	dir := t.TempDir()
	s := servertest.StartIn(t, dir)
	name := filepath.Join(dir, "admin-token")
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("got mode %o, want 600", got)
	}
	first := s.Token
	s.Stop(t)
	start := func() {
		t.Helper()
		s, err := server.New(server.Config{DataDir: dir, Listen: "127.0.0.1:0", Logger: discard()})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	start()
	if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want that a deleted token stays away", err)
	}
	if err := os.Remove(filepath.Join(dir, "ca.pem")); err != nil {
		t.Fatal(err)
	}
	start()
	if b, err := os.ReadFile(name); err != nil || strings.TrimSpace(string(b)) == first {
		t.Errorf("got %q (%v), want a new token when ca.pem was deleted as well", b, err)
	}
}

func TestAStartThatFailsLeavesNothingBehind(t *testing.T) {
	s := servertest.Start(t)
	for _, tc := range []struct {
		name string
		c    server.Config
		want string
	}{
		{"a port that is taken", server.Config{DataDir: t.TempDir(), Listen: strings.TrimPrefix(s.LocalURL(), "https://")}, "is in use already"},
		{"a data directory that is in use", server.Config{DataDir: s.Dir, Listen: "127.0.0.1:0"}, "starting the store"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.c.Logger = discard()
			bad, err := server.New(tc.c)
			if err != nil {
				t.Fatal(err)
			}
			if err := bad.Start(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestHealthAndMetrics(t *testing.T) {
	s := servertest.Start(t)
	s.Enroll(t, "alice-pc")
	for path, want := range map[string]string{
		"/healthz": "ok\n", "/readyz": "ok\n",
		"/metrics": `interdict_devices{state="offline"} 1`,
	} {
		text := get(t, s, path, s.Token)
		if !strings.Contains(text, want) {
			t.Errorf("%s: got %q, want %q in it", path, text, want)
		}
	}
	if text := get(t, s, "/metrics", ""); !strings.Contains(text, `"code":"unauthorized"`) {
		t.Errorf("/metrics without a token: got %q, want a refusal", text)
	}
	var document struct{ OpenAPI string }
	if err := json.Unmarshal([]byte(get(t, s, "/api/v1/openapi.json", "")), &document); err != nil || document.OpenAPI != "3.1.0" {
		t.Errorf("got OpenAPI %q (%v), want 3.1.0 without a token", document.OpenAPI, err)
	}
}

func TestTheLogHasNoSecrets(t *testing.T) {
	s := servertest.Start(t)
	var token struct{ Token string }
	s.Call(t, http.MethodPost, "/api/v1/tokens", map[string]any{"name": "t"}, &token)
	parsed, err := bundle.ParseToken(token.Token)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := servertest.Enroll(t.Context(), token.Token, "pc"); err != nil {
		t.Fatal(err)
	}
	secret, _, _ := strings.Cut(s.Token, ".")
	for _, hidden := range []string{secret, parsed.Secret, token.Token} {
		if strings.Contains(s.Log.String(), hidden) {
			t.Errorf("the log contains the secret %s", hidden)
		}
	}
	if !strings.Contains(s.Log.String(), "/api/v1/tokens") {
		t.Error("the log at level debug has no line for a request")
	}
}

// get returns the body at path.
func get(t *testing.T, s *servertest.Server, path, token string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.LocalURL()+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := s.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 {
		t.Errorf("got HTTP/%d, want HTTP/2", resp.ProtoMajor)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func hasIndicator(set bundle.Set, app string) bool {
	for _, r := range set.All() {
		if r.Err == nil && r.Kind == bundle.KindIndicator && r.Indicator.AppID == app {
			return true
		}
	}
	return false
}

// receive waits for a value, but not for ever.
func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came within 10 s")
		panic("unreachable")
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
