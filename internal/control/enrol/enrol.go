// Package enrol decides how a machine becomes a device and proves to be one:
// enrolment tokens admit it, as often and as long as they may, with the groups
// and labels they give; a certificate of the server's own authority is what it
// shows from then on, and renews. What an enrolled device has to enforce, and
// that it may be deleted, is package control's.
package enrol

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"maps"

	"github.com/oklog/ulid/v2"

	"interdict/internal/bundle"
	"interdict/internal/control"
	"interdict/internal/control/ca"
	"interdict/internal/control/credential"
	"interdict/internal/control/input"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/store"
)

// Config is what a Service needs.
type Config struct {
	// Control is required.
	Control *control.Service
	// Logger is optional.
	Logger *slog.Logger
}

// Service has the use cases. It is safe for concurrent use.
type Service struct {
	control *control.Service
	logger  *slog.Logger
}

// New returns a Service.
func New(c Config) *Service {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Service{control: c.Control, logger: c.Logger}
}

// Enroll makes a machine a device, if it has a token that still admits one.
// Whatever the reason to refuse it, the audit log hears of it. remote is where
// the request came from.
func (s *Service) Enroll(ctx context.Context, r bundle.EnrollRequest, remote string) (bundle.EnrollResponse, error) {
	response, err := s.enroll(ctx, &r, remote)
	if f, ok := errors.AsType[*fault.Error](err); ok {
		attempt := control.Attempt{Actor: control.Actor{Kind: control.ActorUnknown, Name: r.Name, Source: remote}, Action: "device.enroll", Reason: f.Error()}
		if noted := s.control.Refused(ctx, attempt); noted != nil {
			s.logger.ErrorContext(ctx, "noting a refused enrolment", "error", noted)
		}
	}
	return response, err
}

func (s *Service) enroll(ctx context.Context, r *bundle.EnrollRequest, remote string) (bundle.EnrollResponse, error) {
	// First of all, so that a stranger costs a look-up and learns nothing, and
	// takes no turn among the changes.
	err := s.control.View(ctx, func(tx *store.Tx) error {
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
	now := s.control.Now().UTC()
	d := fleet.Device{ID: fleet.DeviceID(ulid.Make().String()), Name: r.Name, EnrolledAt: now, Version: 1}
	control.Describe(&d, r.Facts)
	certificate, err := s.control.DeviceCertificate(request, d.ID)
	if err != nil {
		return bundle.EnrollResponse{}, err
	}
	_, err = s.control.Change(ctx, func(tx *store.Tx) error { return s.addDevice(tx, &d, r, remote) })
	if err != nil {
		return bundle.EnrollResponse{}, err
	}
	return bundle.EnrollResponse{DeviceID: d.ID, Certificate: certificate, CA: s.control.CA().Raw, BundleKey: s.control.BundleKey()}, nil
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
	actor := control.Actor{Kind: control.ActorDevice, ID: string(d.ID), Name: d.Name, Source: remote}
	tx.Audit(s.control.Entry(actor, "device.enroll", string(d.ID), nil, struct {
		Device fleet.Device `json:"device"`
		Token  string       `json:"token"`
	}{*d, token.ID}))
	return errors.Join(join(tx, d.ID, token.Groups), tx.Devices().Put(*d))
}

// checkEnrolment also gives the device a name if it has none.
func (s *Service) checkEnrolment(r *bundle.EnrollRequest) (*x509.CertificateRequest, error) {
	if r.Name == "" {
		r.Name = input.Clip(r.Facts.Hostname, input.MaxName)
	}
	var faults fault.Fields
	input.CheckName(&faults, r.Name)
	input.CheckLabels(&faults, "labels", r.Labels)
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
	presented := credential.Hash(secret)
	token, kept, err := tx.TokenBySecret(presented)
	if errors.Is(err, store.ErrNotFound) || err == nil && !credential.Matches(kept, presented) {
		return token, notAdmitting("")
	}
	if err != nil {
		return token, err
	}
	if state := viewToken(token, s.control.Now()).State; state != TokenActive {
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
	return id, s.control.Known(ctx, id)
}

// Renew gives a device a new certificate.
func (s *Service) Renew(ctx context.Context, id fleet.DeviceID, r bundle.RenewRequest) (bundle.RenewResponse, error) {
	if err := s.control.Known(ctx, id); err != nil {
		return bundle.RenewResponse{}, err
	}
	request, err := ca.ParseRequest(r.CSR)
	if err != nil {
		return bundle.RenewResponse{}, err
	}
	certificate, err := s.control.DeviceCertificate(request, id)
	return bundle.RenewResponse{Certificate: certificate}, err
}
