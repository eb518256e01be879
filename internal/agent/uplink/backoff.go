package uplink

import (
	"math/rand/v2"
	"time"
)

// The bounds of the pauses between attempts.
const (
	firstPause = 500 * time.Millisecond
	maxPause   = 30 * time.Second
)

// backoff makes the pauses between attempts that fail: they double up to
// maxPause, and half of each is random, so that ten thousand agents do not
// come back in the same instant. The zero value is ready for use.
type backoff struct{ failures int }

// next returns how long to wait after one more failure.
func (b *backoff) next() time.Duration {
	pause := maxPause
	if b.failures < 6 {
		pause = firstPause << b.failures
		b.failures++
	}
	return jitter(pause)
}

func (b *backoff) reset() { b.failures = 0 }

// jitter returns a duration between half of d and d.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1) //nolint:gosec // pauses are no secret
}
