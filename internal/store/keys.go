package store

import (
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// EnsureKey returns the key with a name. If there is none, it keeps and
// returns value; of several servers that try at the same time one wins.
func (tx *Tx) EnsureKey(name string, value []byte) ([]byte, error) {
	_, err := tx.exec(`INSERT INTO server_keys (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`, name, value)
	if err != nil {
		return nil, fmt.Errorf("writing key %q: %w", name, err)
	}
	var kept []byte
	if err := tx.row(`SELECT value FROM server_keys WHERE name = $1`, name).Scan(&kept); err != nil {
		return nil, fmt.Errorf("reading key %q: %w", name, err)
	}
	return kept, nil
}

// Key returns the key with a name, or ErrNotFound.
func (tx *Tx) Key(name string) ([]byte, error) {
	var value []byte
	switch err := tx.row(`SELECT value FROM server_keys WHERE name = $1`, name).Scan(&value); {
	case errors.Is(err, sql.ErrNoRows):
		return nil, fmt.Errorf("reading key %q: %w", name, ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("reading key %q: %w", name, err)
	}
	return value, nil
}

// SetKey keeps value under a name, whatever was there.
func (tx *Tx) SetKey(name string, value []byte) error {
	_, err := tx.exec(`INSERT INTO server_keys (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
	if err != nil {
		return fmt.Errorf("writing key %q: %w", name, err)
	}
	return nil
}

// APIToken is a token for the admin API. Its secret is kept as a hash only,
// outside this type.
type APIToken struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Role      string    `json:"role"`
	CreatedAt time.Time `json:"created_at"`
}
