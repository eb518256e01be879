package uplink

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"interdict/internal/agent/health"
	"interdict/internal/agent/state"
	"interdict/internal/bundle"
	"interdict/internal/fleet"
)

const (
	// checkEvery is the slow check that finds what every nudge missed.
	checkEvery = 15 * time.Minute
	// checkAfterRefusal is sooner, in case the bundle was damaged on its
	// way; not much sooner, since the server cannot do better than send
	// the same again.
	checkAfterRefusal = 2 * time.Minute
	// saveAgain is how soon a bundle that could not be saved is tried again.
	saveAgain = 30 * time.Second
	// changeEvery is how often the server is told of changes on this device.
	// A fault whose text counts something changes all the time.
	changeEvery = 2 * time.Second
)

// errRefused says that a bundle came and was not to be trusted.
var errRefused = errors.New("the server's bundle was refused")

// suspended is what the server is told while nothing is enforced.
const suspended = "suspended by rescue: nothing is enforced"

// checkBundles looks for a newer bundle whenever there is a reason to, until
// ctx ends.
func (u *Uplink) checkBundles(ctx context.Context) {
	var retry backoff
	timer := time.NewTimer(jitter(checkEvery))
	defer timer.Stop()
	// change fires when the server is to be told of a change, told is when
	// it was last.
	var change <-chan time.Time
	var told time.Time
	for {
		var done chan<- error
		var err error
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-u.nudged:
		case <-u.changed:
			change = time.After(changeEvery - time.Since(told))
			continue
		case <-u.cfg.Health.Changed():
			change = time.After(changeEvery - time.Since(told))
			continue
		case told = <-change:
			// A newer bundle would end a suspension, so nobody asks for it.
			if err = u.acknowledgeOnce(ctx); err == nil {
				continue
			}
		case done = <-u.syncs:
			u.acknowledge.Store(true)
		}
		if err == nil {
			err = u.check(ctx)
		}
		if done != nil {
			done <- err
		}
		wait := nextCheck(err, &retry)
		if u.unsaved != nil {
			wait = min(wait, saveAgain)
		}
		timer.Reset(wait)
	}
}

// nextCheck is how long to wait after a check that ended so.
func nextCheck(err error, retry *backoff) time.Duration {
	switch {
	case err == nil:
		retry.reset()
		return jitter(checkEvery)
	case errors.Is(err, errRefused):
		return jitter(checkAfterRefusal)
	default:
		return retry.next()
	}
}

// check brings what is in force up to what the server has and acknowledges
// it.
func (u *Uplink) check(ctx context.Context) error {
	e, header, set, err := u.newest(ctx)
	switch {
	case err != nil:
		return err
	case e != nil:
		if err := u.apply(ctx, *e, state.Bundle{Header: header, Set: set}); err != nil {
			return err
		}
	case u.unsaved != nil:
		u.save(*u.unsaved)
	}
	return u.acknowledgeOnce(ctx)
}

// newest fetches and verifies what is newer than what is in force; without
// an error and without an envelope there is nothing.
func (u *Uplink) newest(ctx context.Context) (*bundle.Envelope, bundle.Header, bundle.Set, error) {
	ask := u.have.Current()
	if !u.have.Whole() {
		// Of a bundle that was damaged on disk only the version is left:
		// it guards against older ones, but is nothing to build on.
		ask = bundle.Current{}
	}
	e, h, set, err := u.fetch(ctx, ask)
	if err != nil && e != nil && e.Base != "" {
		// A difference that does not lead to the signed set may be fine in
		// whole.
		e, h, set, err = u.fetch(ctx, bundle.Current{})
	}
	return e, h, set, err
}

// fetch fetches and verifies one bundle. The envelope is also returned when
// it was not acceptable.
func (u *Uplink) fetch(ctx context.Context, ask bundle.Current) (*bundle.Envelope, bundle.Header, bundle.Set, error) {
	e, found, err := u.client.fetch(ctx, ask)
	switch {
	case errors.Is(err, errUnreadable):
		return nil, bundle.Header{}, bundle.Set{}, u.refuse(ctx, bundle.Header{}, err)
	case err != nil || !found:
		return nil, bundle.Header{}, bundle.Set{}, err
	}
	h, set, err := e.Open(u.cfg.Identity.BundleKey, u.have.Current(), time.Now())
	if err != nil && !errors.Is(err, bundle.ErrBase) {
		err = u.refuse(ctx, h, err)
	}
	return &e, h, set, err
}

// causes are what makes refusals distinct.
var causes = []error{
	bundle.ErrSignature, bundle.ErrFormat, bundle.ErrRollback, bundle.ErrDigest, bundle.ErrExpired, errUnreadable,
}

// refuse reports a refused bundle unless its cause was reported before.
func (u *Uplink) refuse(ctx context.Context, h bundle.Header, err error) error {
	u.cfg.Health.Raise(health.BundleRefused, "%v; the last good bundle stays in force", err)
	cause := err.Error()
	for _, c := range causes {
		if errors.Is(err, c) {
			cause = c.Error()
		}
	}
	if !u.refused[cause] {
		u.refused[cause] = true
		u.cfg.Refused(ctx, h, err)
	}
	return fmt.Errorf("%w: %w", errRefused, err)
}

// apply puts a verified bundle into force and keeps it.
func (u *Uplink) apply(ctx context.Context, e bundle.Envelope, b state.Bundle) error {
	mode, err := u.cfg.Apply(ctx, b)
	if err != nil {
		u.cfg.Health.Raise(health.ApplyFailed, "bundle %d cannot be put into force: %v", b.Header.Version, err)
		failed := u.applied()
		failed.At, failed.Error = time.Now().UTC(), err.Error()
		if ackErr := u.client.applied(ctx, failed); ackErr != nil {
			err = errors.Join(err, ackErr)
		}
		return fmt.Errorf("putting bundle %d into force: %w", b.Header.Version, err)
	}
	u.have, u.mode = b, mode
	clear(u.refused)
	u.cfg.Health.Clear(health.ApplyFailed)
	u.cfg.Health.Clear(health.BundleRefused)
	u.cfg.Health.Clear(health.BundleDamaged)
	u.update(func(s *Status) {
		s.Version, s.Digest, s.IssuedAt, s.Acknowledged = b.Header.Version, b.Header.Digest, b.Header.IssuedAt, false
	})
	u.save(e)
	return nil
}

// save writes the bundle in force to disk, before it is acknowledged: what the
// server counts as applied is to be in force after a restart without a network
// too. Where the disk does not let it, the bundle is in force all the same, so
// it is acknowledged, and saving is tried again.
func (u *Uplink) save(e bundle.Envelope) {
	if err := u.cfg.Dir.SaveBundle(e, u.have.Set); err != nil {
		u.unsaved = &e
		u.cfg.Health.Raise(health.BundleNotSaved, "%v; after a restart an older bundle is in force until the server answers", err)
		return
	}
	u.unsaved = nil
	u.cfg.Health.Clear(health.BundleNotSaved)
}

// applied is what this agent enforces.
func (u *Uplink) applied() fleet.Applied {
	a := fleet.Applied{Version: u.have.Header.Version, Digest: u.have.Header.Digest, Mode: u.mode}
	if u.cfg.Mode != nil {
		a.Mode = u.cfg.Mode()
	}
	if u.cfg.Suspended != nil && u.cfg.Suspended() {
		a = fleet.Applied{Mode: fleet.ModeDisabled, Error: suspended}
	}
	if u.cfg.Report != nil {
		a.Settings, a.Health = u.cfg.Report()
	}
	return a
}

// acknowledgeOnce tells the server what is in force, unless it knows.
func (u *Uplink) acknowledgeOnce(ctx context.Context) error {
	now := u.applied()
	asked := u.acknowledge.Swap(false)
	if !u.have.Whole() || reflect.DeepEqual(now, u.acked) && !asked {
		return nil
	}
	sent := now
	sent.At = time.Now().UTC()
	if err := u.client.applied(ctx, sent); err != nil {
		if asked {
			u.acknowledge.Store(true)
		}
		return err
	}
	u.acked = now
	u.update(func(s *Status) { s.Acknowledged = true })
	return nil
}
