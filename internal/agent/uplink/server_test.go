package uplink

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"interdict/internal/access"
	"interdict/internal/bundle"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/problem"
)

const (
	serverURL  = "https://interdict.example"
	testDevice = fleet.DeviceID("01J0000000000000000000TEST")
	testSecret = "the token's secret"
	pingEvery  = 15
	// deviceLife is how long a device's certificate is good for.
	deviceLife = 30 * 24 * time.Hour
)

// memoryListener is a network in memory, so that a whole server runs inside a
// synctest bubble.
type memoryListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newMemoryListener() *memoryListener {
	return &memoryListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

func (l *memoryListener) dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// authority is a certificate authority.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

func (a authority) issue(t *testing.T, public any, name string, life time.Duration, host string) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now(), NotAfter: time.Now().Add(life),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if host != "" {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// testServer is the server's side of the protocol, as small as a real one can
// be: real certificates, real signatures, real HTTP/2 over TLS.
type testServer struct {
	t         *testing.T
	ca        authority
	signing   ed25519.PrivateKey
	tlsConfig *tls.Config

	mu       sync.Mutex
	listener *memoryListener
	http     *http.Server
	sets     map[string]bundle.Set
	envelope func(have string) bundle.Envelope
	header   bundle.Header
	streams  []chan bundle.Message
	// What was asked of it.
	enrolments []bundle.EnrollRequest
	asked      []string
	applied    []fleet.Applied
	events     map[string][]byte
	uploads    []time.Time
	usage      map[string]bundle.UsageReport
	answers    []bundle.Answer
	requests   []access.Request
	serials    []string
	opened     []time.Time
	// How it misbehaves.
	mute        bool
	deleted     bool
	eventStatus int
	usageStatus int
	raw         []byte
}

func newTestServer(t *testing.T) *testServer {
	t.Helper()
	s := &testServer{t: t, ca: newAuthority(t), sets: make(map[string]bundle.Set), events: make(map[string][]byte), usage: make(map[string]bundle.UsageReport)}
	_, signing, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s.signing = signing
	s.tlsConfig = s.serverTLS(s.ca, "interdict.example")
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *testServer) serverTLS(by authority, host string) *tls.Config {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(s.ca.cert)
	return &tls.Config{
		Certificates: []tls.Certificate{{
			Certificate: [][]byte{by.issue(s.t, key.Public(), "server", 400*24*time.Hour, host), s.ca.cert.Raw}, PrivateKey: key,
		}},
		ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: clients,
		// A pipe has no buffer: a ticket would wait for a client that
		// waits to write.
		SessionTicketsDisabled: true,
	}
}

func (s *testServer) start() {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+bundle.PathEnroll, s.enroll)
	mux.HandleFunc("POST "+bundle.PathRenew, s.device(s.renew))
	mux.HandleFunc("GET "+bundle.PathStream, s.device(s.stream))
	mux.HandleFunc("GET "+bundle.PathBundle, s.device(s.bundle))
	mux.HandleFunc("POST "+bundle.PathApplied, s.device(s.takeApplied))
	mux.HandleFunc("POST "+bundle.PathEvents, s.device(s.takeEvents))
	mux.HandleFunc("POST "+bundle.PathUsage, s.device(s.takeUsage))
	mux.HandleFunc("POST "+bundle.PathAnswer, s.device(s.takeAnswer))
	mux.HandleFunc("POST "+bundle.PathRequests, s.device(s.takeRequest))
	mux.HandleFunc("GET "+bundle.PathRequests, s.device(s.listRequests))
	mux.HandleFunc("POST "+bundle.PathUnenroll, s.device(func(w http.ResponseWriter, _ *http.Request) {
		s.delete()
		w.WriteHeader(http.StatusNoContent)
	}))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener = newMemoryListener()
	s.http = &http.Server{
		Handler: mux, TLSConfig: s.tlsConfig.Clone(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	go func(srv *http.Server, l net.Listener) { _ = srv.ServeTLS(l, "", "") }(s.http, s.listener)
}

func (s *testServer) stop() {
	s.mu.Lock()
	srv := s.http
	for _, c := range s.streams {
		close(c)
	}
	s.streams = nil
	s.mu.Unlock()
	_ = srv.Close()
}

func (s *testServer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	s.mu.Lock()
	l := s.listener
	s.mu.Unlock()
	return l.dial(ctx)
}

// device lets only a device in.
func (s *testServer) device(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) == 0 || r.TLS.PeerCertificates[0].Subject.CommonName != string(testDevice) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		s.mu.Lock()
		deleted := s.deleted
		s.mu.Unlock()
		if deleted {
			problem.New(fault.New(fault.Unauthorized, "this device is not enrolled, or was deleted"), "r-2").Write(w)
			return
		}
		s.mu.Lock()
		s.serials = append(s.serials, r.TLS.PeerCertificates[0].SerialNumber.String())
		s.mu.Unlock()
		next(w, r)
	}
}

func (s *testServer) enroll(w http.ResponseWriter, r *http.Request) {
	var req bundle.EnrollRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil || req.Secret != testSecret {
		problem.New(fault.New(fault.Forbidden, "the token is not valid"), "r-1").Write(w)
		return
	}
	s.mu.Lock()
	s.enrolments = append(s.enrolments, req)
	s.mu.Unlock()
	public, ok := s.signing.Public().(ed25519.PublicKey)
	if !ok {
		s.t.Error("the signing key is not an Ed25519 key")
	}
	_ = json.NewEncoder(w).Encode(bundle.EnrollResponse{
		DeviceID: testDevice, Certificate: s.sign(req.CSR), CA: s.ca.cert.Raw, BundleKey: public,
	})
}

func (s *testServer) sign(csr []byte) []byte {
	req, err := x509.ParseCertificateRequest(csr)
	if err != nil || req.CheckSignature() != nil {
		s.t.Errorf("certificate request: %v", err)
		return nil
	}
	return s.ca.issue(s.t, req.PublicKey, string(testDevice), deviceLife, "")
}

func (s *testServer) renew(w http.ResponseWriter, r *http.Request) {
	var req bundle.RenewRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		s.t.Errorf("renew: %v", err)
	}
	_ = json.NewEncoder(w).Encode(bundle.RenewResponse{Certificate: s.sign(req.CSR)})
}

func (s *testServer) stream(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 2 {
		s.t.Errorf("the stream runs over HTTP/%d, want HTTP/2", r.ProtoMajor)
	}
	var facts bundle.Facts
	if err := json.Unmarshal([]byte(r.Header.Get(bundle.HeaderFacts)), &facts); err != nil || facts.AgentVersion != "test" {
		s.t.Errorf("the agent says of itself %+v (%v)", facts, err)
	}
	messages := make(chan bundle.Message, 8)
	s.mu.Lock()
	s.streams = append(s.streams, messages)
	s.opened = append(s.opened, time.Now())
	hello := bundle.Message{Type: bundle.MessageHello, Version: s.header.Version, PingSeconds: pingEvery, Now: time.Now()}
	s.mu.Unlock()
	out, flush := json.NewEncoder(w), http.NewResponseController(w)
	_ = out.Encode(hello)
	_ = flush.Flush()
	ping := time.NewTicker(pingEvery * time.Second)
	defer ping.Stop()
	for {
		m := bundle.Message{Type: bundle.MessagePing}
		select {
		case <-r.Context().Done():
			return
		case <-ping.C:
		case next, ok := <-messages:
			if !ok {
				return
			}
			m = next
		}
		s.mu.Lock()
		mute := s.mute
		s.mu.Unlock()
		if mute {
			continue
		}
		_ = out.Encode(m)
		_ = flush.Flush()
	}
}

func (s *testServer) bundle(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	have := r.URL.Query().Get("digest")
	s.asked = append(s.asked, r.URL.Query().Get("version"))
	switch {
	case s.raw != nil:
		_, _ = w.Write(s.raw)
	case s.envelope == nil, have != "" && have == s.header.Digest && r.URL.Query().Get("version") == strconv.FormatUint(s.header.Version, 10):
		w.WriteHeader(http.StatusNoContent)
	default:
		_ = json.NewEncoder(w).Encode(s.envelope(have))
	}
}

func (s *testServer) takeApplied(w http.ResponseWriter, r *http.Request) {
	var a fleet.Applied
	if err := json.NewDecoder(r.Body).Decode(&a); err != nil {
		s.t.Errorf("applied: %v", err)
	}
	s.mu.Lock()
	s.applied = append(s.applied, a)
	s.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (s *testServer) takeEvents(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.eventStatus != 0 {
		w.WriteHeader(s.eventStatus)
		return
	}
	s.uploads = append(s.uploads, time.Now())
	s.events[r.Header.Get(bundle.HeaderIdempotencyKey)] = body
	_ = json.NewEncoder(w).Encode(bundle.EventReceipt{Stored: 1})
}

func (s *testServer) takeUsage(w http.ResponseWriter, r *http.Request) {
	var report bundle.UsageReport
	if err := json.NewDecoder(r.Body).Decode(&report); err != nil {
		s.t.Errorf("usage: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.usageStatus != 0 {
		w.WriteHeader(s.usageStatus)
		return
	}
	s.usage[r.Header.Get(bundle.HeaderIdempotencyKey)] = report
	w.WriteHeader(http.StatusNoContent)
}

func (s *testServer) takeAnswer(w http.ResponseWriter, r *http.Request) {
	var a bundle.Answer
	if err := json.NewDecoder(r.Body).Decode(&a); err != nil {
		s.t.Errorf("answer: %v", err)
	}
	s.mu.Lock()
	s.answers = append(s.answers, a)
	s.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (s *testServer) takeRequest(w http.ResponseWriter, r *http.Request) {
	var made access.Request
	if err := json.NewDecoder(r.Body).Decode(&made); err != nil {
		s.t.Errorf("request: %v", err)
	}
	made.Device, made.State = testDevice, access.StatePending
	s.mu.Lock()
	s.requests = append(s.requests, made)
	s.mu.Unlock()
	_ = json.NewEncoder(w).Encode(made)
}

func (s *testServer) listRequests(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = json.NewEncoder(w).Encode(bundle.AccessRequests{Requests: s.requests})
}

// delete has the server forget the device and hang up.
func (s *testServer) delete() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleted = true
	for _, c := range s.streams {
		close(c)
	}
	s.streams = nil
}

// say sends a message on every open stream.
func (s *testServer) say(m bundle.MessageType) { s.tell(bundle.Message{Type: m}) }

func (s *testServer) tell(m bundle.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.streams {
		c <- m
	}
}

// setOf makes a set with the mode and n apps.
func setOf(t *testing.T, mode fleet.Mode, n int) bundle.Set {
	t.Helper()
	records := []bundle.Record{bundle.Setting(fleet.SettingNetworkProtection, string(mode), "policy-1")}
	for i := range n {
		records = append(records, bundle.App(fmt.Sprintf("app-%04d", i), fmt.Sprintf("App %d", i)))
	}
	set, err := bundle.NewSet(slices.Values(records))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// publish makes a set the newest, as a difference to what an agent has where
// this server knows that.
func (s *testServer) publish(version uint64, set bundle.Set) {
	s.publishAs(version, set, s.signing, nil)
}

func (s *testServer) publishAs(version uint64, set bundle.Set, key ed25519.PrivateKey, tamper func(*bundle.Envelope)) {
	s.t.Helper()
	h := bundle.Header{Audience: "a", Version: version, IssuedAt: time.Now(), NotAfter: time.Now().AddDate(1, 0, 0)}
	header, signature, err := bundle.SignHeader(key, h, set)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := json.Unmarshal(header, &h); err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.header = h
	s.sets[h.Digest] = set
	s.envelope = func(have string) bundle.Envelope {
		base, known := s.sets[have]
		if !known {
			have = ""
		}
		e, err := bundle.Seal(header, signature, have, bundle.Diff(base, set))
		if err != nil {
			s.t.Error(err)
		}
		if tamper != nil {
			tamper(&e)
		}
		return e
	}
}

// lastApplied is what the agent acknowledged last.
func (s *testServer) lastApplied() fleet.Applied {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.applied) == 0 {
		return fleet.Applied{}
	}
	return s.applied[len(s.applied)-1]
}

func (s *testServer) token() bundle.Token {
	return bundle.Token{URL: serverURL, CAFingerprint: bundle.Fingerprint(s.ca.cert.Raw), Secret: testSecret}
}
