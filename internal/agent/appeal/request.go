package appeal

import (
	"context"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"interdict/internal/access"
	"interdict/internal/fault"
	"interdict/internal/indicator"
)

const (
	// keepDecided is for how long a decided request is shown.
	keepDecided = 7 * 24 * time.Hour
	// resendAfter doubles with each failure, up to resendAtMost.
	resendAfter  = 2 * time.Second
	resendAtMost = 5 * time.Minute
	// settled is for how long the server may not know of a request that it
	// has taken: its list may be older than that.
	settled = time.Minute
)

// request is a request and whether the server has it.
type request struct {
	access.Request
	// SentAt is when the server took it, zero before.
	SentAt time.Time `json:"sent_at,omitzero"`
}

// over reports whether the request need not be kept any longer.
func (q *request) over(now time.Time) bool {
	return q.State != access.StatePending && now.Sub(q.DecidedAt) >= keepDecided && !now.Before(q.Until)
}

// is reports whether the request is for what was refused.
func (q *request) is(r *Refusal) bool {
	if q.UID != r.UID || q.AppID != r.Event.AppID {
		return false
	}
	return q.AppID != "" || q.Host == r.Host()
}

// open reports whether a request leaves nothing to ask for: it is not decided,
// or it was approved and that still counts.
func open(q *access.Request, now time.Time) bool {
	switch {
	case q == nil:
		return false
	case q.State == access.StateApproved:
		return q.Until.IsZero() || now.Before(q.Until)
	default:
		return q.State == access.StatePending
	}
}

// requestOf returns the newest request for what was refused, nil for none.
// The caller holds mu.
func (a *Appeals) requestOf(r *Refusal) *request {
	for i := len(a.requests) - 1; i >= 0; i-- {
		if q := &a.requests[i]; q.is(r) {
			return q
		}
	}
	return nil
}

// Request asks the administrators for access. Whoever has asked already gets
// that request. The fault is NotFound if the refusal is not the user's,
// Conflict if there is nothing to ask for, Disabled where there is no server,
// Invalid if the reason is no plain text, and TooMany.
func (a *Appeals) Request(ctx context.Context, id string, uid uint32, reason string) (access.Request, error) {
	a.acts.Lock()
	defer a.acts.Unlock()
	s, err := a.own(id, uid)
	switch {
	case err != nil:
		return access.Request{}, err
	case a.cfg.Send == nil:
		return access.Request{}, fault.New(fault.Disabled, "no server manages this device: there is nobody to ask")
	case s.Request != nil && s.Request.State == access.StatePending:
		return *s.Request, nil
	case !s.CanRequest:
		return access.Request{}, fault.New(fault.Conflict, "there is nothing to ask for")
	}
	reason = tidy(reason)
	if err := checkReason(reason, ""); err != nil {
		return access.Request{}, err
	}
	r := access.Request{
		ID: ulid.Make().String(), Device: a.cfg.Device, UID: uid, User: s.Event.User.Name,
		AppID: s.Event.AppID, AppName: s.Event.AppName, Host: hostFor(&s.Refusal), Process: s.Event.Process.Path,
		Reason: reason, AskedAt: a.cfg.Now().UTC(), State: access.StatePending,
	}
	if err := a.file(r); err != nil {
		return access.Request{}, err
	}
	a.save(ctx)
	token(a.unsent)
	return r, nil
}

// hostFor is the host that a request is about. Where it is about an app the
// host is for people to read; one that no indicator could have, as a look-up
// may have said, would be refused with all the rest.
func hostFor(r *Refusal) string {
	host := r.Host()
	if _, err := indicator.Parse(indicator.TypeDomain, host); err == nil || r.Event.AppID == "" {
		return host
	}
	if _, err := indicator.Parse(indicator.TypeIP, host); err == nil {
		return host
	}
	return ""
}

// file puts a request on the list.
func (a *Appeals) file(r access.Request) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	ofUser := 0
	for i := range a.requests {
		if a.requests[i].UID == r.UID {
			ofUser++
		}
	}
	if ofUser >= maxRequests {
		// What was decided makes room for what is asked.
		oldest := slices.IndexFunc(a.requests, func(q request) bool { return q.UID == r.UID && !open(&q.Request, r.AskedAt) })
		if oldest < 0 {
			return fault.New(fault.TooMany, "too many requests of yours are not decided yet")
		}
		a.requests = slices.Delete(a.requests, oldest, oldest+1)
	}
	if len(a.requests) >= maxKept {
		return fault.New(fault.TooMany, "too many requests are not decided yet")
	}
	a.requests = append(a.requests, request{Request: r})
	return nil
}

// Requests takes in the requests of this device's users as the server has
// them, all of them. Those that are not known here are ignored; those that
// the server has forgotten are forgotten. What waits to be sent is sent: the
// server is there.
func (a *Appeals) Requests(ctx context.Context, all []access.Request) {
	a.acts.Lock()
	defer a.acts.Unlock()
	token(a.unsent)
	decided, changed := a.merge(all, a.cfg.Now())
	if changed {
		a.save(ctx)
	}
	for _, d := range decided {
		a.cfg.Answered(ctx, d.request, d.refusal)
	}
}

// decision is a request that was decided, with the id of its refusal.
type decision struct {
	request access.Request
	refusal string
}

func (a *Appeals) merge(all []access.Request, now time.Time) (decided []decision, changed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	byID := make(map[string]*access.Request, len(all))
	for i := range all {
		byID[all[i].ID] = &all[i]
	}
	kept := a.requests[:0]
	for _, q := range a.requests {
		answer := byID[q.ID]
		if answer == nil && q.State == access.StatePending && !q.SentAt.IsZero() && now.Sub(q.SentAt) > settled {
			changed = true
			continue
		}
		if answer != nil && q.take(answer) {
			changed = true
			if q.State != access.StatePending {
				decided = append(decided, decision{q.Request, a.refusalOf(&q)})
			}
		}
		kept = append(kept, q)
	}
	a.requests = kept
	return decided, changed
}

// take takes over what the server decided and reports whether that is news.
// Who asked, and for what, is ours to know.
func (q *request) take(answer *access.Request) bool {
	news := q.State != answer.State || !q.Until.Equal(answer.Until)
	q.State, q.Until, q.Note = answer.State, answer.Until, answer.Note
	q.DecidedBy, q.DecidedAt = answer.DecidedBy, answer.DecidedAt
	return news
}

// refusalOf returns the id of the refusal that a request is about, empty if
// it is not known any more. The caller holds mu.
func (a *Appeals) refusalOf(q *request) string {
	if d := a.users[q.UID]; d != nil {
		for _, r := range d.refusals {
			if q.is(r) && !r.Warned() {
				return r.ID
			}
		}
	}
	return ""
}

// sendRequests brings requests to the server until ctx ends.
func (a *Appeals) sendRequests(ctx context.Context) {
	if a.cfg.Send == nil {
		return
	}
	wait := resendAfter
	for ctx.Err() == nil {
		r, ok := a.nextUnsent()
		if !ok {
			select {
			case <-ctx.Done():
			case <-a.unsent:
			}
			continue
		}
		answer, err := a.cfg.Send(ctx, r)
		if err == nil || final(err) {
			a.sent(ctx, r.ID, answer, err)
			wait = resendAfter
			continue
		}
		a.cfg.Log.DebugContext(ctx, "sending a request for access", "error", err, "again_in", wait)
		pause(ctx, wait, a.unsent)
		wait = min(2*wait, resendAtMost)
	}
}

// pause waits for d, or until ctx ends or there is something new.
func pause(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-wake:
	}
}

// final reports whether an error means that the server will never take the
// request.
func final(err error) bool {
	switch fault.CodeOf(err) {
	case fault.Invalid, fault.NotFound, fault.Conflict, fault.Disabled:
		return true
	default:
		return false
	}
}

func (a *Appeals) nextUnsent() (access.Request, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.requests {
		if q := &a.requests[i]; q.SentAt.IsZero() && q.State == access.StatePending {
			return q.Request, true
		}
	}
	return access.Request{}, false
}

// sent notes that the server took a request, or that it never will.
func (a *Appeals) sent(ctx context.Context, id string, answer access.Request, err error) {
	a.acts.Lock()
	defer a.acts.Unlock()
	if err != nil {
		a.cfg.Log.WarnContext(ctx, "the server does not take a request for access", "error", err, "request", id)
	}
	d := a.settle(id, answer, err)
	a.save(ctx)
	if d != nil {
		a.cfg.Answered(ctx, d.request, d.refusal)
	}
}

// settle is sent on the list; a request that the server had decided already
// is returned.
func (a *Appeals) settle(id string, answer access.Request, err error) *decision {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.IndexFunc(a.requests, func(q request) bool { return q.ID == id })
	if i < 0 {
		return nil
	}
	if err != nil {
		a.requests = slices.Delete(a.requests, i, i+1)
		return nil
	}
	q := &a.requests[i]
	q.SentAt = a.cfg.Now().UTC()
	if answer.ID != id || !q.take(&answer) || q.State == access.StatePending {
		return nil
	}
	return &decision{q.Request, a.refusalOf(q)}
}
