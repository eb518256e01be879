// Package gate decides when a caller who keeps failing to show who they are
// has to wait.
//
// Only failures count. Secrets are too long to be guessed, so the gate is
// there to keep noise and its cost down: an API asks it after a failure
// (Failed), and so never keeps a caller with a good token waiting for what
// somebody else did behind the same address; only where every attempt is costly
// it asks before (Wait).
package gate

import (
	"container/list"
	"math"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The bounds of a gate.
const (
	// burst failures of one address are answered at once, then one every
	// refill.
	burst  = 10
	refill = 3 * time.Second
	// maxAddresses bounds the memory. The one that failed longest ago is
	// forgotten first.
	maxAddresses = 4096
)

// Gate counts failures by address; an IPv6 address stands for its /64. It is
// safe for concurrent use.
type Gate struct {
	now func() time.Time

	mu      sync.Mutex // guards what follows
	callers map[string]*list.Element
	order   *list.List // of *caller, the last to fail in front
}

type caller struct {
	key     string
	limiter *rate.Limiter
}

// New returns a gate that goes by the clock now.
func New(now func() time.Time) *Gate {
	return &Gate{now: now, callers: make(map[string]*list.Element), order: list.New()}
}

// Failed counts a failure of a caller at source, an address, and returns how
// long it has to wait; 0 lets it off.
func (g *Gate) Failed(source string) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	l := g.limiter(key(source))
	if l.AllowN(now, 1) {
		return 0
	}
	return waitFor(l, now)
}

// Wait returns how long a caller at source has to wait for what it failed at
// before; 0 lets it go on. It counts nothing.
func (g *Gate) Wait(source string) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	e, ok := g.callers[key(source)]
	if !ok {
		return 0
	}
	return waitFor(e.Value.(*caller).limiter, g.now()) //nolint:errcheck,forcetypeassert // the list holds nothing else
}

// waitFor returns how long it takes, in whole seconds, until the limiter lets
// one more through.
func waitFor(l *rate.Limiter, now time.Time) time.Duration {
	missing := 1 - l.TokensAt(now)
	if missing <= 0 {
		return 0
	}
	return time.Duration(math.Ceil(missing*refill.Seconds())) * time.Second
}

// limiter returns the limiter of a key. The caller holds the lock.
func (g *Gate) limiter(key string) *rate.Limiter {
	if e, ok := g.callers[key]; ok {
		g.order.MoveToFront(e)
		return e.Value.(*caller).limiter //nolint:errcheck,forcetypeassert // the list holds nothing else
	}
	if g.order.Len() >= maxAddresses {
		oldest := g.order.Back()
		delete(g.callers, g.order.Remove(oldest).(*caller).key) //nolint:errcheck,forcetypeassert // as above
	}
	c := &caller{key: key, limiter: rate.NewLimiter(rate.Every(refill), burst)}
	g.callers[key] = g.order.PushFront(c)
	return c.limiter
}

// key is what a source is counted under. Whoever has an IPv6 address usually
// has its whole /64.
func key(source string) string {
	a, err := netip.ParseAddr(source)
	if err != nil || a.Unmap().Is4() {
		return source
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return source
	}
	return p.String()
}
