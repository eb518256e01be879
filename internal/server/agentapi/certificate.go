package agentapi

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"time"

	"interdict/internal/bundle"
	"interdict/internal/fault"
)

// RenewalGrace is how long after its certificate expired a device can still
// get a new one with it: a machine that was switched off for months comes back
// by itself. Nothing else can be done with an expired certificate, and a
// device that was deleted gets none.
const RenewalGrace = 365 * 24 * time.Hour

// VerifyClient returns what the TLS listener has to call for every connection
// (tls.Config.VerifyConnection, with tls.RequestClientCert): it lets clients
// through that show no certificate, or a device's, which may have expired no
// longer than RenewalGrace ago. The API relies on it.
func VerifyClient(authority *x509.Certificate, now func() time.Time) func(tls.ConnectionState) error {
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	return func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return nil
		}
		device := cs.PeerCertificates[0]
		at := now()
		if at.After(device.NotAfter) && at.Before(device.NotAfter.Add(RenewalGrace)) {
			at = device.NotAfter
		}
		_, err := device.Verify(x509.VerifyOptions{
			Roots: roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		return err
	}
}

// deviceCertificate returns the certificate that a request was made with.
func deviceCertificate(r *http.Request, now time.Time) (*x509.Certificate, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, fault.New(fault.Unauthorized, "a device certificate is needed").
			WithHint("type 'interdict-agent enroll TOKEN' on the device")
	}
	cert := r.TLS.PeerCertificates[0]
	if now.After(cert.NotAfter) && r.URL.Path != bundle.PathRenew {
		return nil, fault.New(fault.Unauthorized, "the device certificate expired at %s", cert.NotAfter.Format(time.RFC3339)).
			WithHint("renew it at %s", bundle.PathRenew)
	}
	return cert, nil
}
