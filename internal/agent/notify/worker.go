package notify

import (
	"context"
	"time"

	"interdict/internal/agent/notify/desktop"
)

// worker tells one user what there is to tell, and takes the user's time for
// that, nobody else's.
type worker struct {
	n     *Notifier
	uid   uint32
	queue chan message
	heard chan report

	// desk is the session in which something is open, nil for none; started
	// are those whose helper has not ended. They belong to run.
	desk    *desk
	started map[*desk]bool
}

// report is what a helper said.
type report struct {
	desk *desk
	desktop.Report
}

func newWorker(n *Notifier, uid uint32) *worker {
	return &worker{
		n: n, uid: uid, queue: make(chan message, waitingUser), heard: make(chan report), started: make(map[*desk]bool),
	}
}

// take takes a message in, unless too many wait already. A nil worker takes
// nothing.
func (w *worker) take(m message) bool {
	if w == nil {
		return false
	}
	select {
	case w.queue <- m:
		return true
	default:
		return false
	}
}

// run shows messages until ctx ends, or until nothing is open and nothing waits.
// It returns when all its helpers are gone.
func (w *worker) run(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		idle := w.n.idle
		if len(w.started) > 0 || len(w.queue) > 0 {
			idle = nil
		}
		select {
		case <-ctx.Done():
			for d := range w.started {
				d.helper.Close()
				<-d.helper.Ended()
			}
			return
		case m := <-w.queue:
			if err := w.show(ctx, m); err != nil {
				w.n.missed(w.uid, m.tells)
				w.n.cfg.Log.DebugContext(ctx, "notifying", "error", err, "uid", w.uid)
			}
		case r := <-w.heard:
			w.hear(ctx, r)
		case <-tick.C:
			w.closeOld()
		case idle <- w:
			return
		}
	}
}

// show hands a message to the helper in the user's session.
func (w *worker) show(ctx context.Context, m message) error {
	d := w.desk
	if d == nil {
		var err error
		if d, err = w.open(ctx); err != nil {
			return err
		}
		w.desk, w.started[d] = d, true
	}
	return w.put(d, m)
}
