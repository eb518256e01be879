package control

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"interdict/internal/bundle"
	"interdict/internal/cloudapp"
	"interdict/internal/control/audience"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/store"
)

// This file has what the packages of other nouns build upon, beside Change
// and Entry.

// Now is the time by the service's clock.
func (s *Service) Now() time.Time { return s.now() }

// URL is where agents reach the server.
func (s *Service) URL() string { return s.url }

// CA returns the certificate that agents trust the server by.
func (s *Service) CA() *x509.Certificate { return s.authority.Certificate() }

// BundleKey returns the key that agents trust bundles by.
func (s *Service) BundleKey() ed25519.PublicKey { return s.bundleKey }

// ServerCertificate returns a certificate for a server with these names and
// addresses. It is kept, and renewed in time: ask for every handshake.
func (s *Service) ServerCertificate(hosts []string) (tls.Certificate, error) {
	return s.servers.Certificate(hosts, s.now())
}

// DeviceCertificate signs the request of a device, which is valid from now on,
// and returns the certificate in DER.
func (s *Service) DeviceCertificate(request *x509.CertificateRequest, id fleet.DeviceID) ([]byte, error) {
	return s.authority.SignDevice(request, id, s.now())
}

// View runs fn on one consistent state of the store.
func (s *Service) View(ctx context.Context, fn func(*store.Tx) error) error {
	return s.store.View(ctx, fn)
}

// Write runs a transaction that changes nothing of the configuration, which
// Change is for.
func (s *Service) Write(ctx context.Context, fn func(*store.Tx) error) error {
	return s.store.Write(ctx, fn)
}

// Read shows fn the configuration and what it was compiled to, with all that
// was changed before the call, on any server. Nothing of it changes until fn
// returns, so fn is quick, calls no method that reads the configuration again,
// and keeps no map of it. The snapshot may be one change older than the state.
func (s *Service) Read(ctx context.Context, fn func(*audience.State, *audience.Snapshot) error) error {
	if err := s.fresh(ctx); err != nil {
		return err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return fn(s.state, s.snapshot.Load())
}

// Look is Read without asking other servers. It is for what may be a moment
// old, such as names, and for what is asked often.
func (s *Service) Look(fn func(*audience.State, *audience.Snapshot)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	fn(s.state, s.snapshot.Load())
}

// EachDevice shows fn all devices, in no order, with the groups they are in
// and with what they last said of themselves. What holds for Read holds here.
func (s *Service) EachDevice(ctx context.Context, fn func(*fleet.Device)) error {
	if err := s.freshPresence(ctx); err != nil {
		return err
	}
	return s.Read(ctx, func(state *audience.State, _ *audience.Snapshot) error {
		for _, d := range state.Devices {
			s.fill(&d.Device)
			fn(&d.Device)
		}
		return nil
	})
}

// Tell queues a message for a device that is connected to this server, in the
// place of one of the same type that it has not taken yet. It reports whether
// it is connected here.
func (s *Service) Tell(id fleet.DeviceID, m bundle.Message) bool { return s.hub.Tell(id, m) }

// noticeTell, followed by a device's id, a space and a message in JSON, asks
// the server that the device is connected to to tell it.
const noticeTell = "tell "

// TellElsewhere has the server that a device is connected to tell it a message
// once the transaction is done, if the server shares the database. Tell is for
// a device that is connected here.
func (s *Service) TellElsewhere(tx *store.Tx, id fleet.DeviceID, m bundle.Message) error {
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("writing a message for device %q: %w", id, err)
	}
	return tx.Notify(noticeTell + string(id) + " " + string(text))
}

// hearTell tells a device what another server asks to tell it.
func (s *Service) hearTell(ctx context.Context, notice string) {
	id, text, _ := strings.Cut(notice, " ")
	var m bundle.Message
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		s.logger.WarnContext(ctx, "reading a message of another server", "device", id, "error", err)
		return
	}
	s.Tell(fleet.DeviceID(id), m)
}

// FindApp returns the cloud app with an id, or with a name regardless of case.
// The fault of one that is not known says what may have been meant.
func (s *Service) FindApp(ref string) (cloudapp.App, error) {
	a, ok := s.findApp(ref)
	if !ok {
		return a, fault.New(fault.NotFound, "there is no app %q", ref).WithHint("%s", s.nearApps(ref))
	}
	return a, nil
}

// Tagged returns the indicators that follow from tags, as long as the feature
// is on.
func (s *Service) Tagged(state *audience.State) []indicator.Indicator {
	if !state.Enabled(fleet.FeatureAppEnforcement) {
		return nil
	}
	var all []indicator.Indicator
	for _, t := range state.Taggings {
		all = append(all, s.index.Indicators(t)...)
	}
	return all
}

// CheckProtected says why an indicator would cut agents off from the server,
// nil if it would not.
func (s *Service) CheckProtected(i *indicator.Indicator) error { return s.protected.Check(i) }

// enrolled reports whether a device is known here.
func (s *Service) enrolled(id fleet.DeviceID) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.state.Devices[id]
	return ok
}

// Known returns nil if the device is enrolled, which another server may have
// done a moment ago.
func (s *Service) Known(ctx context.Context, id fleet.DeviceID) error {
	if s.enrolled(id) {
		return nil
	}
	if err := s.fresh(ctx); err != nil {
		return err
	}
	if s.enrolled(id) {
		return nil
	}
	return fault.New(fault.Unauthorized, "this device is not enrolled, or was deleted").
		WithHint("enrol it again with a new token")
}
