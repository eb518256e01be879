package appeal

import (
	"context"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"interdict/internal/access"
	"interdict/internal/bypass"
	"interdict/internal/event"
	"interdict/internal/fault"
	"interdict/internal/fleet"
)

// lookEvery is how often the clock is looked at: it may have been set.
const lookEvery = time.Minute

// Continue lets a user go on after a warning, and records that (1129). Whoever
// goes on already gets the bypass they have. The fault is NotFound if the
// refusal is not the user's, Conflict if it was no warning, Invalid if the
// reason is missing or no plain text, and TooMany.
func (a *Appeals) Continue(ctx context.Context, id string, uid uint32, reason string) (bypass.Bypass, error) {
	a.acts.Lock()
	defer a.acts.Unlock()
	s, err := a.own(id, uid)
	switch {
	case err != nil:
		return bypass.Bypass{}, err
	case s.Bypass != nil:
		return *s.Bypass, nil
	case !s.CanContinue:
		return bypass.Bypass{}, fault.New(fault.Conflict, "%s is blocked: nobody may go on", s.Name())
	}
	settings := a.cfg.Settings()
	reason = tidy(reason)
	if err := checkReason(reason, settings.BypassReason); err != nil {
		return bypass.Bypass{}, err
	}
	now := a.cfg.Now().UTC()
	b := bypass.Bypass{
		ID: ulid.Make().String(), UID: uid, User: s.Event.User.Name, Subject: s.Subject(), Name: s.Name(),
		Since: now, Until: now.Add(lengthOf(settings)), Reason: reason,
	}
	if err := a.grant(b); err != nil {
		return bypass.Bypass{}, err
	}
	a.save(ctx)
	token(a.changed)
	e := s.Event
	// What follows is about this event alone and is filled in anew.
	e.ID, e.Count, e.FirstSeen, e.LastSeen, e.Cut = "", 0, time.Time{}, time.Time{}, false
	e.Time, e.EventID, e.Action, e.Until, e.Reason = now, event.IDBypassed, event.ActionBypassed, b.Until, reason
	a.cfg.Record(ctx, e)
	return b, nil
}

func checkReason(reason string, demand fleet.Demand) error {
	var faults fault.Fields
	if reason == "" && demand == fleet.Required {
		faults.Add("reason", "must be given")
	}
	access.CheckText(&faults, "reason", reason)
	return faults.Err("the reason is not usable")
}

// lengthOf is how long a bypass lasts that begins under the settings.
func lengthOf(s fleet.Settings) time.Duration {
	length := s.WarnBypassDuration.Duration()
	if length <= 0 {
		defaults := fleet.Defaults()
		length = defaults.WarnBypassDuration.Duration()
	}
	return min(length, bypass.MaxAge)
}

func (a *Appeals) grant(b bypass.Bypass) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	ofUser := 0
	for i := range a.bypasses {
		if a.bypasses[i].UID == b.UID {
			ofUser++
		}
	}
	if ofUser >= maxBypasses || len(a.bypasses) >= maxKept {
		return fault.New(fault.TooMany, "there are too many bypasses")
	}
	a.bypasses = append(a.bypasses, b)
	return nil
}

// bypassOf returns the bypass of a user and a subject that counts, nil for
// none. The caller holds mu.
func (a *Appeals) bypassOf(uid uint32, subject string, now time.Time) *bypass.Bypass {
	for i := range a.bypasses {
		if b := &a.bypasses[i]; b.UID == uid && b.Subject == subject && b.Active(now, a.revocations) {
			return b
		}
	}
	return nil
}

// Bypasses returns those that count now, the oldest first.
func (a *Appeals) Bypasses() []bypass.Bypass {
	now := a.cfg.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(a.bypasses), func(b bypass.Bypass) bool { return !b.Active(now, a.revocations) })
}

// Revoke takes in all revocations there are, and ends what they revoke.
func (a *Appeals) Revoke(revocations []bypass.Revocation) {
	a.mu.Lock()
	a.revocations = slices.Clone(revocations)
	a.mu.Unlock()
	token(a.changed)
}

// Run tells of bypasses when they begin and end, and sends requests, until
// ctx ends.
func (a *Appeals) Run(ctx context.Context) error {
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		a.sendRequests(ctx)
	}()
	defer func() { <-sent }()
	timer := time.NewTimer(0)
	defer timer.Stop()
	told, first := []bypass.Bypass(nil), true
	for {
		a.tidyUp(ctx)
		now := a.Bypasses()
		if first || !slices.EqualFunc(told, now, func(x, y bypass.Bypass) bool { return x.ID == y.ID }) {
			a.cfg.Changed(ctx, now)
			told, first = now, false
		}
		timer.Reset(a.untilNext(now))
		select {
		case <-ctx.Done():
			return nil
		case <-a.changed:
		case <-timer.C:
		}
	}
}

// untilNext returns how long the bypasses may be left alone.
func (a *Appeals) untilNext(bypasses []bypass.Bypass) time.Duration {
	wait, now := lookEvery, a.cfg.Now()
	for i := range bypasses {
		wait = min(wait, max(bypasses[i].Until.Sub(now), time.Millisecond))
	}
	return wait
}

// tidyUp forgets what is over.
func (a *Appeals) tidyUp(ctx context.Context) {
	a.acts.Lock()
	defer a.acts.Unlock()
	now := a.cfg.Now()
	a.mu.Lock()
	before := len(a.bypasses) + len(a.requests)
	a.bypasses = slices.DeleteFunc(a.bypasses, func(b bypass.Bypass) bool {
		at := now
		if at.Before(b.Since) {
			// The clock was set back: it may count again.
			at = b.Since
		}
		return !b.Active(at, a.revocations)
	})
	a.requests = slices.DeleteFunc(a.requests, func(q request) bool { return q.over(now) })
	for _, d := range a.users {
		for m, r := range d.refusals {
			if now.Sub(r.Event.Time) >= keepRefusals {
				a.drop(d, m)
			}
		}
	}
	after := len(a.bypasses) + len(a.requests)
	a.mu.Unlock()
	if before != after {
		a.save(ctx)
	}
}
