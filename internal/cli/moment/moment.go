// Package moment reads points in time as people type them: 90m, 7d,
// 2026-12-31 or 2026-12-31T18:00:00Z.
package moment

import (
	"strconv"
	"strings"
	"time"

	"interdict/internal/fault"
)

// parseSpan reads a span of time: what time.ParseDuration reads, and days as
// in "7d".
func parseSpan(s string) (time.Duration, bool) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 36500 {
			return 0, false
		}
		return time.Duration(n) * 24 * time.Hour, true
	}
	d, err := time.ParseDuration(s)
	return d, err == nil && d >= 0
}

// Direction says on which side of now a span of time lies.
type Direction int

// The directions.
const (
	Ahead Direction = iota
	Ago
)

// Parse reads a point in time: RFC 3339, a date (its first instant in UTC), or
// a span of time from now in a direction. name is what people call it.
func Parse(name, s string, now time.Time, dir Direction) (time.Time, error) {
	if d, ok := parseSpan(s); ok {
		if dir == Ago {
			d = -d
		}
		return now.Add(d).UTC(), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fault.New(fault.Invalid, "%s %q is not a time", name, s).
		WithHint("write 90m, 24h, 7d, 2026-12-31 or 2026-12-31T18:00:00Z")
}
