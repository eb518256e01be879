package control

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/time/rate"

	"interdict/internal/fault"
	"interdict/internal/store"
)

// entry makes a line of the audit log. before and after are nil where there
// was nothing.
func (s *Service) entry(actor Actor, action, target string, before, after any) store.AuditEntry {
	return store.AuditEntry{
		ID: ulid.Make().String(), Time: s.now().UTC(), ActorKind: string(actor.Kind), ActorID: actor.ID, Actor: actor.Name,
		Action: action, Target: target, Before: jsonOrNil(before), After: jsonOrNil(after), Source: actor.Source,
	}
}

// jsonOrNil writes what the audit log keeps. All of it is made of types that
// can be written.
func jsonOrNil(v any) json.RawMessage {
	if v == nil {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage("null")
	}
	return b
}

// The bounds of what refused attempts write into the audit log: a burst, then
// one in a while. Whoever is refused could fill the disk otherwise.
const (
	refusalBurst = 100
	refusalEvery = 10 * time.Second
)

// refusals bounds the entries about attempts of one kind of caller.
type refusals struct {
	limiter *rate.Limiter
	// left counts the attempts left out since the last entry.
	left atomic.Int64
}

func newRefusals() *refusals {
	return &refusals{limiter: rate.NewLimiter(rate.Every(refusalEvery), refusalBurst)}
}

// refusalsBy returns the bounds for an actor. Strangers have their own, so that
// their noise hides nothing that people with a token tried.
func (s *Service) refusalsBy(a Actor) *refusals {
	if a.Kind == ActorUnknown {
		return s.refusedUnknown
	}
	return s.refusedKnown
}

// Refused notes in the audit log that something was refused. When too much is,
// attempts are only counted, and the next entry says how many.
func (s *Service) Refused(ctx context.Context, a Attempt) error {
	by := s.refusalsBy(a.Actor)
	if !by.limiter.AllowN(s.now(), 1) {
		by.left.Add(1)
		return nil
	}
	e := s.entry(a.Actor, clipText(a.Action, maxFact), "", nil, nil)
	e.Refused = clipText(a.Reason, maxDescription)
	if left := by.left.Swap(0); left > 0 {
		e.Refused += fmt.Sprintf(" (%d more like it before were not written down)", left)
	}
	return s.store.Write(ctx, func(tx *store.Tx) error {
		tx.Audit(e)
		return nil
	})
}

// AuditLog returns the audit log, newest first.
func (s *Service) AuditLog(ctx context.Context, q AuditQuery) (Page[AuditEntry], error) {
	var faults fault.Fields
	checkText(&faults, "actor", q.Actor)
	checkText(&faults, "action", q.Action)
	checkText(&faults, "target", q.Target)
	if err := faults.Err("the query is not valid"); err != nil {
		return Page[AuditEntry]{}, err
	}
	return pageOf(ctx, s, q.PageQuery, func(tx *store.Tx, size int) ([]AuditEntry, error) {
		by, err := s.auditActor(tx, q.Actor)
		if err != nil {
			return nil, err
		}
		return tx.AuditLog(store.AuditQuery{Actor: by, Action: q.Action, Target: s.auditTarget(q.Target), Before: q.Cursor, Limit: size})
	}, func(e *AuditEntry) string { return e.ID })
}

// pageOf returns a page that the store reads; the cursor is the id of the
// page's last item.
func pageOf[T any](ctx context.Context, s *Service, q PageQuery, read func(*store.Tx, int) ([]T, error), id func(*T) string) (Page[T], error) {
	size, err := q.size()
	if err != nil {
		return Page[T]{}, err
	}
	if q.Cursor != "" {
		if _, err = ulid.ParseStrict(q.Cursor); err != nil {
			return Page[T]{}, badCursor()
		}
	}
	page := Page[T]{}
	err = s.store.View(ctx, func(tx *store.Tx) (err error) {
		page.Items, err = read(tx, size+1)
		return err
	})
	if err != nil {
		return Page[T]{}, err
	}
	if len(page.Items) > size {
		page.Items = page.Items[:size]
		page.Next = id(&page.Items[size-1])
	}
	return page, nil
}
