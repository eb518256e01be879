package control_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"os"
	"sync"
	"testing"
	"time"

	"interdict/catalog"
	"interdict/internal/bundle"
	"interdict/internal/control"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/store"
	"interdict/internal/store/pgtest"
)

// postgres is the private server of this test binary.
var postgres = pgtest.New()

func TestMain(m *testing.M) { os.Exit(postgres.Run(m)) }

// clock is a clock that only the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

// Now moves a microsecond with every look.
func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Microsecond)
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// server is a Service with what it stands on.
type server struct {
	*control.Service

	t     testing.TB
	clock *clock
	// end ends the service and its store.
	end func()
}

func admin() control.Actor {
	return control.Actor{Kind: control.ActorToken, ID: "t1", Name: "root", Role: control.RoleAdministrator, Source: "192.0.2.9"}
}

// start starts a service on a store that may be there already.
func start(tb testing.TB, c store.Config, clk *clock) *server {
	tb.Helper()
	return startAt(tb, c, clk, "https://interdict.example.net:8443")
}

// startAt starts a service that agents reach at a URL.
func startAt(tb testing.TB, c store.Config, clk *clock, url string) *server {
	tb.Helper()
	st, err := store.Open(tb.Context(), c)
	if err != nil {
		tb.Fatalf("opening the store: %v", err)
	}
	apps, err := catalog.Load()
	if err != nil {
		tb.Fatalf("loading the catalog: %v", err)
	}
	service, err := control.New(tb.Context(), control.Config{
		Store: st, Catalog: apps, URL: url, Hosts: []string{"192.0.2.1"}, Now: clk.Now,
	})
	if err != nil {
		tb.Fatalf("making the service: %v", err)
	}
	if err := service.Start(tb.Context()); err != nil {
		tb.Fatalf("starting the service: %v", err)
	}
	s := &server{Service: service, t: tb, clock: clk}
	s.end = sync.OnceFunc(func() {
		if err := service.Shutdown(context.WithoutCancel(tb.Context())); err != nil {
			tb.Errorf("shutting down: %v", err)
		}
		if err := st.Close(); err != nil {
			tb.Errorf("closing the store: %v", err)
		}
	})
	tb.Cleanup(s.end)
	return s
}

// engine is a kind of store.
type engine struct {
	name string
	// config returns where a new, empty store is kept.
	config func(testing.TB) store.Config
}

func engines() []engine {
	return []engine{
		{"sqlite", func(tb testing.TB) store.Config {
			tb.Helper()
			return store.Config{Dir: tb.TempDir()}
		}},
		{"postgres", func(tb testing.TB) store.Config {
			tb.Helper()
			return store.Config{URL: postgres.URL(tb)}
		}},
	}
}

// device is an agent as far as control sees it.
type device struct {
	*server

	id   fleet.DeviceID
	key  []byte
	have bundle.Current
}

func request(tb testing.TB) []byte {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		tb.Fatal(err)
	}
	return csr
}

func (s *server) token(n control.NewToken) (control.TokenView, string) {
	s.t.Helper()
	if n.Name == "" {
		n.Name = "lab"
	}
	view, text, err := s.CreateToken(s.t.Context(), admin(), n)
	if err != nil {
		s.t.Fatalf("making a token: %v", err)
	}
	token, err := bundle.ParseToken(text)
	if err != nil {
		s.t.Fatalf("the token cannot be read: %v", err)
	}
	if token.CAFingerprint != bundle.Fingerprint(s.CA().Raw) {
		s.t.Errorf("the token is for another authority")
	}
	return view, token.Secret
}

func (s *server) enroll(secret, name string, labels map[string]string) *device {
	s.t.Helper()
	r, err := s.Enroll(s.t.Context(), bundle.EnrollRequest{Secret: secret, CSR: request(s.t), Name: name, Labels: labels}, "192.0.2.7")
	if err != nil {
		s.t.Fatalf("enrolling %s: %v", name, err)
	}
	return &device{server: s, id: r.DeviceID, key: r.BundleKey}
}

// newDevice enrols a device with a token of its own.
func (s *server) newDevice(name string, groups ...string) *device {
	s.t.Helper()
	_, secret := s.token(control.NewToken{Groups: groups})
	return s.enroll(secret, name, nil)
}

// fetch takes in the newest bundle and returns its size in bytes, 0 if there
// was nothing newer.
func (d *device) fetch() int {
	d.t.Helper()
	text, err := d.Bundle(d.t.Context(), d.id, d.have.Version, d.have.Digest)
	if err != nil {
		d.t.Fatalf("fetching the bundle of %s: %v", d.id, err)
	}
	if text == nil {
		return 0
	}
	var e bundle.Envelope
	if err = json.Unmarshal(text, &e); err != nil {
		d.t.Fatalf("reading an envelope: %v", err)
	}
	h, set, err := e.Open(d.key, d.have, d.clock.Now())
	if err != nil {
		d.t.Fatalf("opening the bundle of %s: %v", d.id, err)
	}
	if h.Version <= d.have.Version {
		d.t.Errorf("version %d came after %d", h.Version, d.have.Version)
	}
	d.have = bundle.Current{Version: h.Version, Digest: h.Digest, Set: set}
	return len(text)
}

// apply fetches and acknowledges.
func (d *device) apply() {
	d.t.Helper()
	d.fetch()
	err := d.Applied(d.t.Context(), d.id, fleet.Applied{Version: d.have.Version, Digest: d.have.Digest, Mode: fleet.ModeBlock})
	if err != nil {
		d.t.Fatalf("acknowledging: %v", err)
	}
}

// record returns the record of a kind and key, if the device has it.
func (d *device) record(kind bundle.Kind, key string) (bundle.Record, bool) {
	d.t.Helper()
	for _, r := range d.have.Set.All() {
		if r.Err != nil {
			d.t.Fatalf("reading a record: %v", r.Err)
		}
		if r.Kind == kind && r.Key == key {
			return r.Record, true
		}
	}
	return bundle.Record{}, false
}

func (d *device) connect() *control.Session {
	d.t.Helper()
	session, err := d.Connect(d.t.Context(), d.id, control.Facts{Hostname: "host", AgentVersion: "1"})
	if err != nil {
		d.t.Fatalf("connecting: %v", err)
	}
	d.t.Cleanup(session.Close)
	return session
}

// next returns the next message, which must be of a type.
func next(tb testing.TB, s *control.Session, want bundle.MessageType) bundle.Message {
	tb.Helper()
	select {
	case m := <-s.Messages():
		if m.Type != want {
			tb.Fatalf("got message %+v, want a %s", m, want)
		}
		return m
	case <-time.After(10 * time.Second):
		tb.Fatalf("no %s came", want)
		return bundle.Message{}
	}
}

// silent fails if there is a message.
func silent(tb testing.TB, s *control.Session) {
	tb.Helper()
	select {
	case m := <-s.Messages():
		tb.Errorf("got message %+v, want none", m)
	default:
	}
}

func (s *server) group(n control.NewGroup) string {
	s.t.Helper()
	g, _, err := s.CreateGroup(s.t.Context(), admin(), n)
	if err != nil {
		s.t.Fatalf("making group %q: %v", n.Name, err)
	}
	return g.ID
}

func (s *server) policy(name string, mode fleet.Mode, groups ...string) string {
	s.t.Helper()
	p, _, err := s.CreatePolicy(s.t.Context(), admin(), control.NewPolicy{Name: name, Settings: fleet.Settings{NetworkProtection: mode}})
	if err != nil {
		s.t.Fatalf("making policy %q: %v", name, err)
	}
	if _, _, err := s.AssignPolicy(s.t.Context(), admin(), p.ID, p.Version, indicator.Scope{Include: groups}); err != nil {
		s.t.Fatalf("assigning policy %q: %v", name, err)
	}
	return p.ID
}

func (s *server) tag(r control.TagRequest) control.Change {
	s.t.Helper()
	c, err := s.TagApps(s.t.Context(), admin(), r)
	if err != nil {
		s.t.Fatalf("tagging %v: %v", r.Apps, err)
	}
	return c
}

// wantFault fails unless err is a fault with the code.
func wantFault(tb testing.TB, err error, code fault.Code) {
	tb.Helper()
	if got := fault.CodeOf(err); got != code {
		tb.Errorf("got error %v (%s), want a fault with code %s", err, got, code)
	}
}
