// Package controltest makes services over a real store for the tests of the
// use cases, and plays the devices.
package controltest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"sync"
	"testing"
	"time"

	"interdict/catalog"
	"interdict/internal/bundle"
	"interdict/internal/control"
	"interdict/internal/control/appeal"
	"interdict/internal/control/credential"
	"interdict/internal/control/enrol"
	"interdict/internal/control/groups"
	"interdict/internal/control/history"
	"interdict/internal/control/indicators"
	"interdict/internal/control/inquiry"
	"interdict/internal/control/observation"
	"interdict/internal/control/rollout"
	"interdict/internal/control/usage"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/store"
	"interdict/internal/store/pgtest"
)

// Clock is a clock that only the test moves.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that shows noon.
func NewClock() *Clock { return &Clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

// Now moves a microsecond with every look.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Microsecond)
	return c.now
}

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Server is the use cases with what they stand on.
type Server struct {
	*control.Service

	Credentials  *credential.Service
	Enrolment    *enrol.Service
	Groups       *groups.Service
	History      *history.Service
	Indicators   *indicators.Service
	Observations *observation.Service
	Appeals      *appeal.Service
	Usage        *usage.Service
	Rollouts     *rollout.Service
	Inquiries    *inquiry.Service
	Clock        *Clock
	// Store is beneath the use cases: what is changed in it, another server
	// might have changed.
	Store *store.Store
	// End ends the services and their store, before the test does.
	End func()

	t testing.TB
}

// Admin is an administrator.
func Admin() control.Actor {
	return control.Actor{Kind: control.ActorToken, ID: "t1", Name: "root", Role: control.RoleAdministrator, Source: "192.0.2.9"}
}

// OnSQLite starts a service on a new store.
func OnSQLite(tb testing.TB) *Server {
	tb.Helper()
	return Start(tb, store.Config{Dir: tb.TempDir()}, NewClock())
}

// Start starts a service on a store that may be there already.
func Start(tb testing.TB, c store.Config, clock *Clock) *Server {
	tb.Helper()
	return StartAt(tb, c, clock, "https://interdict.example.net:8443")
}

// StartAt starts a service that agents reach at a URL.
func StartAt(tb testing.TB, c store.Config, clock *Clock, url string) *Server {
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
		Store: st, Catalog: apps, URL: url, Hosts: []string{"192.0.2.1"}, Now: clock.Now,
	})
	if err != nil {
		tb.Fatalf("making the service: %v", err)
	}
	rollouts, err := rollout.New(rollout.Config{Control: service})
	if err != nil {
		tb.Fatalf("making the rollouts: %v", err)
	}
	observations, err := observation.New(observation.Config{Control: service, Store: st, Observed: rollouts.Observed})
	if err != nil {
		tb.Fatalf("making the observations: %v", err)
	}
	appeals, err := appeal.New(appeal.Config{Control: service, Store: st, Retention: 90 * 24 * time.Hour})
	if err != nil {
		tb.Fatalf("making the appeals: %v", err)
	}
	uses, err := usage.New(usage.Config{Control: service, Store: st, Apps: apps.Apps()})
	if err != nil {
		tb.Fatalf("making the usage: %v", err)
	}
	inquiries, err := inquiry.New(inquiry.Config{Control: service, Store: st, Apps: apps.Apps(), AnswerTime: 5 * time.Second})
	if err != nil {
		tb.Fatalf("making the inquiries: %v", err)
	}
	if err := service.Start(tb.Context()); err != nil {
		tb.Fatalf("starting the service: %v", err)
	}
	s := &Server{
		Service: service, Credentials: credential.New(credential.Config{Control: service}),
		Enrolment: enrol.New(enrol.Config{Control: service}), Groups: groups.New(groups.Config{Control: service}),
		History:      history.New(history.Config{Control: service}),
		Indicators:   indicators.New(indicators.Config{Control: service}),
		Observations: observations, Appeals: appeals, Usage: uses, Rollouts: rollouts, Inquiries: inquiries, Clock: clock, Store: st, t: tb,
	}
	s.End = sync.OnceFunc(func() {
		if err := service.Shutdown(context.WithoutCancel(tb.Context())); err != nil {
			tb.Errorf("shutting down: %v", err)
		}
		if err := st.Close(); err != nil {
			tb.Errorf("closing the store: %v", err)
		}
	})
	tb.Cleanup(s.End)
	return s
}

// Engine is a kind of store.
type Engine struct {
	Name string
	// Config returns where a new, empty store is kept.
	Config func(testing.TB) store.Config
}

// Engines are all kinds of stores.
func Engines(postgres *pgtest.Server) []Engine {
	return []Engine{
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

// Token makes an enrolment token, and returns its secret too.
func (s *Server) Token(n enrol.NewToken) (enrol.TokenView, string) {
	s.t.Helper()
	if n.Name == "" {
		n.Name = "lab"
	}
	view, text, err := s.Enrolment.CreateToken(s.t.Context(), Admin(), n)
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

// Request makes a request for a certificate.
func Request(tb testing.TB) []byte {
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

// Admit enrols a device with the secret of a token.
func (s *Server) Admit(secret, name string, labels map[string]string) *Device {
	s.t.Helper()
	r, err := s.Enrolment.Enroll(s.t.Context(), bundle.EnrollRequest{Secret: secret, CSR: Request(s.t), Name: name, Labels: labels}, "192.0.2.7")
	if err != nil {
		s.t.Fatalf("enrolling %s: %v", name, err)
	}
	return &Device{Server: s, ID: r.DeviceID, key: r.BundleKey}
}

// NewDevice enrols a device with a token of its own.
func (s *Server) NewDevice(name string, groups ...string) *Device {
	s.t.Helper()
	_, secret := s.Token(enrol.NewToken{Groups: groups})
	return s.Admit(secret, name, nil)
}

// NewGroup makes a group and returns its id.
func (s *Server) NewGroup(n groups.NewGroup) string {
	s.t.Helper()
	g, _, err := s.Groups.Create(s.t.Context(), Admin(), n)
	if err != nil {
		s.t.Fatalf("making group %q: %v", n.Name, err)
	}
	return g.ID
}

// NewPolicy makes a policy, assigns it to groups, to all devices if there is
// none, and returns its id.
func (s *Server) NewPolicy(name string, mode fleet.Mode, groups ...string) string {
	s.t.Helper()
	p, _, err := s.CreatePolicy(s.t.Context(), Admin(), control.NewPolicy{Name: name, Settings: fleet.Settings{NetworkProtection: mode}})
	if err != nil {
		s.t.Fatalf("making policy %q: %v", name, err)
	}
	if _, _, err := s.AssignPolicy(s.t.Context(), Admin(), p.ID, p.Version, indicator.Scope{Include: groups}); err != nil {
		s.t.Fatalf("assigning policy %q: %v", name, err)
	}
	return p.ID
}

// Tag tags apps.
func (s *Server) Tag(r control.TagRequest) control.Change {
	s.t.Helper()
	c, err := s.TagApps(s.t.Context(), Admin(), r)
	if err != nil {
		s.t.Fatalf("tagging %v: %v", r.Apps, err)
	}
	return c
}

// WantFault fails unless err is a fault with the code.
func WantFault(tb testing.TB, err error, code fault.Code) {
	tb.Helper()
	if got := fault.CodeOf(err); got != code {
		tb.Errorf("got error %v (%s), want a fault with code %s", err, got, code)
	}
}
