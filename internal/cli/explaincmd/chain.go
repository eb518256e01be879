package explaincmd

import (
	"fmt"
	"io"
	"strings"

	"interdict/internal/cli/output"
	"interdict/internal/explain"
)

// The looks of a terminal.
const (
	bold   = "\x1b[1m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	dim    = "\x1b[2m"
	normal = "\x1b[0m"
)

// style is how text may look.
type style int

// The styles.
const (
	plain style = iota
	colour
)

// width is that of the lines.
const width = 80

// indent is where the texts of links begin: after a mark, a name and a state.
const indent = 22

// write writes a chain for people.
func write(w io.Writer, c *explain.Chain, s style) error {
	var b strings.Builder
	decisive := decisiveLink(c)
	b.WriteString(wrap(s.paint(bold, sentence(c)), 0))
	b.WriteString(wrap(output.Printable(decisive.Text)+".", 0))
	b.WriteString("\n")
	for i := range c.Links {
		s.link(&b, &c.Links[i], c.Decisive)
	}
	if !c.Live {
		b.WriteString("\n" + wrap("The device was not asked itself: this follows from what it last acknowledged.", 0))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// sentence is the answer in short.
func sentence(c *explain.Chain) string {
	what := map[explain.Outcome]string{
		explain.OutcomeBlocked: "is blocked", explain.OutcomeWarned: "is refused with a warning", explain.OutcomeAudited: "is NOT blocked, but recorded,",
		explain.OutcomeAllowed: "is NOT blocked", explain.OutcomeUnknown: "may or may not be blocked",
	}[c.Outcome]
	who := ""
	if c.Subject.User != "" {
		who = " for " + c.Subject.User
	}
	answer := fmt.Sprintf("%s %s on %s%s:", c.Subject, what, c.Name, who)
	if c.Unexpected {
		answer = "not as expected: " + answer
	}
	return output.Printable(answer)
}

// decisiveLink is the one that decides.
func decisiveLink(c *explain.Chain) explain.Link {
	for _, l := range c.Links {
		if l.Name == c.Decisive {
			return l
		}
	}
	return explain.Link{}
}

func (s style) paint(look, text string) string {
	if s == plain {
		return text
	}
	return look + text + normal
}

// link writes one link. The one that decides has an arrow before it; what to
// type is below those that can be mended.
func (s style) link(b *strings.Builder, l *explain.Link, decisive explain.Name) {
	mark := "  "
	if l.Name == decisive {
		mark = s.paint(bold, "> ")
	}
	state, look := "ok", green
	switch l.State {
	case explain.StateBroken:
		state, look = "BROKEN", red
	case explain.StateUnknown:
		state, look = "unknown", dim
	case explain.StateHolds: // as above
	}
	if l.Name == explain.LinkEvent {
		// It tells what happened, and holds nothing.
		state = "-"
	}
	text := wrap(output.Printable(l.Text), indent)
	fmt.Fprintf(b, "%s%-11s%s%s%s", mark, l.Name, s.paint(look, state), strings.Repeat(" ", indent-13-len(state)), strings.TrimLeft(text, " "))
	if l.Fix == "" {
		return
	}
	fix := "mend: " + output.Printable(l.Fix)
	if l.Name == decisive {
		fix = s.paint(bold, fix)
	}
	// Commands are not wrapped, so that they can be copied.
	fmt.Fprintf(b, "%s%s\n", strings.Repeat(" ", indent), fix)
}

// wrap breaks text into lines that begin at a column.
func wrap(text string, column int) string {
	var b strings.Builder
	margin := strings.Repeat(" ", column)
	at := 0
	for word := range strings.FieldsSeq(text) {
		switch long := visible(word); {
		case at == 0:
			b.WriteString(margin + word)
			at = column + long
		case at+1+long > width:
			b.WriteString("\n" + margin + word)
			at = column + long
		default:
			b.WriteString(" " + word)
			at += 1 + long
		}
	}
	return b.String() + "\n"
}

// visible is how many columns a word takes.
func visible(word string) int {
	n, escaped := 0, false
	for _, r := range word {
		switch {
		case r == '\x1b':
			escaped = true
		case escaped:
			escaped = r != 'm'
		default:
			n++
		}
	}
	return n
}
