package control

import (
	"slices"
	"sync"
	"time"

	"interdict/internal/fleet"
)

// maxMoments bounds how many changes it is remembered of when they were made.
const maxMoments = 1000

// moments are when changes were made, of the newest since this server started.
// The zero value knows none.
type moments struct {
	// mu guards the following.
	mu sync.Mutex
	// revisions grow, and at has the moment of each.
	revisions []uint64
	at        []time.Time
}

// note remembers when a change was made; the earliest time counts.
func (m *moments) note(revision uint64, at time.Time) {
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
func (m *moments) of(revision uint64) (time.Time, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, known := slices.BinarySearch(m.revisions, revision)
	if !known {
		return time.Time{}, false
	}
	return m.at[i], true
}

// lag is how long the newest change to what some devices have to enforce took
// to come to them.
type lag struct {
	revision uint64
	took     time.Duration
}

// add takes a device in.
func (l *lag) add(d *fleet.Device, moments *moments) {
	if d.DesiredSince < l.revision {
		return
	}
	if d.DesiredSince > l.revision {
		*l = lag{revision: d.DesiredSince}
	}
	made, known := moments.of(l.revision)
	if known && d.State() == fleet.StateApplied && d.Applied.Since.After(made) {
		l.took = max(l.took, d.Applied.Since.Sub(made))
	}
}
