package usage

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"interdict/internal/bundle"
)

// tally counts the uses since the last report.
type tally struct {
	// mu guards all below. It is taken on the packets' path.
	mu      sync.Mutex
	since   time.Time
	counts  map[key]int
	dropped int
}

func newTally(now time.Time) *tally { return &tally{since: now, counts: make(map[key]int)} }

// add counts one connection. Where there are too many different ones already
// it counts as dropped.
func (t *tally) add(k key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, known := t.counts[k]
	if !known && len(t.counts) >= bundle.MaxUses {
		t.dropped++
		return
	}
	t.counts[k] = n + 1
}

// take returns what was counted since it was last called, in order of hosts,
// programs and users.
func (t *tally) take(now time.Time) bundle.UsageReport {
	t.mu.Lock()
	r := bundle.UsageReport{Start: t.since.UTC(), End: now.UTC(), Dropped: t.dropped}
	counts := t.counts
	t.since, t.counts, t.dropped = now, make(map[key]int), 0
	t.mu.Unlock()

	for k, n := range counts {
		r.Uses = append(r.Uses, bundle.Use{Host: k.host, Process: k.process, User: k.user, Count: n})
	}
	slices.SortFunc(r.Uses, func(a, b bundle.Use) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Process, b.Process), cmp.Compare(a.User, b.User))
	})
	return r
}

// connections returns how many a report is about.
func connections(r bundle.UsageReport) int {
	n := r.Dropped
	for _, u := range r.Uses {
		n += u.Count
	}
	return n
}
