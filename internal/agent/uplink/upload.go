package uplink

import (
	"context"
	"time"

	"interdict/internal/agent/health"
	"interdict/internal/fault"
)

// uploadEvents sends what is in the spool, oldest first, until ctx ends.
func (u *Uplink) uploadEvents(ctx context.Context) {
	var retry backoff
	for {
		err := u.uploadAll(ctx)
		wait := time.Duration(u.interval.Load())
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			retry.reset()
		default:
			u.cfg.Log.DebugContext(ctx, "events wait", "error", err)
			wait = retry.next()
		}
		if !pause(ctx, wait, u.hurry) {
			return
		}
	}
}

// uploadAll waits for a batch, and sends it and those that wait behind it.
func (u *Uplink) uploadAll(ctx context.Context) error {
	noWait, cancel := context.WithCancel(ctx)
	cancel()
	for wait := ctx; ; wait = noWait {
		key, body, err := u.cfg.Spool.Next(wait)
		switch {
		case err != nil && wait == noWait && ctx.Err() == nil:
			return nil
		case err != nil:
			return err
		}
		// Whoever asked for haste until now means what is sent now.
		select {
		case <-u.hurry:
		default:
		}
		if err := u.upload(ctx, key, body); err != nil {
			return err
		}
	}
}

// upload sends one batch. A batch that the server will never take is given
// up, so that it does not hold up those behind it.
func (u *Uplink) upload(ctx context.Context, key string, body []byte) error {
	receipt, err := u.client.send(ctx, key, body)
	switch {
	case fault.CodeOf(err) == fault.Invalid:
		u.cfg.Health.Raise(health.EventsRejected, "a batch of events was not taken: %v", err)
		return u.cfg.Spool.Reject(key)
	case err != nil:
		return err
	case receipt.Rejected > 0:
		u.cfg.Health.Raise(health.EventsRejected, "%d events of the last batch with a fault: %s", receipt.Rejected, receipt.Fault)
	default:
		u.cfg.Health.Clear(health.EventsRejected)
	}
	return u.cfg.Spool.Done(key)
}

// uploadUsage sends the reports of what was used, until ctx ends.
func (u *Uplink) uploadUsage(ctx context.Context) {
	if u.cfg.Usage == nil {
		return
	}
	var retry backoff
	for {
		err := u.uploadReport(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			retry.reset()
			continue
		}
		u.cfg.Log.DebugContext(ctx, "reports of use wait", "error", err)
		if !pause(ctx, retry.next(), nil) {
			return
		}
	}
}

// uploadReport sends one report. One that the server will never take is given
// up.
func (u *Uplink) uploadReport(ctx context.Context) error {
	key, report, err := u.cfg.Usage.Next(ctx)
	if err != nil {
		return err
	}
	err = u.client.usage(ctx, key, report)
	switch fault.CodeOf(err) {
	case fault.Invalid, fault.NotFound:
		u.cfg.Log.WarnContext(ctx, "the server does not take a report of use", "error", err)
	default:
		if err != nil {
			return err
		}
	}
	return u.cfg.Usage.Done(key)
}
