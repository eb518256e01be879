// Package servertest is for tests and measurements: it starts a real server on
// a free port and a temporary directory, and talks to it as a plain agent does
// that enforces nothing.
package servertest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"

	"interdict/internal/bundle"
	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/problem"
)

// Agent is a device that enforces nothing. It is for one goroutine at a time,
// apart from the methods that say otherwise.
type Agent struct {
	ID fleet.DeviceID
	// Have is the bundle that it pretends to enforce.
	Have bundle.Current
	// Certificate is the device's.
	Certificate tls.Certificate
	// Judge says what it makes of a destination that the server asks about
	// during Run; nil does not answer.
	Judge func(bundle.Question) bundle.Answer

	base string
	key  ed25519.PublicKey
	// HTTP has the device's certificate and trusts the server's authority.
	HTTP *http.Client
}

// Enroll makes a machine called name a device, as the agent does: it knows
// nothing but the token.
func Enroll(ctx context.Context, token, name string) (*Agent, error) {
	t, err := bundle.ParseToken(token)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	a := &Agent{base: t.URL, HTTP: pinned(t.URL, t.CAFingerprint)}
	defer a.HTTP.CloseIdleConnections()
	var out bundle.EnrollResponse
	err = a.post(ctx, bundle.PathEnroll, bundle.EnrollRequest{
		Secret: t.Secret, CSR: csr, Name: name, Facts: bundle.Facts{Hostname: name, OS: "linux", AgentVersion: "test"},
	}, &out)
	if err != nil {
		return nil, err
	}
	ca, err := x509.ParseCertificate(out.CA)
	if err != nil {
		return nil, err
	}
	if got := bundle.Fingerprint(ca.Raw); got != t.CAFingerprint {
		return nil, fmt.Errorf("the authority has the fingerprint %s, the token says %s", got, t.CAFingerprint)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	a.ID, a.key = out.DeviceID, out.BundleKey
	a.Certificate = tls.Certificate{Certificate: [][]byte{out.Certificate}, PrivateKey: key}
	a.HTTP.CloseIdleConnections()
	a.HTTP = &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{a.Certificate},
	}}}
	return a, nil
}

// pinned returns a client that knows the server at base by its authority's
// fingerprint only.
func pinned(base, fingerprint string) *http.Client {
	host := ""
	if u, err := url.Parse(base); err == nil {
		host = u.Hostname()
	}
	return &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS12,
		// VerifyConnection does the whole verification.
		InsecureSkipVerify: true, //nolint:gosec // see above
		VerifyConnection: func(cs tls.ConnectionState) error {
			roots := x509.NewCertPool()
			for _, c := range cs.PeerCertificates {
				if bundle.Fingerprint(c.Raw) == fingerprint {
					roots.AddCert(c)
				}
			}
			_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: host})
			return err
		},
	}}}
}

// Stream connects and calls handle for every message until ctx ends, the
// server ends the stream (then it returns io.EOF), or handle returns an error.
func (a *Agent) Stream(ctx context.Context, handle func(bundle.Message) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+bundle.PathStream, http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set(bundle.HeaderFacts, `{"hostname":"connected","os":"linux","agent_version":"test-2"}`)
	resp, err := a.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return problem.Read(resp)
	}
	sc := bufio.NewScanner(resp.Body)
	for sc.Scan() {
		var m bundle.Message
		if err := json.Unmarshal(sc.Bytes(), &m); err != nil {
			return fmt.Errorf("reading the message %q: %w", sc.Bytes(), err)
		}
		if err := handle(m); err != nil {
			return err
		}
	}
	if sc.Err() != nil {
		return sc.Err()
	}
	return io.EOF
}

// Run stays connected and applies whatever it is told to until ctx ends. It
// calls applied, unless nil, after every bundle that it has acknowledged.
func (a *Agent) Run(ctx context.Context, applied func(bundle.Header, bundle.Set)) error {
	return a.Stream(ctx, func(m bundle.Message) error {
		switch m.Type {
		case bundle.MessagePing:
			return nil
		case bundle.MessageAsk:
			return a.answer(ctx, m.Question)
		case bundle.MessageHello, bundle.MessageNudge, bundle.MessageSync, bundle.MessageRequests:
		}
		if m.Type != bundle.MessageSync && m.Digest == a.Have.Digest {
			return nil
		}
		h, err := a.Apply(ctx)
		if err == nil && applied != nil {
			applied(h, a.Have.Set)
		}
		return err
	})
}

func (a *Agent) answer(ctx context.Context, q *bundle.Question) error {
	if a.Judge == nil || q == nil {
		return nil
	}
	answer := a.Judge(*q)
	answer.ID = q.ID
	return a.post(ctx, bundle.PathAnswer, answer, nil)
}

// Apply fetches what is newer, verifies it and acknowledges what is in force.
func (a *Agent) Apply(ctx context.Context) (bundle.Header, error) {
	e, err := a.Fetch(ctx)
	if err != nil {
		return bundle.Header{}, err
	}
	var h bundle.Header
	if e != nil {
		var set bundle.Set
		if h, set, err = e.Open(a.key, a.Have, time.Now()); err != nil {
			return h, err
		}
		a.Have = bundle.Current{Version: h.Version, Digest: h.Digest, Set: set}
	}
	return h, a.post(ctx, bundle.PathApplied, fleet.Applied{
		Version: a.Have.Version, Digest: a.Have.Digest, At: time.Now(), Mode: a.Mode(),
	}, nil)
}

// Mode is the network protection mode of the bundle in force.
func (a *Agent) Mode() fleet.Mode {
	for _, r := range a.Have.Set.All() {
		if r.Err == nil && r.Kind == bundle.KindSetting && r.Key == fleet.SettingNetworkProtection {
			return fleet.Mode(r.Value)
		}
	}
	return fleet.Defaults().NetworkProtection
}

// Fetch asks for what is newer than what is in force; nil if there is nothing.
func (a *Agent) Fetch(ctx context.Context) (*bundle.Envelope, error) {
	q := url.Values{}
	if a.Have.Digest != "" {
		q.Set("version", strconv.FormatUint(a.Have.Version, 10))
		q.Set("digest", a.Have.Digest)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+bundle.PathBundle+"?"+q.Encode(), http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := a.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return nil, nil //nolint:nilnil // nothing newer is a value
	}
	if resp.StatusCode != http.StatusOK {
		return nil, problem.Read(resp)
	}
	var e bundle.Envelope
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
		return nil, fmt.Errorf("reading the bundle: %w", err)
	}
	return &e, nil
}

// Send uploads a batch of events under a key. It may be called while Run is
// running.
func (a *Agent) Send(ctx context.Context, key string, events ...event.Event) (bundle.EventReceipt, error) {
	var lines bytes.Buffer
	enc := json.NewEncoder(&lines)
	for i := range events {
		if err := enc.Encode(&events[i]); err != nil {
			return bundle.EventReceipt{}, err
		}
	}
	return a.SendRaw(ctx, key, lines.Bytes())
}

// SendRaw uploads lines that need not be events.
func (a *Agent) SendRaw(ctx context.Context, key string, lines []byte) (bundle.EventReceipt, error) {
	var out bundle.EventReceipt
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return out, err
	}
	body := w.EncodeAll(lines, nil)
	if err = w.Close(); err != nil {
		return out, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.base+bundle.PathEvents, bytes.NewReader(body))
	if err != nil {
		return out, err
	}
	req.Header.Set("Content-Encoding", "zstd")
	req.Header.Set(bundle.HeaderIdempotencyKey, key)
	return out, a.do(req, &out)
}

// Renew gets a new certificate for the same key.
func (a *Agent) Renew(ctx context.Context) error {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, a.Certificate.PrivateKey)
	if err != nil {
		return err
	}
	var out bundle.RenewResponse
	if err := a.post(ctx, bundle.PathRenew, bundle.RenewRequest{CSR: csr}, &out); err != nil {
		return err
	}
	a.Certificate.Certificate = [][]byte{out.Certificate}
	return nil
}

// Unenroll deletes the device.
func (a *Agent) Unenroll(ctx context.Context) error {
	return a.post(ctx, bundle.PathUnenroll, nil, nil)
}

// Close closes the agent's connections.
func (a *Agent) Close() { a.HTTP.CloseIdleConnections() }

func (a *Agent) post(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	return a.do(req, out)
}

func (a *Agent) do(req *http.Request, out any) error {
	resp, err := a.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusMultipleChoices {
		return problem.Read(resp)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(out)
}
