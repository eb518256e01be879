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
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/agent/health"
	"interdict/internal/agent/journal"
	"interdict/internal/agent/state"
	"interdict/internal/bundle"
	"interdict/internal/event"
	"interdict/internal/fault"
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

func TestWithoutANetworkTheLastGoodBundleIsInForce(t *testing.T) {
	s := newSite(t)
	s.close()
	b := bundleOf(t, 7, fleet.ModeBlock, fleet.FailOpen, block("203.0.113.9", time.Time{}))
	if err := s.dir.SaveBundle(s.seal(b), b.Set); err != nil {
		t.Fatal(err)
	}
	r := s.run()
	if len(r.lab.told()) != 1 || len(r.lab.told()[0].Refused) != 1 {
		t.Fatalf("when the agent was ready the kernel had been told %+v", r.lab.told())
	}
	if got, want := r.lab.told()[0].Exempt, netip.MustParseAddrPort(strings.TrimPrefix(s.server.URL, "https://")); !slices.Equal(got, []netip.AddrPort{want}) {
		t.Errorf("exempt is %v, want the server, %s", got, want)
	}
	eventually(t, "the server is said to be unreachable", func() bool {
		status, err := r.Status(t.Context())
		return err == nil && status.Enforcing && status.Mode == fleet.ModeBlock && status.Uplink.Version == 7 &&
			slices.ContainsFunc(status.Health, func(i health.Item) bool { return i.Code == health.ServerUnreachable })
	})
	if _, err := r.Sync(t.Context()); fault.CodeOf(err) != fault.Unreachable {
		t.Errorf("sync says %v, want that the server is unreachable", err)
	}
	r.end()
	if slices.Contains(r.lab.taken(), "clean up") {
		t.Error("an orderly end removed the kernel's rules")
	}
	noGoroutinesLeft(t)
}

func TestSyncReturnsWhenTheKernelHasTheRules(t *testing.T) {
	s := newSite(t)
	r := s.run()
	s.publish(bundleOf(t, 1, fleet.ModeAudit, fleet.FailOpen))
	status, err := r.Sync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if status.Mode != fleet.ModeAudit || status.PolicyID != "policy-1" || !status.Uplink.Acknowledged || s.lastAcked() != 1 {
		t.Errorf("got %+v, acknowledged %d; want audit mode of bundle 1, acknowledged", status, s.lastAcked())
	}
	if len(r.lab.told()) == 0 || !r.lab.told()[len(r.lab.told())-1].Inspect {
		t.Errorf("the kernel was told %+v", r.lab.told())
	}
	got := s.events()
	if len(got) != 1 || got[0].EventID != event.IDConfigChanged || got[0].Device != "device-1" {
		t.Fatalf("got events %+v, want one 5007", got)
	}
	want := &event.Change{Setting: "network_protection", Old: "disabled", New: "audit", Channel: "server"}
	if diff := cmp.Diff(want, got[0].Change); diff != "" {
		t.Errorf("change (-want +got):\n%s", diff)
	}
}

func TestADamagedBundleAtStartIsReportedAndReplaced(t *testing.T) {
	s := newSite(t)
	b := bundleOf(t, 2, fleet.ModeBlock, fleet.FailOpen)
	s.publish(b)
	if err := os.WriteFile(s.dir.Path("bundle.json"), []byte(`{"header":"bm90aGluZw==","signature":"","body":""}`), 0o600); err != nil {
		t.Fatal(err)
	}
	r := s.run()
	eventually(t, "the server's bundle is in force", func() bool { return s.lastAcked() == 2 })
	if got := s.events(); len(got) == 0 || got[0].EventID != event.IDBundleRefused {
		t.Errorf("got events %+v, want 5900 first", got)
	}
	status, err := r.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(status.Health, func(i health.Item) bool { return i.Code == health.BundleDamaged }) {
		t.Errorf("still said to be damaged: %+v", status.Health)
	}
}

func TestExplainSaysWhatDecidesAndWhy(t *testing.T) {
	s := newSite(t)
	s.publish(bundleOf(t, 3, fleet.ModeBlock, fleet.FailOpen, block("203.0.113.9", time.Time{})))
	r := s.run()
	if _, err := r.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := r.Explain(t.Context(), bundle.Question{IP: netip.MustParseAddr("203.0.113.9")})
	if err != nil {
		t.Fatal(err)
	}
	want := Explanation{
		Schema: 2, IP: netip.MustParseAddr("203.0.113.9"), App: "Tunes", PolicyID: "policy-1", Refused: true,
		Answer: bundle.Answer{
			Version: 3, Enforcing: true, Listening: true, Action: "block", Step: "address", AppID: "tunes", Mode: fleet.ModeBlock,
			Indicator: "203.0.113.9", IndicatorID: "ind-203.0.113.9", Settings: got.Settings,
		},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("explanation (-want +got):\n%s", diff)
	}
	if len(got.Settings) != len(fleet.Definitions()) {
		t.Errorf("%d settings are told, want all %d", len(got.Settings), len(fleet.Definitions()))
	}
	if got, err = r.Explain(t.Context(), bundle.Question{Host: "other.example"}); err != nil || got.Refused || got.Step != "none" {
		t.Errorf("got %+v, %v for a name that no indicator is for", got, err)
	}
	if got, err = r.Explain(t.Context(), bundle.Question{Host: "other.example", User: "no such user"}); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("got %+v, %v for a user that there is not", got, err)
	}
}

func TestTheServerIsToldOfARescue(t *testing.T) {
	s := newSite(t)
	s.publish(bundleOf(t, 2, fleet.ModeBlock, fleet.FailOpen))
	r := s.run()
	if _, err := r.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := func() fleet.Applied {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.acked[len(s.acked)-1]
	}
	if err := r.Rescue(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server knows that nothing is enforced", func() bool { return last().Error != "" && last().Digest == "" })
	if _, err := r.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := last(); got.Version != 2 || got.Mode != fleet.ModeBlock || got.Error != "" {
		t.Errorf("after sync the server was told %+v, want bundle 2 in force", got)
	}
}

func TestRulesThatSomebodyElseRemovedAreReported(t *testing.T) {
	s := newSite(t)
	s.publish(bundleOf(t, 1, fleet.ModeBlock, fleet.FailOpen))
	disturb := make(chan error)
	r := s.runWith(func(p *Platform) {
		p.Watch = func(ctx context.Context, restored func(error)) error {
			for {
				select {
				case <-ctx.Done():
					return nil
				case err := <-disturb:
					restored(err)
				}
			}
		}
	})
	restored := func() (n int) {
		for _, e := range s.events() {
			if e.EventID == event.IDGuardRestored {
				n++
			}
		}
		return n
	}
	disturbed := func() bool {
		status, err := r.Status(t.Context())
		return err == nil && slices.ContainsFunc(status.Health, func(i health.Item) bool { return i.Code == health.RulesDisturbed })
	}
	disturb <- errors.New("the kernel says no")
	eventually(t, "a health item says that the rules are not back", disturbed)
	disturb <- nil
	eventually(t, "both are recorded and the item is gone", func() bool { return restored() == 2 && !disturbed() })
}

func TestOneAgentToADirectory(t *testing.T) {
	s := newSite(t)
	s.run()
	err := Run(t.Context(), Config{Dir: s.dir, Platform: (&lab{t: t}).platform(), Log: slog.New(slog.DiscardHandler)})
	if fault.CodeOf(err) != fault.Conflict {
		t.Errorf("a second agent got %v, want a conflict", err)
	}
}

func TestWithoutAnAgentTheClientSaysHowToStartOne(t *testing.T) {
	dir, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewClient(dir).Status(t.Context())
	var f *fault.Error
	if !errors.As(err, &f) || f.Code != fault.Unreachable || !strings.Contains(f.Hint, "interdict-agent run") {
		t.Errorf("got %v, want unreachable with a hint", err)
	}
}

// elapse lets time pass, in a synctest bubble.
func elapse(d time.Duration) { <-time.After(d) }
