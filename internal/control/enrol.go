package control

import (
	"context"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"maps"

	"github.com/oklog/ulid/v2"

	"interdict/internal/bundle"
	"interdict/internal/control/ca"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/store"
)

// Enroll makes a machine a device, if it has a token that still admits one.
// Whatever the reason to refuse it, the audit log hears of it. remote is where
// the request came from.
func (s *Service) Enroll(ctx context.Context, r bundle.EnrollRequest, remote string) (bundle.EnrollResponse, error) {
	response, err := s.enroll(ctx, &r, remote)
	if f, ok := errors.AsType[*fault.Error](err); ok {
		attempt := Attempt{Actor: Actor{Kind: ActorUnknown, Name: r.Name, Source: remote}, Action: "device.enroll", Reason: f.Error()}
		if noted := s.Refused(ctx, attempt); noted != nil {
			s.logger.ErrorContext(ctx, "noting a refused enrolment", "error", noted)
		}
	}
	return response, err
}

func (s *Service) enroll(ctx context.Context, r *bundle.EnrollRequest, remote string) (bundle.EnrollResponse, error) {
	// First of all, so that a stranger costs a look-up and learns nothing, and
	// takes no turn among the changes.
	err := s.store.View(ctx, func(tx *store.Tx) error {
		_, err := s.activeToken(tx, r.Secret)
		return err
	})
	if err != nil {
		return bundle.EnrollResponse{}, err
	}
	request, err := s.checkEnrolment(r)
	if err != nil {
		return bundle.EnrollResponse{}, err
	}
	now := s.now().UTC()
	d := fleet.Device{ID: fleet.DeviceID(ulid.Make().String()), Name: r.Name, EnrolledAt: now, Version: 1}
	certificate, err := s.authority.SignDevice(request, d.ID, now)
	if err != nil {
		return bundle.EnrollResponse{}, err
	}
	facts := clip(r.Facts)
	_, err = s.change(ctx, func(tx *store.Tx) error { return s.addDevice(tx, &d, r, remote) })
	if err != nil {
		return bundle.EnrollResponse{}, err
	}
	s.presence.update(d.ID, now, func(state *store.DeviceState) { state.Facts = facts })
	return bundle.EnrollResponse{DeviceID: d.ID, Certificate: certificate, CA: s.CA().Raw, BundleKey: s.bundleKey}, nil
}

// addDevice writes a device with what its token gives it.
func (s *Service) addDevice(tx *store.Tx, d *fleet.Device, r *bundle.EnrollRequest, remote string) error {
	token, err := s.admit(tx, r.Secret)
	if err != nil {
		return err
	}
	d.Labels = make(map[string]string)
	maps.Copy(d.Labels, r.Labels)
	maps.Copy(d.Labels, token.Labels)
	actor := Actor{Kind: ActorDevice, ID: string(d.ID), Name: d.Name, Source: remote}
	tx.Audit(s.entry(actor, "device.enroll", string(d.ID), nil, struct {
		Device fleet.Device `json:"device"`
		Token  string       `json:"token"`
	}{*d, token.ID}))
	return errors.Join(join(tx, d.ID, token.Groups), tx.Devices().Put(*d))
}

// checkEnrolment also gives the device a name if it has none.
func (s *Service) checkEnrolment(r *bundle.EnrollRequest) (*x509.CertificateRequest, error) {
	if r.Name == "" {
		r.Name = clipText(r.Facts.Hostname, maxName)
	}
	var faults fault.Fields
	checkName(&faults, r.Name)
	checkLabels(&faults, "labels", r.Labels)
	if err := faults.Err("the enrolment is not valid"); err != nil {
		return nil, err
	}
	return ca.ParseRequest(r.CSR)
}

// admit counts one use of the token with the secret.
func (s *Service) admit(tx *store.Tx, secret string) (store.Token, error) {
	token, err := s.activeToken(tx, secret)
	if err != nil {
		return token, err
	}
	left, err := tx.UseToken(token.ID, token.Uses)
	if err == nil && !left {
		err = notAdmitting(TokenExhausted)
	}
	return token, err
}

// activeToken returns the token with the secret, or a fault if it does not
// admit anybody.
func (s *Service) activeToken(tx *store.Tx, secret string) (store.Token, error) {
	presented := hash(secret)
	token, kept, err := tx.TokenBySecret(presented)
	if errors.Is(err, store.ErrNotFound) || err == nil && subtle.ConstantTimeCompare(kept, presented) != 1 {
		return token, notAdmitting("")
	}
	if err != nil {
		return token, err
	}
	if state := viewToken(token, s.now()).State; state != TokenActive {
		return token, notAdmitting(state)
	}
	return token, nil
}

// notAdmitting is the fault of a token in a state; "" is one that does not
// exist.
func notAdmitting(state TokenState) error {
	reason := "is not valid"
	switch state {
	case TokenExpired:
		reason = "has expired"
	case TokenExhausted:
		reason = "has been used as often as it may be"
	case TokenRevoked:
		reason = "was revoked"
	case TokenActive:
	}
	return fault.New(fault.Unauthorized, "the enrolment token %s", reason).
		WithHint("make a new one with: interdict token create")
}

// join makes a device a member of the groups that still exist.
func join(tx *store.Tx, id fleet.DeviceID, groups []string) error {
	for _, g := range groups {
		switch _, err := tx.Groups().Get(g); {
		case errors.Is(err, store.ErrNotFound):
			continue
		case err != nil:
			return err
		}
		if err := tx.Join(g, id); err != nil {
			return err
		}
	}
	return nil
}

// AuthenticateDevice returns the device that a certificate belongs to, whose
// chain the transport has verified against CA. The fault of one that was
// deleted is Unauthorized.
func (s *Service) AuthenticateDevice(ctx context.Context, certificate *x509.Certificate) (fleet.DeviceID, error) {
	id := fleet.DeviceID(certificate.Subject.CommonName)
	return id, s.known(ctx, id)
}

// Renew gives a device a new certificate.
func (s *Service) Renew(ctx context.Context, id fleet.DeviceID, r bundle.RenewRequest) (bundle.RenewResponse, error) {
	if err := s.known(ctx, id); err != nil {
		return bundle.RenewResponse{}, err
	}
	request, err := ca.ParseRequest(r.CSR)
	if err != nil {
		return bundle.RenewResponse{}, err
	}
	certificate, err := s.authority.SignDevice(request, id, s.now())
	return bundle.RenewResponse{Certificate: certificate}, err
}

// Bundle returns the bundle, as JSON of a bundle.Envelope, that a device has
// to take in which has version and digest in force (0 and "" for none): the
// difference to it if that is known here, and nil if it is up to date. All
// callers share the bytes. The fault is Unavailable if this server has not
// caught up with what the device has from another.
func (s *Service) Bundle(ctx context.Context, id fleet.DeviceID, version uint64, digest string) ([]byte, error) {
	if err := s.known(ctx, id); err != nil {
		return nil, err
	}
	if version > s.snapshot.Load().Revision {
		if err := s.fresh(ctx); err != nil {
			return nil, err
		}
	}
	snapshot := s.snapshot.Load()
	a := snapshot.Of(id)
	switch {
	case a == nil || version > snapshot.Revision:
		return nil, fault.New(fault.Unavailable, "this server is at revision %d and the device at %d", snapshot.Revision, version)
	case a.Digest == digest:
		return nil, nil
	}
	signed := a.Version
	if signed <= version {
		// The device has a later version from another server, or of another
		// set: only a higher one will do.
		signed = snapshot.Revision
	}
	if signed <= version {
		s.logger.WarnContext(ctx, "a device has another bundle of the current version", "device", id, "version", version, "digest", digest)
		return nil, fault.New(fault.Unavailable, "the device has another bundle of version %d", version)
	}
	return s.publisher.Envelope(a, signed, digest, s.now())
}
