package uplink

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"interdict/internal/agent/health"
	"interdict/internal/bundle"
)

// maxRenewWait bounds a sleep until renewal, so that a clock which was put
// right, or a machine which slept, is noticed.
const maxRenewWait = time.Hour

// renewCertificate renews the device's certificate at two thirds of its life,
// again and again, until ctx ends. One that has expired is still renewed if
// the server lets us.
func (u *Uplink) renewCertificate(ctx context.Context) {
	var retry backoff
	for {
		leaf := u.cert.Load().Leaf
		now := time.Now()
		if now.After(leaf.NotAfter) {
			u.cfg.Health.Raise(health.CertificateExpired, "the device's certificate ended on %s; if it cannot be renewed, enrol again",
				leaf.NotAfter.Format(time.RFC3339))
		}
		wait := min(renewAt(leaf).Sub(now), maxRenewWait)
		if wait <= 0 {
			if err := u.renew(ctx); err != nil {
				u.cfg.Log.WarnContext(ctx, "renewing the certificate", "error", err)
				// There are days left to try in; hammering helps nobody.
				wait = 10 * retry.next()
			} else {
				retry.reset()
				u.cfg.Health.Clear(health.CertificateExpired)
				wait = time.Minute
			}
		}
		if !pause(ctx, wait, nil) {
			return
		}
	}
}

func renewAt(leaf *x509.Certificate) time.Time {
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) * 2 / 3)
}

func (u *Uplink) renew(ctx context.Context) error {
	key, csr, err := newKey()
	if err != nil {
		return err
	}
	var resp bundle.RenewResponse
	if err = u.client.exchange(ctx, bundle.PathRenew, bundle.RenewRequest{CSR: csr}, &resp); err != nil {
		return err
	}
	cert, err := certificate(key, resp.Certificate)
	if err != nil {
		return err
	}
	if cert.Leaf.Subject.CommonName != string(u.cfg.Identity.DeviceID) {
		return fmt.Errorf("renewing the certificate: it is for %q, the device is %q", cert.Leaf.Subject.CommonName, u.cfg.Identity.DeviceID)
	}
	if err := u.cfg.Dir.SaveCertificate(cert); err != nil {
		return err
	}
	u.cert.Store(&cert)
	u.update(func(s *Status) { s.CertificateEnds = cert.Leaf.NotAfter })
	u.client.reconnect()
	u.mu.Lock()
	hangUp := u.hangUp
	u.mu.Unlock()
	hangUp(errRenewed)
	u.cfg.Log.InfoContext(ctx, "renewed the certificate", "not_after", cert.Leaf.NotAfter)
	return nil
}
