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
	"interdict/internal/agent/why"
	"interdict/internal/bypass"
	"interdict/internal/event"
	"interdict/internal/fleet"
)

// users is what the users of this machine are told, and what they may do.
type users struct {
	a        *agent
	appeals  *appeal.Appeals
	notifier *notify.Notifier
	// page says why, and peers to whom; both are nil where there is no page.
	page  *why.Server
	peers *why.Peers
	// withdraw takes back where the page is said to be; nil for nowhere.
	withdraw func()
}

// newUsers makes what users see. Nothing happens before run; close must be
// called.
func (a *agent) newUsers(ctx context.Context) *users {
	u := &users{a: a}
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
	if err := u.open(ctx, settings); err != nil {
		// People are told on their desktops all the same.
		a.cfg.Log.WarnContext(ctx, "there is no page that says why something was refused", "error", err)
	}
	return u
}

// open opens the why page.
func (u *users) open(ctx context.Context, settings func() fleet.Settings) (err error) {
	if u.a.cfg.WhyListen == "" {
		return nil
	}
	if u.peers, err = why.OpenPeers(); err != nil {
		return err
	}
	u.page, err = why.Listen(ctx, why.Config{
		Listen: u.a.cfg.WhyListen, Appeals: u.appeals, Settings: settings, UID: u.peers.UID, Now: time.Now, Log: u.a.cfg.Log,
	})
	if err != nil {
		return err
	}
	if at := u.page.Address().String(); at != u.a.cfg.WhyListen {
		u.a.cfg.Log.InfoContext(ctx, "another program has the port of the why page, which is elsewhere now", "address", at)
	}
	if u.a.cfg.RuntimeDir == "" {
		return nil
	}
	u.withdraw, err = why.Announce(u.a.cfg.RuntimeDir, u.page.Address())
	if err != nil {
		u.a.cfg.Log.WarnContext(ctx, "users have to be told where the page is that says why", "error", err, "address", u.page.Address())
	}
	return nil
}

// close frees what the page needs.
func (u *users) close() {
	if u.withdraw != nil {
		u.withdraw()
	}
	if u.page != nil {
		_ = u.page.Close()
	}
	if u.peers != nil {
		_ = u.peers.Close()
	}
}

// url is the address of the page about a refusal, empty where there is none.
func (u *users) url(id string) string {
	if u.page == nil {
		return ""
	}
	return u.page.URL(id)
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
	if u.page != nil {
		g.Go(func() error { return u.page.Serve(ctx) })
	}
	return g.Wait()
}
