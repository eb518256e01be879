package notify

import (
	"context"
	"slices"
	"strconv"
	"time"

	"interdict/internal/agent/notify/desktop"
	"interdict/internal/agent/wording"
	"interdict/internal/fleet"
)

// desk is a user's session in which something is open.
type desk struct {
	texts  *wording.Texts
	helper Helper
	// open are the notifications, the oldest first.
	open []notification
}

// notification is one that the user was shown.
type notification struct {
	key     string
	refusal string
	// tells is what the user knows once it is shown; zero when it was.
	tells   recipient
	actions []string
	since   time.Time
}

// open starts a helper in a user's session.
func (w *worker) open(ctx context.Context) (*desk, error) {
	findCtx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	s, err := w.n.cfg.Session(findCtx, w.uid)
	if err != nil {
		return nil, err
	}
	d := &desk{texts: wording.For(s.Language)}
	d.helper, err = w.n.cfg.Start(ctx, s, func(r desktop.Report) {
		select {
		case w.heard <- report{d, r}:
		case <-ctx.Done():
		}
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// put shows a message on a desk. Where too many are open the oldest goes.
func (w *worker) put(d *desk, m message) error {
	shown := m.compose(d.texts)
	if shown.Key = m.replaces; shown.Key == "" {
		shown.Key = strconv.FormatUint(w.n.number.Add(1), 10)
	}
	d.forget(shown.Key)
	if len(d.open) >= maxOpen {
		_ = d.helper.Withdraw(d.open[0].key)
		w.n.missed(w.uid, d.open[0].tells)
		d.open = d.open[1:]
	}
	entry := notification{key: shown.Key, refusal: m.refusal, tells: m.tells, since: w.n.cfg.Now()}
	for _, a := range shown.Actions {
		entry.actions = append(entry.actions, a.Name)
	}
	d.open = append(d.open, entry)
	if err := d.helper.Show(shown); err != nil {
		w.close(d)
		return err
	}
	return nil
}

func (d *desk) forget(key string) {
	d.open = slices.DeleteFunc(d.open, func(o notification) bool { return o.key == key })
}

// hear takes in what a helper says. It may be anything: it counts for what
// its user was shown, and for nothing else.
func (w *worker) hear(ctx context.Context, r report) {
	d := r.desk
	if r.Report == (desktop.Report{}) {
		// It is gone, and with it what it did not say that it showed.
		delete(w.started, d)
		for _, o := range d.open {
			w.n.missed(w.uid, o.tells)
		}
		if w.desk == d {
			w.desk = nil
		}
		return
	}
	i := slices.IndexFunc(d.open, func(o notification) bool { return o.key == r.Key })
	if i < 0 || w.desk != d {
		return
	}
	shown := d.open[i]
	switch r.What {
	case desktop.Shown:
		d.open[i].tells = recipient{}
		if len(shown.actions) == 0 {
			d.forget(r.Key)
		}
	case desktop.Invoked:
		if slices.Contains(shown.actions, r.Action) {
			// Each notification is answered once.
			d.open[i].actions = nil
			w.act(ctx, d, shown, r.Action)
		}
	case desktop.Closed, desktop.Failed:
		d.forget(r.Key)
		if r.What == desktop.Failed {
			w.n.missed(w.uid, shown.tells)
			w.n.cfg.Log.DebugContext(ctx, "notifying", "error", r.Text, "uid", w.uid)
		}
	}
	if len(d.open) == 0 {
		w.close(d)
	}
}

// act does what a button says. Where that does not work, or a reason is to be
// given, the why page has the same buttons and room to say why.
func (w *worker) act(ctx context.Context, d *desk, shown notification, action string) {
	reason := ""
	settings := w.n.cfg.Settings()
	if settings.BypassReason != fleet.Required {
		switch action {
		case actionContinue:
			if b, err := w.n.cfg.Continue(ctx, shown.refusal, w.uid, reason); err == nil {
				w.confirm(ctx, d, shown, func(t *wording.Texts) desktop.Message { return continued(t, &b, w.n.cfg.Now()) })
				return
			}
		case actionRequest:
			if r, err := w.n.cfg.Request(ctx, shown.refusal, w.uid, reason); err == nil {
				w.confirm(ctx, d, shown, func(t *wording.Texts) desktop.Message { return requested(t, &r) })
				return
			}
		}
	}
	if url := w.n.cfg.URL(shown.refusal); url != "" {
		_ = d.helper.Open(desktop.Page{Key: shown.key, URL: url})
	}
}

// confirm tells the user in the place of a notification what its button did.
func (w *worker) confirm(ctx context.Context, d *desk, shown notification, compose func(*wording.Texts) desktop.Message) {
	if err := w.put(d, message{uid: w.uid, compose: compose, replaces: shown.key}); err != nil {
		w.n.cfg.Log.DebugContext(ctx, "notifying", "error", err, "uid", w.uid)
	}
}

// close has a helper end when it has done what it was told.
func (w *worker) close(d *desk) {
	if w.desk == d {
		w.desk = nil
	}
	d.helper.Close()
}

// closeOld ends the buttons of notifications that nobody has answered.
func (w *worker) closeOld() {
	d := w.desk
	if d == nil {
		return
	}
	now := w.n.cfg.Now()
	d.open = slices.DeleteFunc(d.open, func(o notification) bool {
		old := now.Sub(o.since) >= openFor
		if old {
			_ = d.helper.Withdraw(o.key)
		}
		return old
	})
	if len(d.open) == 0 {
		w.close(d)
	}
}
