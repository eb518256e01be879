package netguard

import (
	"context"
	"time"

	"interdict/internal/agent/verdict"
	"interdict/internal/event"
	"interdict/internal/indicator"
)

// OwnerTimeout bounds how long a packet waits for Owner.
const OwnerTimeout = 2 * time.Millisecond

// UserTimeout bounds how long a packet waits for Users. Only the first
// connections of a user do, and of these only those whose verdict may depend
// on who the user is. With that, and with the time that an event's details may
// take, a packet must be answered before its deadline of 250 ms.
const UserTimeout = 100 * time.Millisecond

// The bounds of packets that wait at the same time for Owner and for Users.
// Further ones do without.
const (
	waitingForOwner = 64
	waitingForUser  = 256
)

// Users tells whose a user id is. Both methods return, where ok is false, a
// user of whom more may become known than the id, or some groups. What they return is shared.
type Users interface {
	// User answers at once.
	User(uid uint32) (u *indicator.User, ok bool)
	// Find waits, until ctx ends, for more to be known.
	Find(ctx context.Context, uid uint32) (u *indicator.User, ok bool)
}

// question is what has to be found out before a connection can be judged.
type question struct {
	// subject is what is known so far.
	subject verdict.Subject
	// names are those to choose from by who resolved them; nil for none.
	names []learnedName
	// whose is true while more may become known of the subject's user.
	whose bool
	// opening says that the packet is the first in which its connection says
	// anything, as far as that is known.
	opening bool
}

// choose gives the subject the name that a process means, if it is clear.
func (q *question) choose(pid int, names []learnedName) {
	if name, ok := nameFor(pid, names); ok {
		q.subject.Host, q.subject.Evidence = name, event.EvidenceDNS
	}
}

// userOf returns whose a packet is, and whether more may become known of them
// soon. The kernel knows the user of what is sent from here; of what is
// forwarded nobody does.
func (in *Inspector) userOf(p Packet) (u *indicator.User, whose bool) {
	if !p.HasUID {
		return nil, false
	}
	if in.cfg.Users == nil {
		return &indicator.User{UID: p.UID}, false
	}
	u, ok := in.cfg.Users.User(p.UID)
	return u, !ok
}

// latest returns what is known of a user by now.
func (in *Inspector) latest(u *indicator.User) *indicator.User {
	if u == nil || in.cfg.Users == nil {
		return u
	}
	if known, ok := in.cfg.Users.User(u.UID); ok {
		return known
	}
	return u
}

// asksWho is verdict.Ruleset.AsksWho for a caller that does not hold mu.
func (in *Inspector) asksWho(s verdict.Subject) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.rules != nil && in.rules.AsksWho(s)
}

// ask finds out what a question is about, as far as that can be done in time,
// and calls then with the subject. It is called without mu.
func (in *Inspector) ask(p Packet, f Flow, q question, then func(verdict.Subject)) {
	if q.names == nil {
		in.askUser(p, q, then)
		return
	}
	in.withOwner(f, func(pid int) {
		q.choose(pid, q.names)
		in.askUser(p, q, then)
	})
}

// askUser calls then with the subject and its user: at once where no more can
// become known of them, or nothing depends on it, and from a goroutine of its
// own otherwise.
func (in *Inspector) askUser(p Packet, q question, then func(verdict.Subject)) {
	if !q.whose || !in.asksWho(q.subject) {
		then(q.subject)
		return
	}
	asked := in.aside(in.users, func() {
		ctx, cancel := context.WithTimeout(context.Background(), UserTimeout)
		defer cancel()
		q.subject.User, _ = in.cfg.Users.Find(ctx, p.UID)
		then(q.subject)
	})
	if !asked {
		then(q.subject)
	}
}

// withOwner calls then with the process behind f, 0 for an unknown one: at
// once where it cannot be asked, and from a goroutine of its own where it
// can. It is called without mu.
func (in *Inspector) withOwner(f Flow, then func(pid int)) {
	if in.cfg.Owner == nil {
		then(0)
		return
	}
	asked := in.aside(in.owners, func() {
		ctx, cancel := context.WithTimeout(context.Background(), OwnerTimeout)
		defer cancel()
		pid, ok := in.cfg.Owner(ctx, f)
		if !ok {
			pid = 0
		}
		then(pid)
	})
	if !asked {
		then(0)
	}
}

// aside calls f from a goroutine of its own if there is a slot left, and
// reports whether it does.
func (in *Inspector) aside(slots chan struct{}, f func()) bool {
	select {
	case slots <- struct{}{}:
	default:
		return false
	}
	in.pending.Go(func() {
		defer func() {
			<-slots
			if cause := recover(); cause != nil && in.cfg.Panicked != nil {
				in.cfg.Panicked(cause)
			}
		}()
		f()
	})
	return true
}
