// Package account tells who a user id of this host is: the name, and the names
// of all groups the user is in.
//
// It has to answer while a packet waits, so it answers from memory and never
// waits: the files passwd and group are read when they have changed, and users
// that are in neither, as those of SSSD, LDAP or winbind, are asked for in the
// background by way of getent, which goes through whatever the host has set up
// in nsswitch.conf. Who can wait calls Find.
//
// The groups of a user of the file passwd are those of the file group and,
// where nsswitch.conf says that groups are elsewhere too, those of the
// directory. Until that has answered, or while it does not, the former count.
package account

import (
	"context"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"interdict/internal/indicator"
)

const (
	// lookEvery is how often the files are looked at for changes.
	lookEvery = time.Second
	// keepFound is for how long a directory's answer is good, and
	// keepMissing for how long one that knows nobody, or none at all.
	keepFound   = 10 * time.Minute
	keepMissing = time.Minute
	// askFor bounds the time that a directory may take.
	askFor = 5 * time.Second
	// asking bounds the questions to the directory at the same time, and
	// maxRemote the answers that are kept.
	asking    = 4
	maxRemote = 1 << 12
)

// Config is what a Book needs. All of it is optional.
type Config struct {
	// Root has the directory etc with the files passwd and group; nil is the
	// host's.
	Root fs.FS
	// Run runs a program and returns what it wrote, also beside an error;
	// nil runs it on the host.
	Run func(ctx context.Context, name string, args ...string) ([]byte, error)
	// Now is the clock; nil is the host's.
	Now func() time.Time
	// Log is told, at the level of warnings, of a directory that does not
	// answer; nil for nobody.
	Log *slog.Logger
}

// Book knows the users of a host. It is safe for concurrent use.
type Book struct {
	cfg   Config
	ctx   context.Context //nolint:containedctx // It ends what New started, not a call.
	end   context.CancelFunc
	work  sync.WaitGroup
	slots chan struct{}

	mu    sync.Mutex // Guards what follows.
	local localUsers
	// looked is when the files were last looked at.
	looked time.Time
	remote map[uint32]answer
	// asked has a channel for every user id that is being looked up; it is
	// closed when that is done.
	asked  map[uint32]chan struct{}
	closed bool
}

// answer is what a directory said of a user id.
type answer struct {
	// said is the answer itself, user the same with what the files say.
	said, user *indicator.User
	until      time.Time
}

// New returns a Book that has read nothing yet.
func New(cfg Config) *Book {
	if cfg.Root == nil {
		cfg.Root = os.DirFS("/")
	}
	if cfg.Run == nil {
		cfg.Run = run
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ctx, end := context.WithCancel(context.Background())
	return &Book{
		cfg: cfg, ctx: ctx, end: end, slots: make(chan struct{}, asking),
		remote: make(map[uint32]answer), asked: make(map[uint32]chan struct{}),
	}
}

// Close ends the look-ups that go on and returns when they have. Nothing is
// looked up after that.
func (b *Book) Close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.end()
	b.work.Wait()
}

// User returns, without waiting, what there is to know of a user id. Where ok
// is false that is the id alone, or what the files say where a directory may
// know more groups, and more may be known soon: see Find. A user of whom nothing but the id is to be found is known. The result is
// shared: it must not be changed.
func (b *Book) User(uid uint32) (u *indicator.User, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if u = b.known(uid); u != nil {
		return u, true
	}
	b.lookUp(uid)
	return b.partly(uid), false
}

// Find returns the same as User, but waits for more to be known until ctx
// ends.
func (b *Book) Find(ctx context.Context, uid uint32) (u *indicator.User, ok bool) {
	b.mu.Lock()
	if u = b.known(uid); u != nil {
		b.mu.Unlock()
		return u, true
	}
	done := b.lookUp(uid)
	b.mu.Unlock()
	select {
	case <-done:
		return b.User(uid)
	case <-ctx.Done():
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.partly(uid), false
	}
}

// partly is what there is to say of a user who is being looked up. The caller
// holds mu.
func (b *Book) partly(uid uint32) *indicator.User {
	if u := b.local.byUID[uid]; u != nil && b.fresh() {
		return u
	}
	return &indicator.User{UID: uid}
}

// UID returns the id of a user by name. It may ask the directory, and wait for
// that until ctx ends.
func (b *Book) UID(ctx context.Context, name string) (uint32, bool) {
	b.refresh()
	b.mu.Lock()
	uid, ok := b.local.byName[name]
	b.mu.Unlock()
	// A directory takes a number for an id.
	if _, err := strconv.Atoi(name); ok || err == nil || !validName(name) {
		return uid, ok
	}
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	u, err := b.entry(ctx, name)
	// A directory may find a user by another spelling of the name.
	return u.uid, err == nil && u.name != ""
}

// known returns the user if there is no more to find out at the moment, else
// nil. The caller holds mu.
func (b *Book) known(uid uint32) *indicator.User {
	if !b.fresh() {
		return nil
	}
	if u := b.local.byUID[uid]; u != nil && !b.local.elsewhere {
		return u
	}
	if a, ok := b.remote[uid]; ok && b.cfg.Now().Before(a.until) {
		return a.user
	}
	return nil
}

// fresh reports whether the files were read and have not changed since. That
// is looked after now and then: it costs two questions to the kernel. The
// caller holds mu.
func (b *Book) fresh() bool {
	if b.looked.IsZero() {
		return false
	}
	now := b.cfg.Now()
	if since := now.Sub(b.looked); since >= 0 && since < lookEvery {
		return true
	}
	if stampOf(b.cfg.Root) != b.local.stamp {
		return false
	}
	b.looked = now
	return true
}

// refresh reads the files if they have changed. Nobody who asks for a user has
// to wait for that.
func (b *Book) refresh() {
	b.mu.Lock()
	fresh := b.fresh()
	b.mu.Unlock()
	if fresh {
		return
	}
	l := readLocal(b.cfg.Root)
	b.mu.Lock()
	defer b.mu.Unlock()
	for uid, a := range b.remote {
		if b.local.byUID[uid] != nil && l.byUID[uid] == nil {
			// Whoever has the id now is somebody else.
			delete(b.remote, uid)
			continue
		}
		a.user = merge(l.byUID[uid], a.said)
		b.remote[uid] = a
	}
	b.local, b.looked = l, b.cfg.Now()
}

// merge returns a user of the files, nil for none, with the groups that a
// directory says.
func merge(local, said *indicator.User) *indicator.User {
	if local == nil {
		return said
	}
	u := &indicator.User{UID: local.UID, Name: local.Name, Groups: slices.Concat(local.Groups, said.Groups)}
	slices.Sort(u.Groups)
	u.Groups = slices.Compact(u.Groups)
	return u
}

// lookUp finds out about a user id in the background, unless that goes on
// already, and returns a channel that is closed when it is done. The caller
// holds mu.
func (b *Book) lookUp(uid uint32) <-chan struct{} {
	if done, ok := b.asked[uid]; ok {
		return done
	}
	done := make(chan struct{})
	if b.closed || len(b.asked) >= maxRemote {
		close(done)
		return done
	}
	b.asked[uid] = done
	b.work.Go(func() {
		defer func() {
			b.mu.Lock()
			delete(b.asked, uid)
			b.mu.Unlock()
			close(done)
		}()
		b.find(uid)
	})
	return done
}

// find finds out about a user id: in the files, else in the directory.
func (b *Book) find(uid uint32) {
	b.refresh()
	b.mu.Lock()
	known, local := b.known(uid), b.local.byUID[uid]
	b.mu.Unlock()
	if known != nil {
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, askFor)
	defer cancel()
	said, err := b.ask(ctx, uid, local)
	b.keep(uid, said, err)
}

// keep remembers a directory's answer; without one, that of before.
func (b *Book) keep(uid uint32, said *indicator.User, err error) {
	if b.ctx.Err() != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	before, had := b.remote[uid]
	if !had && len(b.remote) >= maxRemote {
		for other := range b.remote {
			delete(b.remote, other)
			break
		}
	}
	lasts := keepFound
	switch {
	case err != nil:
		b.cfg.Log.Warn("asking the host's directory for a user", "uid", uid, "error", err)
		said, lasts = &indicator.User{UID: uid}, keepMissing
		if had {
			said = before.said
		}
	case said.Name == "":
		lasts = keepMissing
	}
	b.remote[uid] = answer{said: said, user: merge(b.local.byUID[uid], said), until: b.cfg.Now().Add(lasts)}
}
