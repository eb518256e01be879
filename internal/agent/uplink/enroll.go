package uplink

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"

	"interdict/internal/agent/state"
	"interdict/internal/bundle"
	"interdict/internal/fault"
)

// EnrollConfig is what enrolment needs.
type EnrollConfig struct {
	Token bundle.Token
	// Name is how the device is called on the server; empty leaves it to
	// the server.
	Name   string
	Labels map[string]string
	Facts  bundle.Facts
	// Dial opens connections; nil means the system's.
	Dial dialFunc
}

// errPin says that the server is not the one the token is for.
var errPin = errors.New("its certificate does not come from the authority that the token names")

// Enroll makes this machine a device of the token's server. The token's
// secret is sent only after the server has proved to belong to the
// certificate authority whose fingerprint the token carries.
func Enroll(ctx context.Context, cfg EnrollConfig) (state.Identity, error) {
	u, err := url.Parse(cfg.Token.URL)
	if err != nil {
		return state.Identity{}, fmt.Errorf("reading the server's address: %w", err)
	}
	c := newClient(cfg.Token.URL, pinned(cfg.Token.CAFingerprint, u.Hostname()), cfg.Dial)
	defer c.close()

	key, csr, err := newKey()
	if err != nil {
		return state.Identity{}, err
	}
	var resp bundle.EnrollResponse
	req := bundle.EnrollRequest{Secret: cfg.Token.Secret, CSR: csr, Name: cfg.Name, Labels: cfg.Labels, Facts: cfg.Facts}
	if err := c.exchange(ctx, bundle.PathEnroll, req, &resp); err != nil {
		if errors.Is(err, errPin) {
			return state.Identity{}, fault.New(fault.Forbidden, "the server at %s is not the one the token is for: %v", cfg.Token.URL, errPin).
				WithHint("ask for a new token, and whether something on the way intercepts TLS").Because(err)
		}
		return state.Identity{}, err
	}
	return identity(cfg.Token, key, resp)
}

// identity checks what the server gave against the token and the key.
func identity(t bundle.Token, key *ecdsa.PrivateKey, resp bundle.EnrollResponse) (state.Identity, error) {
	if bundle.Fingerprint(resp.CA) != t.CAFingerprint {
		return state.Identity{}, errors.New("enrolling: the server gave another certificate authority than the token names")
	}
	ca, err := x509.ParseCertificate(resp.CA)
	if err != nil {
		return state.Identity{}, fmt.Errorf("reading the certificate authority: %w", err)
	}
	if len(resp.BundleKey) != ed25519.PublicKeySize {
		return state.Identity{}, fmt.Errorf("enrolling: the server's bundle key has %d bytes, want %d", len(resp.BundleKey), ed25519.PublicKeySize)
	}
	cert, err := certificate(key, resp.Certificate)
	if err != nil {
		return state.Identity{}, err
	}
	if cert.Leaf.Subject.CommonName != string(resp.DeviceID) {
		return state.Identity{}, fmt.Errorf("enrolling: the certificate is for %q, the device is %q", cert.Leaf.Subject.CommonName, resp.DeviceID)
	}
	return state.Identity{
		DeviceID: resp.DeviceID, ServerURL: t.URL, BundleKey: resp.BundleKey, CA: ca, Certificate: cert,
	}, nil
}

// newKey makes a key and a request for its certificate. The subject is
// empty: the server ignores it.
func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making the device's key: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("making a certificate request: %w", err)
	}
	return key, csr, nil
}

// certificate joins a certificate to the key it must be for.
func certificate(key *ecdsa.PrivateKey, der []byte) (tls.Certificate, error) {
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("reading the device's certificate: %w", err)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return tls.Certificate{}, errors.New("reading the device's certificate: it is for another key")
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// pinned accepts a server whose chain holds the certificate authority with
// this fingerprint, and whose certificate that authority signed for this
// host. The fingerprint alone is not enough: anybody can send a copy of a
// certificate along.
func pinned(fingerprint, host string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection does all of it, from the pinned authority
		VerifyConnection: func(cs tls.ConnectionState) error {
			opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), DNSName: host}
			found := false
			for _, cert := range cs.PeerCertificates {
				if bundle.Fingerprint(cert.Raw) == fingerprint {
					opts.Roots.AddCert(cert)
					found = true
				} else {
					opts.Intermediates.AddCert(cert)
				}
			}
			if !found {
				return errPin
			}
			if _, err := cs.PeerCertificates[0].Verify(opts); err != nil {
				return fmt.Errorf("%w: %w", errPin, err)
			}
			return nil
		},
	}
}

// Unenroll has the server delete a device whose agent does not run. It is no
// error if the server has done that before.
func Unenroll(ctx context.Context, id state.Identity) error {
	c := newClient(id.ServerURL, mutual(id, func() *tls.Certificate { return &id.Certificate }), nil)
	defer c.close()
	return c.unenroll(ctx, id.Certificate.Leaf)
}

// mutual proves the device by the certificate that current returns and
// accepts the server that the device's certificate authority vouches for.
func mutual(id state.Identity, current func() *tls.Certificate) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(id.CA)
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    roots,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return current(), nil
		},
	}
}
