package demo

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"interdict/internal/demo/desktop"
	"interdict/internal/lab"
)

// The users of the machines, where the lab can have any.
const (
	userAlice = "alice" // sits at a desktop
	userBob   = "bob"
)

func users() []lab.User {
	return []lab.User{{Name: userAlice, UID: 2001, Groups: []string{"finance"}}, {Name: userBob, UID: 2002}}
}

// person is somebody at a machine.
type person struct {
	// user is empty where the lab has no users: whoever plays the demo.
	user, host string
}

func (p person) String() string {
	if p.user == "" {
		return "on " + p.host
	}
	return p.user + " on " + p.host
}

// alice is at the inside host.
func (st *story) alice() person { return st.person(userAlice, hostInside) }

func (st *story) person(user, host string) person {
	if st.lab.CheckUsers() != nil {
		user = ""
	}
	return person{user, host}
}

// as prepares a program to run as a person.
func (st *story) as(ctx context.Context, who person, program string, args ...string) *exec.Cmd {
	if who.user == "" {
		return st.lab.Command(ctx, who.host, program, args...)
	}
	return st.lab.CommandAs(ctx, who.host, who.user, program, args...)
}

// leftOutError says why a step cannot be played here.
type leftOutError struct{ reason string }

func (e *leftOutError) Error() string { return e.reason }

// errOneUser is why steps that take two users are left out.
func errOneUser() error {
	return &leftOutError{"an ordinary user's namespace has only one user, who counts as its root: play the demo as root to see this"}
}

// twoUsers makes a step one that takes users.
func (st *story) twoUsers(run func(context.Context, *notes) error) func(context.Context, *notes) error {
	return func(ctx context.Context, n *notes) error {
		if st.lab.CheckUsers() != nil {
			return errOneUser()
		}
		return run(ctx, n)
	}
}

// signIn gives alice a desktop.
func (st *story) signIn(ctx context.Context, n *notes) error {
	if st.lab.CheckUsers() != nil {
		return errOneUser()
	}
	if err := desktop.Check(); err != nil {
		return &leftOutError{err.Error()}
	}
	n.did("%s: dbus-daemon", st.alice())
	var err error
	st.desktop, err = desktop.Start(ctx, desktop.Config{Lab: st.lab, Host: hostInside, User: userAlice, Locale: "en_US.UTF-8"})
	if err != nil {
		return err
	}
	n.saw("her session bus is there; logind and the notification service are the demo's own")
	return nil
}

// onDesktop makes a step one that takes a desktop.
func (st *story) onDesktop(run func(context.Context, *notes) error) func(context.Context, *notes) error {
	return st.twoUsers(func(ctx context.Context, n *notes) error {
		if st.desktop == nil {
			return &leftOutError{"alice has no desktop here; the why page says the same"}
		}
		return run(ctx, n)
	})
}

// told returns the next notification on alice's desktop, if its title has a
// text in it.
func (st *story) told(ctx context.Context, n *notes, title string) (desktop.Note, error) {
	note, err := st.desktop.Next(ctx)
	if err != nil {
		return note, err
	}
	n.saw("on her desktop: %s", describeNote(note))
	if !strings.Contains(note.Title, title) {
		return note, fmt.Errorf("the notification should say %q", title)
	}
	return note, nil
}

// describeNote tells a notification as it looks.
func describeNote(note desktop.Note) string {
	var b strings.Builder
	b.WriteString(note.Title + "\n" + note.Body)
	for _, button := range note.Buttons {
		if button.Action != "default" { // A click on the notification itself.
			b.WriteString(" [" + button.Label + "]")
		}
	}
	return b.String()
}

// closeDesktop ends alice's session, if she has one.
func (st *story) closeDesktop() error {
	if st.desktop == nil {
		return nil
	}
	return st.desktop.Close()
}

// leftOut reports whether a step could not be played, and why.
func leftOut(err error) (reason string, ok bool) {
	if e, ok := errors.AsType[*leftOutError](err); ok {
		return e.reason, true
	}
	return "", false
}
