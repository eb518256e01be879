package process

import (
	"container/list"
	"sync"
)

// cache keeps the entries that were used last, at most limit of them. It is
// safe for concurrent use.
type cache[K comparable, V any] struct {
	limit int

	mu      sync.Mutex // Guards what follows.
	entries map[K]*list.Element
	// used has the entries in order of use, the latest first.
	used *list.List
}

type cacheEntry[K comparable, V any] struct {
	key   K
	value V
}

func newCache[K comparable, V any](limit int) *cache[K, V] {
	return &cache[K, V]{limit: limit, entries: make(map[K]*list.Element), used: list.New()}
}

func (c *cache[K, V]) get(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok {
		return value, false
	}
	c.used.MoveToFront(e)
	return e.Value.(*cacheEntry[K, V]).value, true //nolint:errcheck // The list holds nothing else.
}

func (c *cache[K, V]) put(key K, value V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[key]; ok {
		e.Value.(*cacheEntry[K, V]).value = value //nolint:errcheck // The list holds nothing else.
		c.used.MoveToFront(e)
		return
	}
	c.entries[key] = c.used.PushFront(&cacheEntry[K, V]{key, value})
	if c.used.Len() > c.limit {
		oldest := c.used.Back()
		delete(c.entries, c.used.Remove(oldest).(*cacheEntry[K, V]).key) //nolint:errcheck // The list holds nothing else.
	}
}

// values are all values, the one used last first. It does not count as a use.
func (c *cache[K, V]) values() []V {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]V, 0, c.used.Len())
	for e := c.used.Front(); e != nil; e = e.Next() {
		all = append(all, e.Value.(*cacheEntry[K, V]).value) //nolint:errcheck // The list holds nothing else.
	}
	return all
}

func (c *cache[K, V]) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used.Len()
}
