// Package lag says how long a change takes from when it is made until devices
// enforce it.
package lag

import (
	"slices"
	"sync"
	"time"

	"interdict/internal/fleet"
)

// maxMoments bounds how many changes it is remembered of when they were made.
const maxMoments = 1000

// Moments are when changes were made, of the newest since this server started.
// The zero value knows none.
// It is safe for concurrent use.
type Moments struct {
	// mu guards the following.
	mu sync.Mutex
	// revisions grow, and at has the moment of each.
	revisions []uint64
	at        []time.Time
}

// Note remembers when a change was made; the earliest time counts.
func (m *Moments) Note(revision uint64, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, known := slices.BinarySearch(m.revisions, revision)
	if known {
		if at.Before(m.at[i]) {
			m.at[i] = at
		}
		return
	}
	m.revisions, m.at = slices.Insert(m.revisions, i, revision), slices.Insert(m.at, i, at)
	if more := len(m.revisions) - maxMoments; more > 0 {
		m.revisions, m.at = slices.Delete(m.revisions, 0, more), slices.Delete(m.at, 0, more)
	}
}

// of returns when a change was made, and whether that is known.
func (m *Moments) of(revision uint64) (time.Time, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, known := slices.BinarySearch(m.revisions, revision)
	if !known {
		return time.Time{}, false
	}
	return m.at[i], true
}

// Lag is how long the newest change to what some devices have to enforce took
// to come to them.
type Lag struct {
	Revision uint64
	Took     time.Duration
}

// Add takes a device in.
func (l *Lag) Add(d *fleet.Device, moments *Moments) {
	if d.DesiredSince < l.Revision {
		return
	}
	if d.DesiredSince > l.Revision {
		*l = Lag{Revision: d.DesiredSince}
	}
	made, known := moments.of(l.Revision)
	if known && d.State() == fleet.StateApplied && d.Applied.Since.After(made) {
		l.Took = max(l.Took, d.Applied.Since.Sub(made))
	}
}
