package control

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"interdict/internal/bundle"
	"interdict/internal/fault"
	"interdict/internal/store"
)

const (
	defaultTokenLife = 24 * time.Hour
	maxTokenUses     = 1_000_000
	// apiPrefix starts every API token, so that people and scanners for
	// leaked secrets recognise one.
	apiPrefix = "ida1_"
)

func hash(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// newSecret has at least 256 random bits.
func newSecret() string { return rand.Text() + rand.Text() }

// NewAPISecret makes the secret of an API token, for EnsureAPIToken.
func NewAPISecret() string { return apiPrefix + newSecret() }

// actionAPIToken is what the audit log calls the making of an API token.
const actionAPIToken = "api_token.create"

// EnsureAPIToken makes an API token with this secret, unless there is one
// with it.
func (s *Service) EnsureAPIToken(ctx context.Context, name, secret string, role Role) error {
	var faults fault.Fields
	checkName(&faults, name)
	if len(secret) < len(apiPrefix)+52 || !strings.HasPrefix(secret, apiPrefix) {
		faults.Add("secret", "must be one that the server made")
	}
	if role.rank() == 0 {
		faults.Add("role", "must be viewer, operator or administrator")
	}
	if err := faults.Err("the API token is not valid"); err != nil {
		return err
	}
	t := store.APIToken{ID: ulid.Make().String(), Name: name, Role: string(role), CreatedAt: s.now().UTC()}
	return s.store.Write(ctx, func(tx *store.Tx) error {
		created, err := tx.EnsureAPIToken(t, hash(secret))
		if created {
			tx.Audit(s.entry(system("start"), actionAPIToken, t.ID, nil, t))
		}
		return err
	})
}

// AuthenticateToken returns who presents an API token. The fault of one that
// is not known is Unauthorized.
func (s *Service) AuthenticateToken(ctx context.Context, presented string) (Actor, error) {
	presentedHash := hash(presented)
	var t store.APIToken
	var kept []byte
	err := s.store.View(ctx, func(tx *store.Tx) (err error) {
		t, kept, err = tx.APITokenBySecret(presentedHash)
		return err
	})
	if errors.Is(err, store.ErrNotFound) || err == nil && subtle.ConstantTimeCompare(kept, presentedHash) != 1 {
		return Actor{}, fault.New(fault.Unauthorized, "the token is not valid")
	}
	if err != nil {
		return Actor{}, err
	}
	return Actor{Kind: ActorToken, ID: t.ID, Name: t.Name, Role: Role(t.Role)}, nil
}

// CreateToken makes an enrolment token. The string is the token itself, as it
// is handed to a machine; it cannot be had again.
func (s *Service) CreateToken(ctx context.Context, actor Actor, n NewToken) (TokenView, string, error) {
	if err := s.fresh(ctx); err != nil {
		return TokenView{}, "", err
	}
	now := s.now().UTC()
	t, err := s.checkToken(&n, now)
	if err != nil {
		return TokenView{}, "", err
	}
	t.CreatedBy = actor.Name
	secret := newSecret()
	err = s.store.Write(ctx, func(tx *store.Tx) error {
		tx.Audit(s.entry(actor, "token.create", t.ID, nil, t))
		return errors.Join(checkGroups(tx, t.Groups), tx.CreateToken(t, hash(secret)))
	})
	if err != nil {
		return TokenView{}, "", err
	}
	token := bundle.Token{URL: s.url, CAFingerprint: bundle.Fingerprint(s.CA().Raw), Secret: secret}
	return viewToken(t, now), token.String(), nil
}

func (s *Service) checkToken(n *NewToken, now time.Time) (store.Token, error) {
	var faults fault.Fields
	checkName(&faults, n.Name)
	checkLabels(&faults, "labels", n.Labels)
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
	s.mu.RLock()
	defer s.mu.RUnlock()
	t.Groups = s.groups(n.Groups, "groups", &faults)
	return t, faults.Err("the enrolment token is not valid")
}

// Tokens returns the enrolment tokens, newest first.
func (s *Service) Tokens(ctx context.Context, q PageQuery) (Page[TokenView], error) {
	now := s.now()
	return pageOf(ctx, s, q, func(tx *store.Tx, size int) ([]TokenView, error) {
		tokens, err := tx.Tokens(q.Cursor, size)
		views := make([]TokenView, len(tokens))
		for i, t := range tokens {
			views[i] = viewToken(t, now)
		}
		return views, err
	}, func(t *TokenView) string { return t.ID })
}

// RevokeToken makes an enrolment token, given by id or name, admit nobody any
// more.
func (s *Service) RevokeToken(ctx context.Context, actor Actor, ref string) (TokenView, error) {
	now := s.now().UTC()
	var t store.Token
	if !isText(ref) {
		return TokenView{}, fault.New(fault.NotFound, "there is no enrolment token %q", ref)
	}
	err := s.store.Write(ctx, func(tx *store.Tx) error {
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
		tx.Audit(s.entry(actor, "token.revoke", t.ID, before, t))
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
