package ca_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"testing"
	"time"

	"interdict/internal/control/ca"
	"interdict/internal/fault"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func authority(t *testing.T) *ca.Authority {
	t.Helper()
	text, err := ca.Create(noon)
	if err != nil {
		t.Fatal(err)
	}
	a, err := ca.Load(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func request(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "root"}, DNSNames: []string{"server.example"},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func newKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func verify(a *ca.Authority, c *x509.Certificate, name string, usage x509.ExtKeyUsage, at time.Time) error {
	roots := x509.NewCertPool()
	roots.AddCert(a.Certificate())
	_, err := c.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage}})
	return err
}

func TestADeviceGetsNothingButItsKeyFromTheRequest(t *testing.T) {
	a := authority(t)
	parsed, err := ca.ParseRequest(request(t, newKey(t, elliptic.P256())))
	if err != nil {
		t.Fatal(err)
	}
	der, err := a.SignDevice(parsed, "01JNXC8V7Y0000000000000000", noon)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if c.Subject.CommonName != "01JNXC8V7Y0000000000000000" || len(c.DNSNames) > 0 || c.IsCA {
		t.Errorf("the certificate is for %s, %v, CA %v", c.Subject, c.DNSNames, c.IsCA)
	}
	if err := verify(a, c, "", x509.ExtKeyUsageClientAuth, noon.Add(29*24*time.Hour)); err != nil {
		t.Errorf("as a client: %v", err)
	}
	if verify(a, c, "", x509.ExtKeyUsageClientAuth, noon.Add(31*24*time.Hour)) == nil {
		t.Error("it is valid after 31 days")
	}
	if verify(a, c, "", x509.ExtKeyUsageServerAuth, noon) == nil {
		t.Error("a device can pose as a server")
	}
	if verify(authority(t), c, "", x509.ExtKeyUsageClientAuth, noon) == nil {
		t.Error("another authority vouches for it")
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	damaged := request(t, newKey(t, elliptic.P256()))
	damaged[len(damaged)-1] ^= 1
	for name, der := range map[string][]byte{
		"nothing": nil, "garbage": []byte("garbage"), "a broken signature": damaged,
		"another curve": request(t, newKey(t, elliptic.P384())), "another algorithm": request(t, ed),
	} {
		if _, err := ca.ParseRequest(der); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%s: got %v, want an invalid fault", name, err)
		}
	}
}

func TestServerCertificatesAreKeptAndRenewedInTime(t *testing.T) {
	a := authority(t)
	s := ca.NewServers(a)
	hosts := []string{"server.example", "192.0.2.1", "::ffff:192.0.2.2", "2001:db8::1"}
	first, err := s.Certificate(hosts, noon)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []string{"server.example", "192.0.2.1", "192.0.2.2", "2001:db8::1"} {
		if err := verify(a, first.Leaf, h, x509.ExtKeyUsageServerAuth, noon); err != nil {
			t.Errorf("as %s: %v", h, err)
		}
	}
	if len(first.Certificate) != 2 {
		t.Error("the chain lacks the authority, so its fingerprint cannot be checked")
	}
	for _, test := range []struct {
		name  string
		hosts []string
		now   time.Time
		kept  bool
	}{
		{"soon after", hosts, noon.Add(time.Hour), true},
		{"other names", hosts[:1], noon.Add(time.Hour), false},
		{"other names again", hosts[:1], noon.Add(2 * time.Hour), true},
		{"with less than a third of its time left", hosts[:1], noon.Add(ca.ServerLifetime*2/3 + 2*time.Hour), false},
	} {
		next, err := s.Certificate(test.hosts, test.now)
		if err != nil {
			t.Fatal(err)
		}
		if kept := next.Leaf.Equal(first.Leaf); kept != test.kept {
			t.Errorf("%s: kept is %v", test.name, kept)
		}
		first = next
	}
}

func TestLoadRefusesWhatIsNoAuthority(t *testing.T) {
	one, err := ca.Create(noon)
	if err != nil {
		t.Fatal(err)
	}
	two, err := ca.Create(noon)
	if err != nil {
		t.Fatal(err)
	}
	certificate, _ := pem.Decode(one)
	_, rest := pem.Decode(two)
	for name, text := range map[string][]byte{
		"nothing": nil, "a certificate without its key": pem.EncodeToMemory(certificate),
		"the key of another": append(pem.EncodeToMemory(certificate), rest...),
	} {
		if _, err := ca.Load(text); err == nil {
			t.Errorf("%s: was loaded", name)
		}
	}
}
