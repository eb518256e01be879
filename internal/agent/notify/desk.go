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
	uid    uint32
	texts  *wording.Texts
	helper Helper
	// open are the notifications, the oldest first.
	open []notification
}

// notification is one that the user was shown.
type notification struct {
	key     string
	refusal string
	actions []string
	since   time.Time
}

// open starts a helper in a user's session.
func (n *Notifier) open(ctx context.Context, uid uint32) (*desk, error) {
	findCtx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	s, err := n.cfg.Session(findCtx, uid)
	if err != nil {
		return nil, err
	}
	d := &desk{uid: uid, texts: wording.For(s.Language)}
	d.helper, err = n.cfg.Start(ctx, s, func(r desktop.Report) {
		select {
		case n.heard <- report{d, r}:
		case <-ctx.Done():
		}
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// put shows a message on a desk. Where too many are open the oldest goes.
func (n *Notifier) put(d *desk, m message) error {
	shown := m.compose(d.texts)
	if shown.Key = m.replaces; shown.Key == "" {
		n.number++
		shown.Key = strconv.FormatUint(n.number, 10)
	}
	d.forget(shown.Key)
	if len(d.open) >= maxOpen {
		_ = d.helper.Withdraw(d.open[0].key)
		d.open = d.open[1:]
	}
	entry := notification{key: shown.Key, refusal: m.refusal, since: n.cfg.Now()}
	for _, a := range shown.Actions {
		entry.actions = append(entry.actions, a.Name)
	}
	d.open = append(d.open, entry)
	if err := d.helper.Show(shown); err != nil {
		n.close(d)
		return err
	}
	return nil
}

func (d *desk) forget(key string) {
	d.open = slices.DeleteFunc(d.open, func(o notification) bool { return o.key == key })
}

// hear takes in what a helper says. It may be anything: it counts for what
// its user was shown, and for nothing else.
func (n *Notifier) hear(ctx context.Context, r report) {
	d := r.desk
	if r.Report == (desktop.Report{}) {
		// It is gone.
		delete(n.started, d)
		if n.desks[d.uid] == d {
			delete(n.desks, d.uid)
		}
		return
	}
	i := slices.IndexFunc(d.open, func(o notification) bool { return o.key == r.Key })
	if i < 0 || n.desks[d.uid] != d {
		return
	}
	shown := d.open[i]
	switch r.What {
	case desktop.Shown:
		if len(shown.actions) == 0 {
			d.forget(r.Key)
		}
	case desktop.Invoked:
		if slices.Contains(shown.actions, r.Action) {
			// Each notification is answered once.
			d.open[i].actions = nil
			n.act(ctx, d, shown, r.Action)
		}
	case desktop.Closed, desktop.Failed:
		d.forget(r.Key)
		if r.What == desktop.Failed {
			n.cfg.Log.DebugContext(ctx, "notifying", "error", r.Text, "uid", d.uid)
		}
	}
	if len(d.open) == 0 {
		n.close(d)
	}
}

// act does what a button says. Where that does not work, or a reason is to be
// given, the why page has the same buttons and room to say why.
func (n *Notifier) act(ctx context.Context, d *desk, shown notification, action string) {
	reason := ""
	settings := n.cfg.Settings()
	if settings.BypassReason != fleet.Required {
		switch action {
		case actionContinue:
			if b, err := n.cfg.Continue(ctx, shown.refusal, d.uid, reason); err == nil {
				n.confirm(ctx, d, shown, func(t *wording.Texts) desktop.Message { return continued(t, &b, n.cfg.Now()) })
				return
			}
		case actionRequest:
			if r, err := n.cfg.Request(ctx, shown.refusal, d.uid, reason); err == nil {
				n.confirm(ctx, d, shown, func(t *wording.Texts) desktop.Message { return requested(t, &r) })
				return
			}
		}
	}
	if url := n.cfg.URL(shown.refusal); url != "" {
		_ = d.helper.Open(desktop.Page{Key: shown.key, URL: url})
	}
}

// confirm tells the user in the place of a notification what its button did.
func (n *Notifier) confirm(ctx context.Context, d *desk, shown notification, compose func(*wording.Texts) desktop.Message) {
	if err := n.put(d, message{uid: d.uid, compose: compose, replaces: shown.key}); err != nil {
		n.cfg.Log.DebugContext(ctx, "notifying", "error", err, "uid", d.uid)
	}
}

// close has a helper end when it has done what it was told.
func (n *Notifier) close(d *desk) {
	delete(n.desks, d.uid)
	d.helper.Close()
}

// closeOld ends the buttons of notifications that nobody has answered.
func (n *Notifier) closeOld() {
	now := n.cfg.Now()
	for _, d := range n.desks {
		d.open = slices.DeleteFunc(d.open, func(o notification) bool {
			old := now.Sub(o.since) >= openFor
			if old {
				_ = d.helper.Withdraw(o.key)
			}
			return old
		})
		if len(d.open) == 0 {
			n.close(d)
		}
	}
}
