package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"interdict/internal/agent/journal"
	"interdict/internal/agent/state"
	"interdict/internal/bundle"
	"interdict/internal/event"
	"interdict/internal/fleet"
)

// patience bounds every wait for something that happens soon.
const patience = 10 * time.Second

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

// site is a server and a machine that is enrolled with it.
type site struct {
	t       *testing.T
	dir     state.Dir
	id      state.Identity
	signing ed25519.PrivateKey
	server  *httptest.Server
	// policyDir and environ are of the machine.
	policyDir string
	environ   []string

	mu       sync.Mutex
	envelope *bundle.Envelope
	version  uint64
	acked    []fleet.Applied
	// batches counts the batches of events that came in time.
	batches int
	// busy holds batches up while it is not nil and not closed.
	busy    chan struct{}
	deleted bool
	// question is asked on the stream, answers are what came of it.
	question *bundle.Question
	answers  chan bundle.Answer
}

func newSite(t *testing.T) *site {
	t.Helper()
	// The name of the temporary directory must leave room for a socket's.
	t.Chdir(t.TempDir())
	dir, err := state.Open("state")
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, dir: dir, answers: make(chan bundle.Answer, 1)}
	ca, caKey := s.certificate(nil, nil, "CA")
	public, signing, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s.signing = signing
	serverCert, serverKey := s.certificate(ca, caKey, "server")
	deviceCert, deviceKey := s.certificate(ca, caKey, "device-1")

	mux := http.NewServeMux()
	mux.HandleFunc("GET "+bundle.PathStream, s.stream)
	mux.HandleFunc("GET "+bundle.PathBundle, s.bundle)
	mux.HandleFunc("POST "+bundle.PathApplied, s.applied)
	mux.HandleFunc("POST "+bundle.PathEvents, s.takeEvents)
	mux.HandleFunc("POST "+bundle.PathAnswer, func(w http.ResponseWriter, r *http.Request) {
		var a bundle.Answer
		_ = json.NewDecoder(r.Body).Decode(&a)
		s.answers <- a
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST "+bundle.PathUnenroll, func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		s.deleted = true
		s.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	})
	s.server = httptest.NewUnstartedServer(mux)
	s.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	clients := x509.NewCertPool()
	clients.AddCert(ca)
	s.server.TLS = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{serverCert.Raw}, PrivateKey: serverKey}},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: clients,
	}
	s.server.EnableHTTP2 = true
	s.server.StartTLS()
	t.Cleanup(s.close)
	s.id = state.Identity{
		DeviceID: "device-1", ServerURL: s.server.URL, BundleKey: public, CA: ca,
		Certificate: tls.Certificate{Certificate: [][]byte{deviceCert.Raw}, PrivateKey: deviceKey, Leaf: deviceCert},
	}
	if err := dir.SaveIdentity(s.id); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) close() {
	s.server.CloseClientConnections()
	s.server.Close()
}

func (s *site) certificate(parent *x509.Certificate, parentKey *ecdsa.PrivateKey, name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if parent == nil {
		parent, parentKey = template, key
		template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		s.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		s.t.Fatal(err)
	}
	return cert, key
}

// seal signs a bundle.
func (s *site) seal(b state.Bundle) bundle.Envelope {
	s.t.Helper()
	h := bundle.Header{Audience: "a", Version: b.Header.Version, IssuedAt: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	header, signature, err := bundle.SignHeader(s.signing, h, b.Set)
	if err != nil {
		s.t.Fatal(err)
	}
	e, err := bundle.Seal(header, signature, "", bundle.Diff(bundle.Set{}, b.Set))
	if err != nil {
		s.t.Fatal(err)
	}
	return e
}

func (s *site) publish(b state.Bundle) {
	s.t.Helper()
	e := s.seal(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.envelope, s.version = &e, b.Header.Version
}

func (s *site) stream(w http.ResponseWriter, r *http.Request) {
	_ = json.NewEncoder(w).Encode(bundle.Message{Type: bundle.MessageHello, PingSeconds: 60, Now: time.Now()})
	if s.question != nil {
		_ = json.NewEncoder(w).Encode(bundle.Message{Type: bundle.MessageAsk, Question: s.question})
	}
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func (s *site) bundle(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.envelope == nil || r.URL.Query().Get("version") != "" && r.URL.Query().Get("version") >= string(rune('0'+s.version)) {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	_ = json.NewEncoder(w).Encode(s.envelope)
}

func (s *site) applied(w http.ResponseWriter, r *http.Request) {
	var a fleet.Applied
	_ = json.NewDecoder(r.Body).Decode(&a)
	s.mu.Lock()
	s.acked = append(s.acked, a)
	s.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (s *site) takeEvents(w http.ResponseWriter, r *http.Request) {
	if s.busy != nil {
		select {
		case <-s.busy:
		case <-r.Context().Done():
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.deleted {
		s.batches++
	}
	_ = json.NewEncoder(w).Encode(bundle.EventReceipt{Stored: 1})
}

func (s *site) lastAcked() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.acked) == 0 {
		return 0
	}
	return s.acked[len(s.acked)-1].Version
}

// running is an agent that runs.
type running struct {
	*Client
	lab   *lab
	stop  context.CancelFunc
	ended chan error
}

// run starts an agent on the site's machine and waits until it is ready.
func (s *site) run() *running {
	s.t.Helper()
	return s.runWith(func(*Platform) {})
}

// runWith is run on another platform.
func (s *site) runWith(change func(*Platform)) *running {
	s.t.Helper()
	l := &lab{t: s.t}
	platform := l.platform()
	change(&platform)
	ctx, stop := context.WithCancel(context.Background())
	ready := make(chan struct{})
	r := &running{Client: NewClient(s.dir), lab: l, stop: stop, ended: make(chan error, 1)}
	go func() {
		r.ended <- Run(ctx, Config{
			Dir: s.dir, Platform: platform, PolicyDir: s.policyDir, Environ: s.environ,
			Facts: bundle.Facts{AgentVersion: "test"}, Ready: func() { close(ready) }, Log: slog.New(slog.DiscardHandler),
		})
	}()
	s.t.Cleanup(r.end)
	select {
	case <-ready:
	case err := <-r.ended:
		r.ended <- nil
		s.t.Fatalf("the agent ended: %v", err)
	case <-time.After(patience):
		s.t.Fatal("the agent is not ready")
	}
	return r
}

// end stops the agent and checks that it ends without a fault.
func (r *running) end() {
	r.stop()
	if err := soon(r.lab.t, "the agent ends", r.ended); err != nil {
		r.lab.t.Errorf("the agent ended with %v", err)
	}
	r.ended <- nil
}

// soon returns what comes from a channel. Where nothing does it says what
// everybody waits for.
func soon[T any](t *testing.T, what string, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(3 * patience):
		stacks := make([]byte, 1<<20)
		t.Fatalf("never: %s\n%s", what, stacks[:runtime.Stack(stacks, true)])
	}
	return v
}

func (s *site) events() []event.Event {
	s.t.Helper()
	var all []event.Event
	for e, err := range journal.Read(s.dir.Path(state.DirEvents)) {
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// noGoroutinesLeft fails the test if code of the agent still runs.
func noGoroutinesLeft(t *testing.T) {
	t.Helper()
	var stacks string
	defer func() {
		if t.Failed() {
			t.Log(stacks)
		}
	}()
	eventually(t, "all goroutines of the agent have ended", func() bool {
		buf := make([]byte, 1<<20)
		stacks = string(buf[:runtime.Stack(buf, true)])
		for g := range strings.SplitSeq(stacks, "\n\n") {
			if strings.Contains(g, "interdict/internal/agent") && !strings.Contains(g, "testing.tRunner") && !strings.Contains(g, "net/http/httptest") {
				return false
			}
		}
		return true
	})
}
