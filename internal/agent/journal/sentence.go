package journal

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode"

	"interdict/internal/event"
)

// Sentence says in one line what an event is about. What programs and users
// can put into an event cannot do anything to the terminal that shows it.
func Sentence(e event.Event) string {
	title := e.EventID.Title()
	if e.Action == event.ActionWarned {
		title = "warned"
	}
	text := fmt.Sprintf("%d %s: %s", e.EventID, title, account(&e))
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// account is what happened, to what, and through whom.
func account(e *event.Event) string {
	switch {
	case e.Change != nil:
		return change(e)
	case e.Action == event.ActionBypassed:
		text := fmt.Sprintf("%s, until %s", parties(e), e.Until.UTC().Format(time.RFC3339))
		if e.Reason != "" {
			text += fmt.Sprintf(", reason %q", e.Reason)
		}
		return text
	case e.Reason != "":
		return e.Reason
	default:
		return parties(e)
	}
}

// change is a setting's.
func change(e *event.Event) string {
	c := e.Change
	text := fmt.Sprintf("%s from %q to %q", c.Setting, c.Old, c.New)
	switch {
	case e.PolicyID != "":
		text += ", by policy " + e.PolicyID
	case c.Channel != "":
		text += ", by channel " + c.Channel
	}
	return text
}

// parties are the destination of a connection and the program that made it.
func parties(e *event.Event) string {
	where := e.Destination.Host
	if where == "" && e.Destination.IP.IsValid() {
		where = e.Destination.IP.String()
	}
	subject := cmp.Or(e.AppName, e.AppID, where)
	if subject != where && where != "" {
		subject += " (" + where + ")"
	}
	return subject + " by " + cmp.Or(e.Process.Path, "an unknown process")
}
