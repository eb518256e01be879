// Package credential decides how those without a certificate show who they
// are: what their secrets look like, what is kept of them, and whose API token
// a secret is. What its owner may do is the role's to say.
//
// A secret has at least 256 random bits, so its SHA-256 is all that is kept;
// the secret itself is shown once, to whom it is made for.
package credential

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"strings"

	"github.com/oklog/ulid/v2"

	"interdict/internal/control"
	"interdict/internal/control/input"
	"interdict/internal/fault"
	"interdict/internal/store"
)

// apiPrefix starts every API token, so that people and scanners for leaked
// secrets recognise one.
const apiPrefix = "ida1_"

// Hash is what is kept of a secret.
func Hash(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// Matches compares hashes, in a time that says nothing about them.
func Matches(kept, presented []byte) bool { return subtle.ConstantTimeCompare(kept, presented) == 1 }

// NewSecret makes a secret.
func NewSecret() string { return rand.Text() + rand.Text() }

// NewAPISecret makes the secret of an API token, for EnsureAPIToken.
func NewAPISecret() string { return apiPrefix + NewSecret() }

// Config is what a Service needs; all of it is required.
type Config struct {
	Control *control.Service
}

// Service has the use cases of API tokens. It is safe for concurrent use.
type Service struct {
	control *control.Service
}

// New returns a Service.
func New(c Config) *Service { return &Service{control: c.Control} }

// EnsureAPIToken makes an API token with this secret, unless there is one
// with it.
func (s *Service) EnsureAPIToken(ctx context.Context, name, secret string, role control.Role) error {
	var faults fault.Fields
	input.CheckName(&faults, name)
	if len(secret) < len(apiPrefix)+52 || !strings.HasPrefix(secret, apiPrefix) {
		faults.Add("secret", "must be one that the server made")
	}
	if !role.Valid() {
		faults.Add("role", "must be viewer, operator or administrator")
	}
	if err := faults.Err("the API token is not valid"); err != nil {
		return err
	}
	t := store.APIToken{ID: ulid.Make().String(), Name: name, Role: string(role), CreatedAt: s.control.Now().UTC()}
	return s.control.Write(ctx, func(tx *store.Tx) error {
		created, err := tx.EnsureAPIToken(t, Hash(secret))
		if created {
			tx.Audit(s.control.Entry(control.System("start"), control.ActionAPIToken, t.ID, nil, t))
		}
		return err
	})
}

// AuthenticateToken returns who presents an API token. The fault of one that
// is not known is Unauthorized.
func (s *Service) AuthenticateToken(ctx context.Context, presented string) (control.Actor, error) {
	hash := Hash(presented)
	var t store.APIToken
	var kept []byte
	err := s.control.View(ctx, func(tx *store.Tx) (err error) {
		t, kept, err = tx.APITokenBySecret(hash)
		return err
	})
	if errors.Is(err, store.ErrNotFound) || err == nil && !Matches(kept, hash) {
		return control.Actor{}, fault.New(fault.Unauthorized, "the token is not valid")
	}
	if err != nil {
		return control.Actor{}, err
	}
	return control.Actor{Kind: control.ActorToken, ID: t.ID, Name: t.Name, Role: control.Role(t.Role)}, nil
}
