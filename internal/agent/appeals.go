package agent

import (
	"context"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"interdict/internal/access"
	"interdict/internal/agent/appeal"
	"interdict/internal/agent/notify"
	"interdict/internal/agent/notify/desktop"
	"interdict/internal/agent/notify/session"
	"interdict/internal/agent/state"
	"interdict/internal/bypass"
	"interdict/internal/event"
	"interdict/internal/fleet"
)

// users is what the users of this machine are told, and what they may do.
type users struct {
	a        *agent
	appeals  *appeal.Appeals
	notifier *notify.Notifier
	// url is the address of the page about a refusal; empty for none.
	url func(id string) string
}

// newUsers makes what users see. Nothing happens before run.
func (a *agent) newUsers() *users {
	u := &users{a: a, url: func(string) string { return "" }}
	settings := func() fleet.Settings { return a.enforcer.settings() }
	config := appeal.Config{
		File: a.cfg.Dir.Path(state.FileAppeals), Device: a.id.DeviceID, Settings: settings, Record: a.journal.Record,
		Changed: u.changed, Now: time.Now, Log: a.cfg.Log,
		Answered: func(ctx context.Context, r access.Request, id string) { u.notifier.Answered(ctx, r, id) },
	}
	if a.managed() {
		config.Send = func(ctx context.Context, r access.Request) (access.Request, error) { return a.uplink.Request(ctx, r) }
	}
	u.appeals = appeal.New(config)
	u.notifier = notify.New(notify.Config{
		Settings: settings, Now: time.Now, Log: a.cfg.Log, URL: u.url,
		Session: session.New(session.Config{SystemBus: session.SystemBus, Proc: os.DirFS("/proc"), Etc: os.DirFS("/etc")}).Find,
		Start: func(ctx context.Context, s session.Session, heard func(desktop.Report)) (notify.Helper, error) {
			return desktop.Start(ctx, a.cfg.Desktop, s, heard)
		},
		Continue: u.appeals.Continue, Request: u.appeals.Request,
	})
	return u
}

// refused takes in what somebody was refused, and returns the address of the
// page that says why; empty for what is no refusal, or of nobody. It does not
// block.
func (u *users) refused(e event.Event) (url string) {
	r, ok := u.appeals.Refused(e)
	if !ok {
		return ""
	}
	if s, ok := u.appeals.Standing(r.ID); ok {
		u.notifier.Refused(s)
	}
	return u.url(r.ID)
}

// why is refused, but tells the user nothing.
func (u *users) why(e event.Event) (url string) {
	r, ok := u.appeals.Refused(e)
	if !ok {
		return ""
	}
	return u.url(r.ID)
}

// changed has bypasses of warnings count from now on, and no others.
func (u *users) changed(ctx context.Context, all []bypass.Bypass) {
	if err := u.a.enforcer.SetBypasses(ctx, all); err != nil {
		u.a.cfg.Log.ErrorContext(ctx, "letting users go on after a warning", "error", err)
	}
}

// answered takes in the requests for access as the server has them.
func (u *users) answered(all []access.Request) {
	u.appeals.Requests(context.Background(), all)
}

// run tells users what happens, and does what they ask for, until ctx ends.
func (u *users) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return u.appeals.Run(ctx) })
	g.Go(func() error { return u.notifier.Run(ctx) })
	return g.Wait()
}
