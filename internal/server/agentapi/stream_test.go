package agentapi_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"interdict/catalog"
	"interdict/internal/bundle"
	"interdict/internal/control"
	"interdict/internal/control/enrol"
	"interdict/internal/control/observation"
	"interdict/internal/server/agentapi"
	"interdict/internal/server/gate"
	"interdict/internal/server/servertest"
	"interdict/internal/store"
)

func TestMain(m *testing.M) { servertest.Main(m.Run) }

// serve serves the API alone, with pings every interval, and enrols a device.
func serve(t *testing.T, interval time.Duration) (*agentapi.API, *servertest.Agent) {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	apps, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := control.New(t.Context(), control.Config{Store: st, Catalog: apps, URL: "https://" + l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	if err = c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Shutdown(context.Background()); err != nil { //nolint:govet // shadow: it runs when the outer err is gone
			t.Error(err)
		}
	})
	cert, err := c.ServerCertificate([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	observations, err := observation.New(observation.Config{Control: c, Store: st})
	if err != nil {
		t.Fatal(err)
	}
	enrolment := enrol.New(enrol.Config{Control: c})
	api := agentapi.New(agentapi.Config{
		Control: c, Enrolment: enrolment, Observations: observations, Gate: gate.New(time.Now), Logger: slog.New(slog.DiscardHandler), PingInterval: interval,
	})
	srv := httptest.NewUnstartedServer(api)
	srv.Listener.Close()
	srv.Listener, srv.EnableHTTP2 = l, true
	srv.TLS = &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert, VerifyConnection: agentapi.VerifyClient(c.CA(), time.Now),
	}
	// What applies to every request must not end a stream.
	srv.Config.ReadTimeout, srv.Config.WriteTimeout = 100*time.Millisecond, 300*time.Millisecond
	srv.StartTLS()
	t.Cleanup(srv.Close)

	_, token, err := enrolment.CreateToken(t.Context(), control.Actor{Kind: control.ActorSystem}, enrol.NewToken{Name: "t"})
	if err != nil {
		t.Fatal(err)
	}
	a, err := servertest.Enroll(t.Context(), token, "alice-pc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return api, a
}

func TestAStreamOutlivesTheTimeoutsOfRequestsAndIsKeptAlive(t *testing.T) {
	for _, tc := range []struct {
		name  string
		http2 bool
	}{{"HTTP/2", true}, {"HTTP/1.1", false}} {
		t.Run(tc.name, func(t *testing.T) {
			api, a := serve(t, 30*time.Millisecond)
			if transport, ok := a.HTTP.Transport.(*http.Transport); ok && !tc.http2 {
				transport.ForceAttemptHTTP2 = false
				transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
			}
			enough := errors.New("enough")
			var got []bundle.MessageType
			start := time.Now()
			err := a.Stream(t.Context(), func(m bundle.Message) error {
				got = append(got, m.Type)
				if n := api.Streams(); n != 1 {
					t.Errorf("got %d streams while connected, want 1", n)
				}
				if time.Since(start) > 500*time.Millisecond {
					return enough
				}
				return nil
			})
			if !errors.Is(err, enough) {
				t.Fatalf("the stream ended with %v after %s and %v", err, time.Since(start), got)
			}
			if got[0] != bundle.MessageHello || got[1] != bundle.MessagePing || len(got) < 8 {
				t.Errorf("got %v, want hello and at least seven pings", got)
			}
		})
	}
}

func TestDrainEndsStreamsCleanly(t *testing.T) {
	api, a := serve(t, time.Hour)
	err := a.Stream(t.Context(), func(bundle.Message) error { api.Drain(); api.Drain(); return nil })
	if !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want a clean end", err)
	}
}

func TestANewerStreamOfADeviceTakesTheOldersPlace(t *testing.T) {
	_, a := serve(t, time.Hour)
	connected := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- a.Stream(t.Context(), func(bundle.Message) error { connected <- struct{}{}; return nil })
	}()
	<-connected
	second := errors.New("second")
	if err := a.Stream(t.Context(), func(bundle.Message) error { return second }); !errors.Is(err, second) {
		t.Fatalf("the newer stream ended with %v", err)
	}
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("the older stream ended with %v, want a clean end", err)
	}
}
