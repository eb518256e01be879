package store

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
)

// Secrets of tokens are looked up by their SHA-256. A secret has 256 random
// bits, so the look-up tells nothing by the time it takes; the caller still
// compares the hash.

// CreateToken keeps a new enrolment token.
func (tx *Tx) CreateToken(t Token, secretHash []byte) error {
	doc, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("encoding enrolment token %q: %w", t.ID, err)
	}
	_, err = tx.exec(`INSERT INTO enrolment_tokens (id, name, secret_hash, used, doc) VALUES ($1, $2, $3, $4, $5)`,
		t.ID, t.Name, secretHash, t.Used, string(doc))
	if err != nil {
		return fmt.Errorf("writing enrolment token %q: %w", t.ID, err)
	}
	return nil
}

// TokenBySecret returns the enrolment token whose secret has the hash, and
// the hash, or ErrNotFound.
func (tx *Tx) TokenBySecret(secretHash []byte) (Token, []byte, error) {
	var kept, doc []byte
	var used int
	err := tx.row(`SELECT secret_hash, used, doc FROM enrolment_tokens WHERE secret_hash = $1`, secretHash).Scan(&kept, &used, &doc)
	if errors.Is(err, sql.ErrNoRows) {
		return Token{}, nil, fmt.Errorf("reading an enrolment token: %w", ErrNotFound)
	}
	if err != nil {
		return Token{}, nil, fmt.Errorf("reading an enrolment token: %w", err)
	}
	t, err := decodeToken(used, doc)
	return t, kept, err
}

func decodeToken(used int, doc []byte) (Token, error) {
	var t Token
	if err := json.Unmarshal(doc, &t); err != nil {
		return Token{}, fmt.Errorf("decoding an enrolment token: %w", err)
	}
	t.Used = used
	return t, nil
}

// UseToken counts one more use and reports whether one was left.
func (tx *Tx) UseToken(id string, uses int) (bool, error) {
	n, err := tx.exec(`UPDATE enrolment_tokens SET used = used + 1 WHERE id = $1 AND used < $2`, id, uses)
	if err != nil {
		return false, fmt.Errorf("counting the use of enrolment token %q: %w", id, err)
	}
	return n == 1, nil
}

// UpdateToken writes what can change of a token: everything but its secret
// and its count of uses.
func (tx *Tx) UpdateToken(t Token) error {
	doc, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("encoding enrolment token %q: %w", t.ID, err)
	}
	if _, err := tx.exec(`UPDATE enrolment_tokens SET doc = $2, name = $3 WHERE id = $1`, t.ID, string(doc), t.Name); err != nil {
		return fmt.Errorf("writing enrolment token %q: %w", t.ID, err)
	}
	return nil
}

// Tokens returns enrolment tokens, newest first: those older than the one
// with the id before, if it is not empty, at most limit.
func (tx *Tx) Tokens(before string, limit int) ([]Token, error) {
	var w where
	w.compare("id", "<", before)
	return tx.tokens("SELECT used, doc FROM enrolment_tokens"+w.String()+" ORDER BY id DESC LIMIT "+w.arg(limit), w.args...)
}

// TokensCalled returns the enrolment tokens with an id or a name.
func (tx *Tx) TokensCalled(ref string) ([]Token, error) {
	return tx.tokens(`SELECT used, doc FROM enrolment_tokens WHERE id = $1 OR name = $2 ORDER BY id`, ref, ref)
}

func (tx *Tx) tokens(query string, args ...any) ([]Token, error) {
	all := []Token{}
	err := tx.each(func(rows *sql.Rows) error {
		var used int
		var doc sql.RawBytes
		if err := rows.Scan(&used, &doc); err != nil {
			return err
		}
		t, err := decodeToken(used, doc)
		all = append(all, t)
		return err
	}, query, args...)
	if err != nil {
		return nil, fmt.Errorf("reading enrolment tokens: %w", err)
	}
	return all, nil
}

// EnsureAPIToken keeps an API token, unless there is one with the same
// secret, and reports whether it did.
func (tx *Tx) EnsureAPIToken(t APIToken, secretHash []byte) (bool, error) {
	doc, err := json.Marshal(t)
	if err != nil {
		return false, fmt.Errorf("encoding API token %q: %w", t.ID, err)
	}
	n, err := tx.exec(`INSERT INTO api_tokens (id, secret_hash, doc) VALUES ($1, $2, $3) ON CONFLICT (secret_hash) DO NOTHING`,
		t.ID, secretHash, string(doc))
	if err != nil {
		return false, fmt.Errorf("writing API token %q: %w", t.ID, err)
	}
	return n == 1, nil
}

// APITokenBySecret returns the API token whose secret has the hash, and the
// hash, or ErrNotFound.
func (tx *Tx) APITokenBySecret(secretHash []byte) (APIToken, []byte, error) {
	var kept, doc []byte
	err := tx.row(`SELECT secret_hash, doc FROM api_tokens WHERE secret_hash = $1`, secretHash).Scan(&kept, &doc)
	if errors.Is(err, sql.ErrNoRows) {
		return APIToken{}, nil, fmt.Errorf("reading an API token: %w", ErrNotFound)
	}
	if err != nil {
		return APIToken{}, nil, fmt.Errorf("reading an API token: %w", err)
	}
	var t APIToken
	if err := json.Unmarshal(doc, &t); err != nil {
		return APIToken{}, nil, fmt.Errorf("decoding an API token: %w", err)
	}
	return t, kept, nil
}
