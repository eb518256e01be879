// Package appeal decides what a user may do who was refused a connection: go
// on after a warning, for as long as the settings say, or ask the
// administrators for access.
//
// Every refusal of a user's connection is kept for a day under an id that
// nobody can guess, one for each app of each user, or for each host that
// belongs to no app. With its id, and as that user, one can look at it, go on
// ([Appeals.Continue]) or ask for access ([Appeals.Request]). Notifications
// and the why page are ways to do so and decide nothing.
//
// Bypasses and requests are kept in one file and outlive a restart; refusals
// are not and do not. A request waits there for as long as the server is away.
package appeal

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"interdict/internal/access"
	"interdict/internal/agent/wording"
	"interdict/internal/bypass"
	"interdict/internal/event"
	"interdict/internal/fault"
	"interdict/internal/fleet"
)

// The bounds of what is remembered.
const (
	// keepRefusals is for how long a refusal can be looked at after it last
	// happened.
	keepRefusals = 24 * time.Hour
	// maxRefusals bounds them for one user, maxUsers the users.
	maxRefusals = 64
	maxUsers    = 256
	// maxBypasses and maxRequests are for one user, maxKept for all.
	maxBypasses = 64
	maxRequests = 16
	maxKept     = 1024
)

// Refusal is what one user was refused of one app, or of one host.
type Refusal struct {
	// ID names it: 128 random bits in base32.
	ID  string
	UID uint32
	// Event is the newest, Since the time of the first.
	Event event.Event
	Since time.Time
}

// Warned reports whether the user may go on.
func (r *Refusal) Warned() bool { return r.Event.Action == event.ActionWarned }

// Subject is what a bypass would be for: the id of the app, or of the
// indicator where it belongs to no app.
func (r *Refusal) Subject() string { return cmp.Or(r.Event.AppID, r.Event.IndicatorID) }

// Name is what people call it: the app's name, or what Host returns.
func (r *Refusal) Name() string { return cmp.Or(r.Event.AppName, r.Event.AppID, r.Host()) }

// Host is the name of the destination, its address where it has none.
func (r *Refusal) Host() string {
	if d := &r.Event.Destination; d.Host == "" && d.IP.IsValid() {
		return d.IP.String()
	}
	return r.Event.Destination.Host
}

// Reason says in a sentence why it was refused.
func (r *Refusal) Reason(t *wording.Texts) string {
	text := t.HostBlocked
	switch app := r.Event.AppID != ""; {
	case app && r.Warned():
		text = t.AppWarned
	case app:
		text = t.AppBlocked
	case r.Warned():
		text = t.HostWarned
	}
	return wording.Fill(text, "app", r.Name(), "host", r.Host())
}

// Standing is a refusal and what has become of it.
type Standing struct {
	Refusal
	// Bypass is the user's that counts now, nil for none.
	Bypass *bypass.Bypass
	// Request is the user's newest, nil for none.
	Request *access.Request
	// CanContinue and CanRequest say what is left to do.
	CanContinue, CanRequest bool
	// ReasonRequired says that going on needs a reason.
	ReasonRequired bool
}

// Config is what Appeals need. Every field but Send is required.
type Config struct {
	// File keeps bypasses and requests.
	File string
	// Device is this one, for requests.
	Device fleet.DeviceID
	// Settings returns those in force.
	Settings func() fleet.Settings
	// Record writes an event down.
	Record func(ctx context.Context, e event.Event)
	// Changed is told all bypasses that count: when Run begins, and
	// whenever that changes. It is called by Run alone.
	Changed func(ctx context.Context, bypasses []bypass.Bypass)
	// Send brings a request to the server and returns it as the server has
	// it. A fault other than of the way there means that the server will
	// never take it. Nil where there is no server: then nobody can ask.
	Send func(ctx context.Context, r access.Request) (access.Request, error)
	// Answered is told when a user's request was decided or an approval
	// taken back, with the id of the refusal as long as that is known. It
	// must not block.
	Answered func(ctx context.Context, r access.Request, id string)
	// Now is the clock.
	Now func() time.Time
	Log *slog.Logger
}

// Appeals keep refusals, bypasses and requests. They are safe for concurrent
// use.
type Appeals struct {
	cfg Config
	// changed holds a token when bypasses may have changed, unsent one when
	// there is a request to send.
	changed, unsent chan struct{}

	// acts makes one change to what is on disk at a time. It is locked
	// before mu.
	acts sync.Mutex

	// mu guards what follows; nothing slow is done under it, since
	// connections wait while they are observed.
	mu          sync.Mutex
	users       map[uint32]*docket
	byID        map[string]*Refusal
	bypasses    []bypass.Bypass
	revocations []bypass.Revocation
	requests    []request
}

// docket is what one user was refused.
type docket struct {
	refusals map[matter]*Refusal
	// last is when the newest was.
	last time.Time
}

// matter tells the refusals of one user apart.
type matter struct {
	app, host string
	warned    bool
}

// New returns Appeals with what the file holds. A file that cannot be read is
// logged and begun anew.
func New(cfg Config) *Appeals {
	a := &Appeals{
		cfg: cfg, changed: make(chan struct{}, 1), unsent: make(chan struct{}, 1),
		users: make(map[uint32]*docket), byID: make(map[string]*Refusal),
	}
	kept, err := load(cfg.File)
	if err != nil {
		cfg.Log.Warn("reading the bypasses and requests of users: they begin anew", "error", err)
	}
	a.bypasses, a.requests = kept.Bypasses, kept.Requests
	return a
}

// Refused takes an event in and returns what it is kept as; ok is false for
// an event that is no refusal, or of nobody. It does not block.
func (a *Appeals) Refused(e event.Event) (r Refusal, ok bool) {
	if e.EventID != event.IDBlocked || e.User.UID == nil {
		return Refusal{}, false
	}
	now := a.cfg.Now()
	r = Refusal{UID: *e.User.UID, Event: e, Since: now}
	m := matter{app: e.AppID, warned: r.Warned()}
	if m.app == "" {
		m.host = r.Host()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	d := a.docket(r.UID)
	d.last = now
	if known, ok := d.refusals[m]; ok && now.Sub(known.Event.Time) < keepRefusals {
		known.Event = e
		known.Event.Time = now
		return *known, true
	}
	a.drop(d, m)
	a.makeRoom(d)
	r.ID, r.Event.Time = newID(), now
	d.refusals[m], a.byID[r.ID] = &r, &r
	return r, true
}

// newID returns 128 random bits as text for paths.
func newID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // It never fails.
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}

// docket returns a user's. Where there are too many users the one who was
// refused nothing for the longest time makes room. The caller holds mu.
func (a *Appeals) docket(uid uint32) *docket {
	if d, ok := a.users[uid]; ok {
		return d
	}
	if len(a.users) >= maxUsers {
		var oldest uint32
		var last time.Time
		for other, d := range a.users {
			if last.IsZero() || d.last.Before(last) {
				oldest, last = other, d.last
			}
		}
		for m := range a.users[oldest].refusals {
			a.drop(a.users[oldest], m)
		}
		delete(a.users, oldest)
	}
	d := &docket{refusals: make(map[matter]*Refusal)}
	a.users[uid] = d
	return d
}

// makeRoom drops a user's oldest refusal if there are too many. The caller
// holds mu.
func (a *Appeals) makeRoom(d *docket) {
	if len(d.refusals) < maxRefusals {
		return
	}
	var oldest matter
	var last time.Time
	for m, r := range d.refusals {
		if last.IsZero() || r.Event.Time.Before(last) {
			oldest, last = m, r.Event.Time
		}
	}
	a.drop(d, oldest)
}

// drop forgets a refusal. The caller holds mu.
func (a *Appeals) drop(d *docket, m matter) {
	if r, ok := d.refusals[m]; ok {
		delete(a.byID, r.ID)
		delete(d.refusals, m)
	}
}

// Standing returns a refusal by its id, whoever's it is; ok is false where
// there is none (any more).
func (a *Appeals) Standing(id string) (s Standing, ok bool) {
	now, settings := a.cfg.Now(), a.cfg.Settings()
	a.mu.Lock()
	defer a.mu.Unlock()
	r, ok := a.byID[id]
	if !ok || now.Sub(r.Event.Time) >= keepRefusals {
		return Standing{}, false
	}
	s = Standing{Refusal: *r, ReasonRequired: settings.BypassReason == fleet.Required}
	if b := a.bypassOf(r.UID, r.Subject(), now); b != nil {
		copied := *b
		s.Bypass = &copied
	}
	if q := a.requestOf(r); q != nil {
		copied := q.Request
		s.Request = &copied
	}
	s.CanContinue = r.Warned() && s.Bypass == nil && r.Subject() != ""
	s.CanRequest = !r.Warned() && a.cfg.Send != nil && !open(s.Request, now)
	return s, true
}

// Of returns what a user was refused, the newest first.
func (a *Appeals) Of(uid uint32) []Standing {
	var ids []string
	a.mu.Lock()
	if d, ok := a.users[uid]; ok {
		for _, r := range d.refusals {
			ids = append(ids, r.ID)
		}
	}
	a.mu.Unlock()
	var all []Standing
	for _, id := range ids {
		if s, ok := a.Standing(id); ok {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(x, y Standing) int { return y.Event.Time.Compare(x.Event.Time) })
	return all
}

// own returns the refusal that a user may act on. The error does not tell
// whether there is one of somebody else's.
func (a *Appeals) own(id string, uid uint32) (Standing, error) {
	s, ok := a.Standing(id)
	if !ok || s.UID != uid {
		return Standing{}, fault.New(fault.NotFound, "there is no such refusal")
	}
	return s, nil
}

// tidy makes one line of printable text of what a person typed.
func tidy(text string) string {
	return strings.Map(func(r rune) rune {
		if !isPlain(r) {
			return -1
		}
		return r
	}, strings.Join(strings.Fields(text), " "))
}

// token puts a token into a channel of capacity one unless it has one.
func token(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
