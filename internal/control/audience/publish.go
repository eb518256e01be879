package audience

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"interdict/internal/bundle"
)

const (
	// validity is how long an agent may take a bundle in.
	validity = 7 * 24 * time.Hour
	// resign is how old a signature may get before it is made anew.
	resign = 12 * time.Hour
	// keptSets bounds the sets that differences can be made from, keptLines
	// their records; the latest set is kept however large it is.
	keptSets  = 64
	keptLines = 4_000_000
	// keptPacked bounds the packed bundles.
	keptPacked = 128
)

// Publisher signs and packs bundles. It is safe for concurrent use; what it
// packed once it hands out again.
type Publisher struct {
	key ed25519.PrivateKey

	// mu guards the following.
	mu sync.Mutex
	// sets are the recent sets by digest, order their digests, oldest first.
	sets   map[string]bundle.Set
	order  []string
	lines  int
	bodies fifo[route, *body]
	packed fifo[consignment, *packed]
}

// route leads from the set an agent has to the one it ought to have.
type route struct{ from, to string }

// consignment is one envelope: a route, signed for a version and a time.
type consignment struct {
	route
	version uint64
	period  int64
}

// body is the compressed part of an envelope, made once.
type body struct {
	once     sync.Once
	envelope bundle.Envelope
	err      error
}

// packed is an envelope in JSON, made once.
type packed struct {
	once sync.Once
	json []byte
	err  error
}

// NewPublisher returns a Publisher that signs with key.
func NewPublisher(key ed25519.PrivateKey) *Publisher {
	return &Publisher{
		key: key, sets: make(map[string]bundle.Set),
		bodies: newFIFO[route, *body](keptPacked), packed: newFIFO[consignment, *packed](keptPacked),
	}
}

// Remember keeps a set, so that differences from it can be made once it is
// outdated.
func (p *Publisher) Remember(digest string, set bundle.Set) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.sets[digest]; ok {
		return
	}
	p.sets[digest] = set
	p.order = append(p.order, digest)
	p.lines += set.Len()
	for len(p.order) > keptSets || p.lines > keptLines && len(p.order) > 1 {
		oldest := p.order[0]
		p.order = p.order[1:]
		p.lines -= p.sets[oldest].Len()
		delete(p.sets, oldest)
	}
}

// Envelope returns the audience's bundle under a version as JSON: the
// difference from a set with the digest from, or the whole if that set is not
// known any more. All callers share the bytes.
func (p *Publisher) Envelope(a *Audience, version uint64, from string, now time.Time) ([]byte, error) {
	p.mu.Lock()
	base, known := p.sets[from]
	if !known {
		from = ""
	}
	r := route{from: from, to: a.Digest}
	c := consignment{route: r, version: version, period: now.Unix() / int64(resign/time.Second)}
	b := p.bodies.get(r, func() *body { return &body{} })
	e := p.packed.get(c, func() *packed { return &packed{} })
	p.mu.Unlock()

	e.once.Do(func() { e.json, e.err = p.pack(a, version, base, b, r, now) })
	return e.json, e.err
}

func (p *Publisher) pack(a *Audience, version uint64, base bundle.Set, b *body, r route, now time.Time) ([]byte, error) {
	b.once.Do(func() { b.envelope, b.err = bundle.Seal(nil, nil, r.from, bundle.Diff(base, a.Set)) })
	if b.err != nil {
		return nil, b.err
	}
	header, signature, err := bundle.SignHeader(p.key, bundle.Header{
		Audience: a.Key, Version: version, IssuedAt: now.UTC(), NotAfter: now.Add(validity).UTC(),
	}, a.Set)
	if err != nil {
		return nil, err
	}
	e := b.envelope
	e.Header, e.Signature = header, signature
	packed, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("writing bundle %d: %w", version, err)
	}
	return packed, nil
}

// fifo keeps the latest values made, up to a limit.
type fifo[K comparable, V any] struct {
	limit  int
	values map[K]V
	order  []K
}

func newFIFO[K comparable, V any](limit int) fifo[K, V] {
	return fifo[K, V]{limit: limit, values: make(map[K]V)}
}

// get returns the value under k, which make makes if there is none.
func (f *fifo[K, V]) get(k K, make func() V) V {
	if v, ok := f.values[k]; ok {
		return v
	}
	v := make()
	f.values[k] = v
	f.order = append(f.order, k)
	if len(f.order) > f.limit {
		delete(f.values, f.order[0])
		f.order = f.order[1:]
	}
	return v
}
