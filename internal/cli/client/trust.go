package client

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"

	"interdict/internal/bundle"
)

// trustError says that a server is not the one it was pinned to be.
type trustError struct{ host, reason string }

func (e *trustError) Error() string {
	return fmt.Sprintf("the server at %s is not the one that was pinned: %s", e.host, e.reason)
}

// TokenPin returns the fingerprint of the server's certificate authority that
// a token carries after a dot; "" without one.
func TokenPin(token string) string {
	_, pin, ok := strings.Cut(token, ".")
	if b, err := hex.DecodeString(pin); !ok || err != nil || len(b) != 32 {
		return ""
	}
	return strings.ToLower(pin)
}

// pinAuthority makes conf trust exactly the server at host, a name or address,
// whose chain leads to the authority with the fingerprint. The server shows
// the authority itself in its chain, so the fingerprint is enough to know it
// by.
func pinAuthority(conf *tls.Config, host, fingerprint string) {
	// VerifyConnection below does the whole verification, against the one
	// authority that was pinned.
	conf.InsecureSkipVerify = true
	conf.VerifyConnection = func(cs tls.ConnectionState) error {
		return verifyPinned(cs.PeerCertificates, host, fingerprint)
	}
}

// verifyPinned takes the host from the caller, because a connection's state
// has no server name when the server was addressed by its address.
func verifyPinned(chain []*x509.Certificate, host, fingerprint string) error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	found := false
	for _, cert := range chain {
		if bundle.Fingerprint(cert.Raw) == fingerprint {
			roots.AddCert(cert)
			found = true
		} else {
			intermediates.AddCert(cert)
		}
	}
	if !found {
		return &trustError{host, "its certificate authority has another fingerprint"}
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, DNSName: host})
	return err
}
