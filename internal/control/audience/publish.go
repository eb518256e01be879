package audience

import (
	"cmp"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"interdict/internal/bundle"
)

const (
	// validity is how long an agent may take a bundle in.
	validity = 7 * 24 * time.Hour
	// resign is how old a signature may get before it is made anew.
	resign = 12 * time.Hour
	// keptSets, or twice the sets in force if that is more, and keptLines bound
	// the sets that differences can be made from, and their records.
	keptSets  = 2048
	keptLines = 4_000_000
	// keptBytes bounds the packed bundles.
	keptBytes = 128 << 20
)

// Publisher signs and packs bundles. It is safe for concurrent use; what it
// packed once it hands out again.
type Publisher struct {
	key ed25519.PrivateKey

	// mu guards the following.
	mu sync.Mutex
	// sets are the recent sets by digest, lines their records. clock counts
	// what was remembered.
	sets  map[string]*remembered
	lines int
	clock uint64
	// packed are the packed bundles, order their keys, oldest first, bytes
	// their size.
	packed map[consignment]*packed
	order  []consignment
	bytes  int
}

type remembered struct {
	set bundle.Set
	// at is when it was last remembered.
	at uint64
}

// consignment is one envelope: from the set an agent has to the one it ought
// to have, signed for a version and a time.
type consignment struct {
	from, to string
	version  uint64
	period   int64
}

// packed is an envelope in JSON, made once.
type packed struct {
	once sync.Once
	json []byte
	err  error
	// size is what was counted for it, guarded by the Publisher's mu.
	size int
}

// NewPublisher returns a Publisher that signs with key.
func NewPublisher(key ed25519.PrivateKey) *Publisher {
	return &Publisher{key: key, sets: make(map[string]*remembered), packed: make(map[consignment]*packed)}
}

// Remember keeps the sets in force, so that differences from them can be made
// once they are outdated, and forgets those that have been outdated longest.
func (p *Publisher) Remember(audiences []*Audience) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clock++
	for _, a := range audiences {
		r, ok := p.sets[a.Digest]
		if !ok {
			r = &remembered{set: a.Set}
			p.sets[a.Digest] = r
			p.lines += a.Set.Len()
		}
		r.at = p.clock
	}
	p.forgetOutdated(max(keptSets, 2*len(audiences)))
}

// forgetOutdated forgets sets that are not in force, those first that have been
// so for longest, until there are no more than most, and not too many records.
func (p *Publisher) forgetOutdated(most int) {
	tooMany := func() bool { return len(p.sets) > most || p.lines > keptLines }
	if !tooMany() {
		return
	}
	var outdated []string
	for digest, r := range p.sets {
		if r.at < p.clock {
			outdated = append(outdated, digest)
		}
	}
	slices.SortFunc(outdated, func(a, b string) int { return cmp.Compare(p.sets[a].at, p.sets[b].at) })
	for _, digest := range outdated {
		if !tooMany() {
			return
		}
		p.lines -= p.sets[digest].set.Len()
		delete(p.sets, digest)
	}
}

// Envelope returns the audience's bundle under a version as JSON: the
// difference from a set with the digest from, or the whole if that set is not
// known any more. All callers share the bytes.
func (p *Publisher) Envelope(a *Audience, version uint64, from string, now time.Time) ([]byte, error) {
	p.mu.Lock()
	var base bundle.Set
	if r, known := p.sets[from]; known {
		base = r.set
	} else {
		from = ""
	}
	c := consignment{from: from, to: a.Digest, version: version, period: now.Unix() / int64(resign/time.Second)}
	e, ok := p.packed[c]
	if !ok {
		e = &packed{}
		p.packed[c], p.order = e, append(p.order, c)
	}
	p.mu.Unlock()

	e.once.Do(func() {
		e.json, e.err = p.pack(a, version, from, base, now)
		p.account(c, e)
	})
	return e.json, e.err
}

// account counts a bundle that was just packed, unless it was forgotten
// meanwhile, and forgets the oldest if there are too many.
func (p *Publisher) account(c consignment, e *packed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.packed[c] != e {
		return
	}
	e.size = len(e.json)
	p.bytes += e.size
	for p.bytes > keptBytes && len(p.order) > 1 {
		oldest := p.order[0]
		p.order = p.order[1:]
		p.bytes -= p.packed[oldest].size
		delete(p.packed, oldest)
	}
}

func (p *Publisher) pack(a *Audience, version uint64, from string, base bundle.Set, now time.Time) ([]byte, error) {
	header, signature, err := bundle.SignHeader(p.key, bundle.Header{
		Audience: a.Key, Version: version, IssuedAt: now.UTC(), NotAfter: now.Add(validity).UTC(),
	}, a.Set)
	if err != nil {
		return nil, err
	}
	e, err := bundle.Seal(header, signature, from, bundle.Diff(base, a.Set))
	if err != nil {
		return nil, err
	}
	packed, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("writing bundle %d: %w", version, err)
	}
	return packed, nil
}
