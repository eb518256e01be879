package server_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/oklog/ulid/v2"

	"interdict/internal/bundle"
	"interdict/internal/event"
	"interdict/internal/fault"
	"interdict/internal/problem"
	"interdict/internal/server/servertest"
)

// agentRoutes are all but enrolment.
var agentRoutes = [][2]string{
	{http.MethodPost, bundle.PathRenew},
	{http.MethodGet, bundle.PathStream},
	{http.MethodGet, bundle.PathBundle},
	{http.MethodPost, bundle.PathApplied},
	{http.MethodPost, bundle.PathEvents},
	{http.MethodPost, bundle.PathUsage},
	{http.MethodPost, bundle.PathRequests},
	{http.MethodGet, bundle.PathRequests},
	{http.MethodPost, bundle.PathUnenroll},
	{http.MethodGet, bundle.PathPrefix + "/nothing"},
}

func TestNoAgentRouteAnswersWithoutADeviceCertificate(t *testing.T) {
	s := servertest.Start(t)
	gone := s.Enroll(t, "gone")
	if err := gone.Unenroll(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, caller := range []struct {
		name   string
		client *http.Client
	}{
		{"an administrator by the token", s.HTTP},
		{"a device that was deleted", gone.HTTP},
	} {
		t.Run(caller.name, func(t *testing.T) {
			for _, r := range agentRoutes {
				req, err := http.NewRequestWithContext(t.Context(), r[0], s.LocalURL()+r[1], strings.NewReader("{}"))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Authorization", "Bearer "+s.Token)
				resp, err := caller.client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				got := problem.Read(resp)
				resp.Body.Close()
				if got.Code != fault.Unauthorized && got.Code != fault.TooMany {
					t.Errorf("%s %s: got status %d, code %s; want unauthorized", r[0], r[1], resp.StatusCode, got.Code)
				}
			}
		})
	}
}

func TestACertificateOfAnotherAuthorityIsRefusedByTLS(t *testing.T) {
	s := servertest.Start(t)
	a := s.Enroll(t, "alice-pc")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: string(a.ID)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true,
		// Offered even though the server did not ask for its issuer.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
		},
	}}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.LocalURL()+bundle.PathBundle, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err == nil {
		resp.Body.Close()
		t.Fatalf("got status %d, want the handshake to fail", resp.StatusCode)
	}
}

func TestEnrolmentIsLimited(t *testing.T) {
	s := servertest.Start(t)
	var token struct{ Token string }
	s.Call(t, http.MethodPost, "/api/v1/tokens", map[string]any{"name": "one", "uses": 1}, &token)
	if _, err := servertest.Enroll(t.Context(), token.Token, "first"); err != nil {
		t.Fatal(err)
	}
	codes := map[fault.Code]int{}
	for i := range 12 {
		_, err := servertest.Enroll(t.Context(), token.Token, fmt.Sprintf("more-%d", i))
		codes[fault.CodeOf(err)]++
	}
	if codes[fault.Unauthorized] != 10 || codes[fault.TooMany] != 2 {
		t.Errorf("got %v, want 10 times unauthorized and 2 times too_many", codes)
	}
}

func TestADeviceRenewsItsCertificateAndLeaves(t *testing.T) {
	s := servertest.Start(t)
	a := s.Enroll(t, "alice-pc")
	before := a.Certificate.Certificate[0]
	if err := a.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(before, a.Certificate.Certificate[0]) {
		t.Error("the certificate is the old one")
	}
	cert, err := x509.ParseCertificate(a.Certificate.Certificate[0])
	if err != nil || cert.Subject.CommonName != string(a.ID) {
		t.Errorf("got a certificate for %v (%v), want the same device", cert.Subject, err)
	}
	if err := a.Unenroll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Apply(t.Context()); fault.CodeOf(err) != fault.Unauthorized {
		t.Errorf("got %v after leaving, want unauthorized", err)
	}
}

func TestABundleIsADifferenceOrNothing(t *testing.T) {
	s := servertest.Start(t)
	a := s.Enroll(t, "alice-pc")
	if _, err := a.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e, err := a.Fetch(t.Context()); err != nil || e != nil {
		t.Fatalf("got %v, %v when up to date; want nothing", e, err)
	}
	s.Call(t, http.MethodPut, "/api/v1/app-tags", map[string]any{"apps": []string{"itunes"}, "tag": "unsanctioned"}, &struct{}{})
	e, err := a.Fetch(t.Context())
	if err != nil || e == nil {
		t.Fatalf("got %v, %v after a change; want a bundle", e, err)
	}
	if e.Base != a.Have.Digest {
		t.Errorf("got a bundle with base %q, want the difference to %q", e.Base, a.Have.Digest)
	}
	have := a.Have
	a.Have.Version += 1000
	if _, err := a.Fetch(t.Context()); err == nil {
		t.Error("a server that is behind the agent should say so")
	}
	a.Have = have
	a.Have.Digest = strings.Repeat("0", 64)
	if e, err := a.Fetch(t.Context()); err != nil || e == nil || e.Base != "" {
		t.Errorf("got %+v, %v for an unknown digest; want the whole bundle", e, err)
	}
}

func TestHostileBatchesOfEvents(t *testing.T) {
	s := servertest.Start(t)
	a := s.Enroll(t, "alice-pc")
	now := time.Now().UTC()
	good, err := json.Marshal(event.Event{
		ID: ulid.Make().String(), Time: now, EventID: event.IDAudited, Action: event.ActionAudited, Count: 1, FirstSeen: now, LastSeen: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	line := string(good) + "\n"
	for _, tc := range []struct {
		name  string
		lines string
		want  bundle.EventReceipt
		code  fault.Code
	}{
		{"an event among lines that are none", "{}\nnot json\n" + line + "\n[]\n", bundle.EventReceipt{Stored: 1, Rejected: 3}, ""},
		{"nothing", "", bundle.EventReceipt{}, ""},
		{"a thousand times a thousand spaces", strings.Repeat(strings.Repeat(" ", 50_000)+"\n", 1000), bundle.EventReceipt{}, fault.Invalid},
		{"one endless line", strings.Repeat("x", 1<<20), bundle.EventReceipt{}, fault.Invalid},
		{"too many events", strings.Repeat("{}\n", bundle.MaxEventBatch+1), bundle.EventReceipt{}, fault.Invalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := a.SendRaw(t.Context(), ulid.Make().String(), []byte(tc.lines))
			if fault.CodeOf(err) != tc.code {
				t.Fatalf("got error %v, want code %q", err, tc.code)
			}
			if got.Stored != tc.want.Stored || got.Rejected != tc.want.Rejected || (got.Rejected > 0) != (got.Fault != "") {
				t.Errorf("got %+v, want %+v and a fault if any was rejected", got, tc.want)
			}
		})
	}
}

func TestADecompressionBombIsDefused(t *testing.T) {
	s := servertest.Start(t)
	a := s.Enroll(t, "alice-pc")
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	bomb := w.EncodeAll(make([]byte, 256<<20), nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.LocalURL()+bundle.PathEvents, bytes.NewReader(bomb))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Encoding", "zstd")
	req.Header.Set(bundle.HeaderIdempotencyKey, ulid.Make().String())
	resp, err := a.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := problem.Read(resp); got.Code != fault.Invalid {
		t.Errorf("got %v for %d bytes that become 256 MiB, want invalid", got, len(bomb))
	}
}
