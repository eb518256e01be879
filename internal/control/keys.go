package control

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"interdict/internal/control/audience"
	"interdict/internal/control/ca"
	"interdict/internal/store"
)

// The names of keys in the store.
const (
	keyAuthority = "certificate_authority"
	keyBundle    = "bundle_signing"
	keyProgram   = "program"
)

// compilerVersion goes up when the same configuration compiles to something
// else.
const compilerVersion = 1

// loadKeys reads the keys of certificate authority and bundles, which the
// first server makes.
func (s *Service) loadKeys(ctx context.Context) error {
	newAuthority, err := ca.Create(s.now())
	if err != nil {
		return err
	}
	_, newBundle, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("making the key for bundles: %w", err)
	}
	var authority, seed []byte
	err = s.store.Write(ctx, func(tx *store.Tx) error {
		authority, err = tx.EnsureKey(keyAuthority, newAuthority)
		if err != nil {
			return err
		}
		seed, err = tx.EnsureKey(keyBundle, newBundle.Seed())
		return err
	})
	if err != nil {
		return fmt.Errorf("keeping the server's keys: %w", err)
	}
	if len(seed) != ed25519.SeedSize {
		return fmt.Errorf("reading the key for bundles: it has %d bytes instead of %d", len(seed), ed25519.SeedSize)
	}
	if s.authority, err = ca.Load(authority); err != nil {
		return err
	}
	private := ed25519.NewKeyFromSeed(seed)
	public, ok := private.Public().(ed25519.PublicKey)
	if !ok {
		return errors.New("reading the key for bundles: it has no public key")
	}
	s.servers, s.bundleKey, s.publisher = ca.NewServers(s.authority), public, audience.NewPublisher(private)
	return nil
}

// noteProgram makes a new revision if bundles follow from another catalog, or
// other rules, than when a server last started: a version of a bundle must
// never stand for two sets.
func (s *Service) noteProgram(ctx context.Context, c *Config) error {
	text, err := json.Marshal(struct {
		Version int
		Apps    any
		Hosts   []string
		URL     string
	}{compilerVersion, s.apps, c.Hosts, c.URL})
	if err != nil {
		return fmt.Errorf("describing the program: %w", err)
	}
	sum := sha256.Sum256(text)
	if _, err = s.store.Change(ctx, func(tx *store.Tx) error { return republish(tx, sum[:]) }); err != nil {
		return fmt.Errorf("noting the catalog in use: %w", err)
	}
	return nil
}

func republish(tx *store.Tx, program []byte) error {
	before, err := tx.Key(keyProgram)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if bytes.Equal(before, program) {
		return nil
	}
	return errors.Join(tx.SetKey(keyProgram, program), tx.Republish())
}
