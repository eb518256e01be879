package agentapi

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"interdict/internal/bundle"
	"interdict/internal/fault"
)

// issue makes a certificate, signed by parent or, if that is nil, by itself.
func issue(t *testing.T, parent *x509.Certificate, parentKey *ecdsa.PrivateKey, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(1)
	if parent == nil {
		parent, parentKey = template, key
		template.IsCA, template.BasicConstraintsValid = true, true
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func TestWhichCertificatesMayDoWhat(t *testing.T) {
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	validity := func(from, to time.Duration) *x509.Certificate {
		return &x509.Certificate{
			NotBefore: now.Add(from), NotAfter: now.Add(to), Subject: pkix.Name{CommonName: "device"},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
	}
	ca, caKey := issue(t, nil, nil, validity(-1000*day, 1000*day))
	other, otherKey := issue(t, nil, nil, validity(-1000*day, 1000*day))
	server := validity(-day, day)
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, tc := range []struct {
		name            string
		template        *x509.Certificate
		authority       *x509.Certificate
		key             *ecdsa.PrivateKey
		connect         bool
		applied, renews bool
	}{
		{"a valid one", validity(-day, day), ca, caKey, true, true, true},
		{"one that expired a month ago", validity(-60*day, -30*day), ca, caKey, true, false, true},
		{"one that expired two years ago", validity(-900*day, -730*day), ca, caKey, false, false, false},
		{"one that is not valid yet", validity(day, 2*day), ca, caKey, false, false, false},
		{"one of another authority", validity(-day, day), other, otherKey, false, false, false},
		{"an expired one of another authority", validity(-60*day, -30*day), other, otherKey, false, false, false},
		{"the server's own", server, ca, caKey, false, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cert, _ := issue(t, tc.authority, tc.key, tc.template)
			state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
			err := VerifyClient(ca, func() time.Time { return now })(state)
			if (err == nil) != tc.connect {
				t.Fatalf("got %v, want to connect: %v", err, tc.connect)
			}
			if !tc.connect {
				return
			}
			for path, want := range map[string]bool{bundle.PathApplied: tc.applied, bundle.PathRenew: tc.renews} {
				r := httptest.NewRequest(http.MethodPost, path, nil)
				r.TLS = &state
				if _, err := deviceCertificate(r, now); (err == nil) != want || err != nil && fault.CodeOf(err) != fault.Unauthorized {
					t.Errorf("%s: got %v, want allowed %v", path, err, want)
				}
			}
		})
	}
	t.Run("none at all", func(t *testing.T) {
		if err := VerifyClient(ca, time.Now)(tls.ConnectionState{}); err != nil {
			t.Errorf("got %v, want to connect", err)
		}
		r := httptest.NewRequest(http.MethodPost, bundle.PathRenew, nil)
		if _, err := deviceCertificate(r, now); fault.CodeOf(err) != fault.Unauthorized {
			t.Errorf("got %v, want unauthorized", err)
		}
	})
}
