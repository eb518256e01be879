package audience

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"interdict/internal/bundle"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// customs are the records of custom indicators, ready in buckets by scope:
// of a hundred thousand indicators nearly all have the same few scopes.
type customs struct {
	protected *indicator.Protected
	buckets   map[string]*bucket
	// in says which bucket an indicator is in.
	in map[string]string
	// order are the keys of buckets, sorted, and scopes their scopes.
	order  []string
	scopes *fleet.Scopes
	// edition numbers the states of buckets.
	edition uint64
}

type bucket struct {
	scope   indicator.Scope
	set     bundle.Set
	edition uint64
}

func newCustoms(p *indicator.Protected) *customs {
	return &customs{protected: p, buckets: make(map[string]*bucket), in: make(map[string]string), scopes: fleet.NewScopes(nil)}
}

// bucketChange is what has to be done to one bucket.
type bucketChange struct {
	scope       indicator.Scope
	remove, put []bundle.Record
}

// update brings the buckets to the state.
func (c *customs) update(state *State, changed Changed) error {
	ids := changed.Indicators
	if changed.Everything {
		c.buckets, c.in = make(map[string]*bucket), make(map[string]string)
		ids = make(map[string]bool, len(state.Indicators))
		for id := range state.Indicators {
			ids[id] = true
		}
	}
	changes := make(map[string]*bucketChange)
	for id := range ids {
		c.collect(changes, id, state)
	}
	if len(changes) > 0 || changed.Everything {
		// Even if one of them fails: what is found has to be there.
		defer c.index()
	}
	for _, key := range slices.Sorted(maps.Keys(changes)) {
		if err := c.apply(key, changes[key]); err != nil {
			return err
		}
	}
	return nil
}

// index makes the buckets ready to be found.
func (c *customs) index() {
	c.order = slices.Sorted(maps.Keys(c.buckets))
	scopes := make([]indicator.Scope, len(c.order))
	for i, key := range c.order {
		scopes[i] = c.buckets[key].scope
	}
	c.scopes = fleet.NewScopes(scopes)
}

func (c *customs) collect(changes map[string]*bucketChange, id string, state *State) {
	change := func(key string) *bucketChange {
		if changes[key] == nil {
			changes[key] = &bucketChange{}
		}
		return changes[key]
	}
	if key, ok := c.in[id]; ok {
		before := change(key)
		before.remove = append(before.remove, bundle.Record{Kind: bundle.KindIndicator, Key: id})
		delete(c.in, id)
	}
	i, ok := state.Indicators[id]
	// Creating it checks this too, but the server may have moved since.
	if !ok || c.protected.Check(&i) != nil {
		return
	}
	key := scopeKey(i.Scope.Scope)
	now := change(key)
	now.scope, now.put = i.Scope.Scope, append(now.put, bundle.Indicator(i))
	c.in[id] = key
}

func (c *customs) apply(key string, change *bucketChange) error {
	b := c.buckets[key]
	if b == nil {
		b = &bucket{scope: change.scope}
	}
	set, err := b.set.Replace(change.remove, change.put)
	if err != nil {
		return err
	}
	if set.Len() == 0 {
		delete(c.buckets, key)
		return nil
	}
	c.edition++
	c.buckets[key] = &bucket{scope: b.scope, set: set, edition: c.edition}
	return nil
}

// covering returns the sets for devices in these groups, and a word that
// stays the same exactly as long as they do.
func (c *customs) covering(groups []string) ([]bundle.Set, string) {
	var sets []bundle.Set
	var word strings.Builder
	for _, i := range c.scopes.Covering(groups) {
		b := c.buckets[c.order[i]]
		sets = append(sets, b.set)
		word.WriteString(strconv.FormatUint(b.edition, 36))
		word.WriteByte(' ')
	}
	return sets, word.String()
}

func scopeKey(s indicator.Scope) string {
	include, exclude := slices.Sorted(slices.Values(s.Include)), slices.Sorted(slices.Values(s.Exclude))
	return strings.Join(include, " ") + "\n" + strings.Join(exclude, " ")
}
