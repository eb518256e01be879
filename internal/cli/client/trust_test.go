package client

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"interdict/internal/bundle"
)

func TestTokenPin(t *testing.T) {
	pin := strings.Repeat("0123456789abcdef", 4)
	for _, tc := range []struct{ name, token, want string }{
		{"a token with a fingerprint", "ida1_x." + pin, pin},
		{"upper case", "ida1_x." + strings.ToUpper(pin), pin},
		{"a token without one", "ida1_x", ""},
		{"a fingerprint that is cut off", "ida1_x." + pin[:10], ""},
		{"something else after the dot", "ida1_x.y", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := TokenPin(tc.token); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestAPinnedServerMustHaveTheAuthorityAndTheName(t *testing.T) {
	now := time.Now()
	ca, caKey := issue(t, nil, nil, &x509.Certificate{Subject: pkix.Name{CommonName: "CA"}, NotAfter: now.Add(time.Hour)})
	other, _ := issue(t, nil, nil, &x509.Certificate{Subject: pkix.Name{CommonName: "CA"}, NotAfter: now.Add(time.Hour)})
	leaf, _ := issue(t, ca, caKey, &x509.Certificate{
		NotAfter: now.Add(time.Hour), DNSNames: []string{"a.example"}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	device, _ := issue(t, ca, caKey, &x509.Certificate{
		NotAfter: now.Add(time.Hour), DNSNames: []string{"a.example"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	pin := bundle.Fingerprint(ca.Raw)
	for _, tc := range []struct {
		name, host, pin string
		chain           []*x509.Certificate
		ok              bool
	}{
		{"the right name", "a.example", pin, []*x509.Certificate{leaf, ca}, true},
		{"the right address", "192.0.2.1", pin, []*x509.Certificate{leaf, ca}, true},
		{"another name", "b.example", pin, []*x509.Certificate{leaf, ca}, false},
		{"another address", "192.0.2.2", pin, []*x509.Certificate{leaf, ca}, false},
		{"another fingerprint", "a.example", bundle.Fingerprint(other.Raw), []*x509.Certificate{leaf, ca}, false},
		{"the authority is not shown", "a.example", pin, []*x509.Certificate{leaf}, false},
		{"the authority is shown, but signed something else", "a.example", bundle.Fingerprint(other.Raw), []*x509.Certificate{leaf, ca, other}, false},
		{"a device's certificate", "a.example", pin, []*x509.Certificate{device, ca}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := verifyPinned(tc.chain, tc.host, tc.pin); (err == nil) != tc.ok {
				t.Errorf("got %v, want trusted %v", err, tc.ok)
			}
		})
	}
}

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
