package control

import (
	"context"

	"interdict/internal/fault"
	"interdict/internal/fleet"
)

// Bundle returns the bundle, as JSON of a bundle.Envelope, that a device has
// to take in which has version and digest in force (0 and "" for none): the
// difference to it if that is known here, and nil if it is up to date. All
// callers share the bytes. The fault is Unavailable if this server has not
// caught up with what the device has from another.
func (s *Service) Bundle(ctx context.Context, id fleet.DeviceID, version uint64, digest string) ([]byte, error) {
	if err := s.Known(ctx, id); err != nil {
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
