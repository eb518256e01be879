// Package upkeep does work that comes back: it calls a function again and
// again until it is told to stop. What the work is, is its caller's to decide.
package upkeep

import (
	"context"
	"sync"
	"time"
)

// Interval is how often the work is done. The first time is after one of them:
// a clock that is wrong at the start may be right by then.
const Interval = time.Hour

// Loop is work in the background. The zero value has none; Start is called at
// most once.
type Loop struct {
	stop       context.CancelFunc
	background sync.WaitGroup
}

// Start begins to call work every Interval. It returns at once; Shutdown ends
// it.
func (l *Loop) Start(ctx context.Context, work func(ctx context.Context)) {
	ctx, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	l.background.Go(func() {
		tick := time.NewTicker(Interval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				work(ctx)
			}
		}
	})
}

// Shutdown ends the work and returns when it has ended.
func (l *Loop) Shutdown() {
	if l.stop != nil {
		l.stop()
	}
	l.background.Wait()
}
