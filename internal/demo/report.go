package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// stepPatience bounds one step.
const stepPatience = 30 * time.Second

// The colours of a terminal.
const (
	colourReset = "\x1b[0m"
	colourBold  = "\x1b[1m"
	colourRed   = "\x1b[31m"
	colourGreen = "\x1b[32m"
	colourFaint = "\x1b[2m"
)

// step is one step of the story.
type step struct {
	title string
	// essential steps end the story if they fail.
	essential bool
	run       func(ctx context.Context, n *notes) error
}

// notes are what a step tells about itself.
type notes struct {
	lines   []note
	figures []figure
}

// figure is a time that was measured.
type figure struct {
	name string
	took time.Duration
}

type note struct{ kind, text string }

// did notes what was done, as a command.
func (n *notes) did(format string, args ...any) { n.add("did", format, args...) }

// saw notes what was seen.
func (n *notes) saw(format string, args ...any) { n.add("saw", format, args...) }

// took notes a time for the summary.
func (n *notes) took(name string, d time.Duration) {
	n.figures = append(n.figures, figure{name, d})
}

func (n *notes) add(kind, format string, args ...any) {
	n.lines = append(n.lines, note{kind, fmt.Sprintf(format, args...)})
}

// report prints the story while it is played.
type report struct {
	out            io.Writer
	colours        bool
	passed, failed int
	// left are the titles of the steps that could not be played here.
	left    []string
	figures []figure
	began   time.Time
}

func newReport(out io.Writer, colours bool) *report {
	return &report{out: out, colours: colours, began: time.Now()}
}

func (r *report) paint(colour, text string) string {
	if !r.colours {
		return text
	}
	return colour + text + colourReset
}

func (r *report) head(format string, args ...any) {
	fmt.Fprintf(r.out, "\n%s\n", fmt.Sprintf(format, args...))
}

// act prints the title of a part of the story.
func (r *report) act(title string) {
	fmt.Fprintf(r.out, "\n%s\n", r.paint(colourBold, "== "+title+" =="))
}

// play runs a step and prints how it went. One that could not be played here is
// no error.
func (r *report) play(ctx context.Context, s step) error {
	ctx, cancel := context.WithTimeout(ctx, stepPatience)
	defer cancel()
	fmt.Fprintf(r.out, "\n%s\n", r.paint(colourBold, fmt.Sprintf("%2d. %s", r.passed+r.failed+len(r.left)+1, s.title)))
	var n notes
	start := time.Now()
	err := s.run(ctx, &n)
	took := time.Since(start)
	r.figures = append(r.figures, n.figures...)
	for _, line := range n.lines {
		fmt.Fprintf(r.out, "    %s  %s\n", r.paint(colourFaint, line.kind), strings.ReplaceAll(line.text, "\n", "\n         "))
	}
	if reason, ok := leftOut(err); ok {
		r.left = append(r.left, s.title)
		fmt.Fprintf(r.out, "    %s %s\n", r.paint(colourBold, "LEFT OUT"), reason)
		return nil
	}
	if err != nil {
		r.failed++
		fmt.Fprintf(r.out, "    %s %s after %s\n", r.paint(colourRed, "FAIL"), err, inMilliseconds(took))
		return err
	}
	r.passed++
	fmt.Fprintf(r.out, "    %s in %s\n", r.paint(colourGreen, "PASS"), inMilliseconds(took))
	return nil
}

// logs prints what the programs said, to explain a failure.
func (r *report) logs(text string) {
	if text = strings.TrimSpace(text); text != "" {
		fmt.Fprintf(r.out, "%s\n", r.paint(colourFaint, "    | "+strings.ReplaceAll(text, "\n", "\n    | ")))
	}
}

// summary prints what was measured and the result. It is an error if a step
// failed.
func (r *report) summary() error {
	fmt.Fprintln(r.out)
	for _, f := range r.figures {
		fmt.Fprintf(r.out, "%8s  %s\n", inMilliseconds(f.took), f.name)
	}
	took := time.Since(r.began).Round(100 * time.Millisecond)
	if r.failed > 0 {
		fmt.Fprintf(r.out, "\n%s  %d of %d steps failed, in %s\n", r.paint(colourRed, "FAIL"), r.failed, r.failed+r.passed, took)
		return errors.New("the demo did not pass")
	}
	but := ""
	if len(r.left) > 0 {
		but = fmt.Sprintf(" that can be played here; %d were left out", len(r.left))
	}
	fmt.Fprintf(r.out, "\n%s  all %d steps%s, in %s\n", r.paint(colourGreen, "PASS"), r.passed, but, took)
	return nil
}

// inMilliseconds shows a duration as people read it.
func inMilliseconds(d time.Duration) string {
	return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
}
