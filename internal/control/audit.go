package control

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/time/rate"

	"interdict/internal/control/input"
	"interdict/internal/store"
)

// ActionAPIToken is what the audit log calls the making of an API token.
const ActionAPIToken = "api_token.create"

// Entry makes a line of the audit log. before and after are nil where there
// was nothing.
func (s *Service) Entry(actor Actor, action, target string, before, after any) store.AuditEntry {
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
	e := s.Entry(a.Actor, input.Clip(a.Action, input.MaxFact), "", nil, nil)
	e.Refused = input.Clip(a.Reason, input.MaxDescription)
	if left := by.left.Swap(0); left > 0 {
		e.Refused += fmt.Sprintf(" (%d more like it before were not written down)", left)
	}
	return s.store.Write(ctx, func(tx *store.Tx) error {
		tx.Audit(e)
		return nil
	})
}
