package ca

import (
	"crypto/tls"
	"slices"
	"sync"
	"time"
)

// Servers keeps the server's certificate and makes a new one when a third of
// its lifetime is left, or when it is asked for other names. It is safe for
// concurrent use.
type Servers struct {
	authority *Authority

	// mu guards the following.
	mu      sync.Mutex
	hosts   []string
	current tls.Certificate
}

// NewServers returns a Servers without a certificate yet.
func NewServers(a *Authority) *Servers { return &Servers{authority: a} }

// Certificate returns a certificate for these names and addresses.
func (s *Servers) Certificate(hosts []string, now time.Time) (tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	leaf := s.current.Leaf
	if leaf != nil && slices.Equal(hosts, s.hosts) && leaf.NotAfter.Sub(now) > ServerLifetime/3 && !now.Before(leaf.NotBefore) {
		return s.current, nil
	}
	made, err := s.authority.SignServer(hosts, now)
	if err != nil {
		return tls.Certificate{}, err
	}
	s.hosts, s.current = slices.Clone(hosts), made
	return made, nil
}
