package enrol

import (
	"context"
	"errors"
	"time"

	"github.com/oklog/ulid/v2"

	"interdict/internal/bundle"
	"interdict/internal/control"
	"interdict/internal/control/audience"
	"interdict/internal/control/credential"
	"interdict/internal/control/edit"
	"interdict/internal/control/find"
	"interdict/internal/control/input"
	"interdict/internal/control/page"
	"interdict/internal/fault"
	"interdict/internal/store"
)

const (
	defaultTokenLife = 24 * time.Hour
	maxTokenUses     = 1_000_000
)

// NewToken is an enrolment token to be made.
type NewToken struct {
	Name string `json:"name"`
	// ExpiresAt is required to be in the future; zero means in 24 hours.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	// Uses is how many devices it admits; 0 means one.
	Uses int `json:"uses,omitempty"`
	// Labels are given to every device admitted, and win over its own.
	Labels map[string]string `json:"labels,omitempty"`
	// Groups takes ids or names of groups which the devices join.
	Groups []string `json:"groups,omitempty"`
}

// TokenView is an enrolment token without its secret.
type TokenView struct {
	store.Token

	State TokenState `json:"state" enum:"active,expired,exhausted,revoked"`
}

// TokenState says whether a token still admits devices.
type TokenState string

// The states of a token.
const (
	TokenActive    TokenState = "active"
	TokenExpired   TokenState = "expired"
	TokenExhausted TokenState = "exhausted"
	TokenRevoked   TokenState = "revoked"
)

// CreateToken makes an enrolment token. The string is the token itself, as it
// is handed to a machine; it cannot be had again.
func (s *Service) CreateToken(ctx context.Context, actor control.Actor, n NewToken) (TokenView, string, error) {
	now := s.control.Now().UTC()
	t, err := s.checkToken(ctx, &n, now)
	if err != nil {
		return TokenView{}, "", err
	}
	t.CreatedBy = actor.Name
	secret := credential.NewSecret()
	err = s.control.Write(ctx, func(tx *store.Tx) error {
		tx.Audit(s.control.Entry(actor, "token.create", t.ID, nil, t))
		return errors.Join(edit.CheckGroups(tx, t.Groups), tx.CreateToken(t, credential.Hash(secret)))
	})
	if err != nil {
		return TokenView{}, "", err
	}
	token := bundle.Token{URL: s.control.URL(), CAFingerprint: bundle.Fingerprint(s.control.CA().Raw), Secret: secret}
	return viewToken(t, now), token.String(), nil
}

func (s *Service) checkToken(ctx context.Context, n *NewToken, now time.Time) (store.Token, error) {
	var faults fault.Fields
	input.CheckName(&faults, n.Name)
	input.CheckLabels(&faults, "labels", n.Labels)
	t := store.Token{
		ID: ulid.Make().String(), Name: n.Name, CreatedAt: now, ExpiresAt: n.ExpiresAt.UTC(), Uses: n.Uses, Labels: n.Labels,
	}
	if n.ExpiresAt.IsZero() {
		t.ExpiresAt = now.Add(defaultTokenLife)
	}
	if !t.ExpiresAt.After(now) {
		faults.Add("expires_at", "must be in the future")
	}
	if t.Uses == 0 {
		t.Uses = 1
	}
	if t.Uses < 0 || t.Uses > maxTokenUses {
		faults.Add("uses", "must be between 1 and %d", maxTokenUses)
	}
	err := s.control.Read(ctx, func(state *audience.State, _ *audience.Snapshot) error {
		t.Groups = find.Groups(state, n.Groups, "groups", &faults)
		return nil
	})
	if err != nil {
		return t, err
	}
	return t, faults.Err("the enrolment token is not valid")
}

// Tokens returns the enrolment tokens, newest first.
func (s *Service) Tokens(ctx context.Context, q page.Query) (page.Page[TokenView], error) {
	var views []TokenView
	now := s.control.Now()
	return page.Read(q, func(limit int) ([]TokenView, error) {
		err := s.control.View(ctx, func(tx *store.Tx) error {
			tokens, err := tx.Tokens(q.Cursor, limit)
			views = make([]TokenView, len(tokens))
			for i, t := range tokens {
				views[i] = viewToken(t, now)
			}
			return err
		})
		return views, err
	}, func(t *TokenView) string { return t.ID })
}

// RevokeToken makes an enrolment token, given by id or name, admit nobody any
// more.
func (s *Service) RevokeToken(ctx context.Context, actor control.Actor, ref string) (TokenView, error) {
	now := s.control.Now().UTC()
	var t store.Token
	if !input.IsText(ref) {
		return TokenView{}, fault.New(fault.NotFound, "there is no enrolment token %q", ref)
	}
	err := s.control.Write(ctx, func(tx *store.Tx) error {
		found, err := tx.TokensCalled(ref)
		if err != nil {
			return err
		}
		switch len(found) {
		case 0:
			return fault.New(fault.NotFound, "there is no enrolment token %q", ref)
		case 1:
		default:
			return fault.New(fault.Conflict, "%d enrolment tokens are called %q", len(found), ref).WithHint("use the id")
		}
		t = found[0]
		if !t.RevokedAt.IsZero() {
			return nil
		}
		before := t
		t.RevokedAt = now
		tx.Audit(s.control.Entry(actor, "token.revoke", t.ID, before, t))
		return tx.UpdateToken(t)
	})
	if err != nil {
		return TokenView{}, err
	}
	return viewToken(t, now), nil
}

func viewToken(t store.Token, now time.Time) TokenView {
	v := TokenView{Token: t, State: TokenActive}
	switch {
	case !t.RevokedAt.IsZero():
		v.State = TokenRevoked
	case !now.Before(t.ExpiresAt):
		v.State = TokenExpired
	case t.Used >= t.Uses:
		v.State = TokenExhausted
	}
	return v
}
