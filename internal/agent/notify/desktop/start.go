package desktop

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"interdict/internal/agent/notify/session"
)

// The bounds of what a person reads, in characters.
const (
	maxTitle = 120
	maxBody  = 600
	maxLabel = 60
)

const (
	// maxReports is how many reports one helper can make.
	maxReports = 1000
	// endAfter is how long a helper may take to end that was asked to.
	endAfter = 5 * time.Second
	// lastWords is for how long a helper is heard that is gone.
	lastWords = time.Second
)

// Program is how the helper is started. It must call Serve.
type Program struct {
	// Path is the program's; /proc/self/exe is this program whatever has
	// become of its file since.
	Path string
	Args []string
}

// Helper is the agent's end of a helper that runs.
type Helper struct {
	cmd    *exec.Cmd
	orders io.WriteCloser
	ended  chan struct{}

	// mu makes one order at a time.
	mu sync.Mutex
}

// Start starts a helper in a session, as its user. Every report is handed to
// heard, one after another, and after the last one heard gets a zero Report.
// The helper ends with ctx, with Close, or by itself; in any case it is waited
// for before the zero Report.
func Start(ctx context.Context, p Program, s session.Session, heard func(Report)) (*Helper, error) {
	cmd := exec.CommandContext(ctx, p.Path, p.Args...) //nolint:gosec // this same program
	cmd.Dir, cmd.Env, cmd.WaitDelay = "/", environ(s), endAfter
	if err := become(cmd, s); err != nil {
		return nil, err
	}
	orders, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the desktop helper: %w", err)
	}
	reports, helpers, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting the desktop helper: %w", err), orders.Close())
	}
	cmd.Stdout = helpers
	err = cmd.Start()
	_ = helpers.Close()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting the desktop helper of user %d: %w", s.UID, err), reports.Close())
	}
	h := &Helper{cmd: cmd, orders: orders, ended: make(chan struct{})}
	go h.attend(reports, heard)
	return h, nil
}

// attend hears a helper out and returns when it is gone.
func (h *Helper) attend(reports *os.File, heard func(Report)) {
	defer close(h.ended)
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		// This closes our end of the orders too.
		_ = h.cmd.Wait()
		// The user can have any other process hold the pipe: its end is not
		// waited for.
		_ = reports.SetReadDeadline(time.Now().Add(lastWords))
	}()
	readReports(reports, heard)
	// Whoever says too much, or nonsense, is not heard any more.
	_ = h.cmd.Process.Kill()
	<-exited
	_ = reports.Close()
	heard(Report{})
}

// environ is all that the helper gets of an environment.
func environ(s session.Session) []string {
	return append([]string{
		"PATH=/usr/local/bin:/usr/bin:/bin", "USER=" + s.Name, "LOGNAME=" + s.Name, "HOME=" + s.Home,
		"XDG_RUNTIME_DIR=" + s.RuntimePath, "DBUS_SESSION_BUS_ADDRESS=" + s.Bus,
	}, s.Display...)
}

// readReports reads until the end, the first line that is no report, or one
// too many.
func readReports(from io.Reader, heard func(Report)) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxLine)
	for n := 0; n < maxReports && lines.Scan(); n++ {
		r, err := parseReport(lines.Bytes())
		if err != nil {
			return
		}
		heard(r)
	}
}

// parseReport reads a report of a helper, whom nobody has to believe.
func parseReport(line []byte) (Report, error) {
	var r Report
	if err := json.Unmarshal(line, &r); err != nil {
		return Report{}, fmt.Errorf("reading a report: %w", err)
	}
	if r.Key == "" {
		return Report{}, errors.New("reading a report: it is about nothing")
	}
	return r, nil
}

// Show has the helper show a message, cut to what a person reads.
func (h *Helper) Show(m Message) error {
	m.Title, m.Body = clean(m.Title, maxTitle), clean(m.Body, maxBody)
	m.Help.Label = clean(m.Help.Label, maxLabel)
	actions := make([]Action, len(m.Actions))
	for i, a := range m.Actions {
		actions[i] = Action{a.Name, clean(a.Label, maxLabel)}
	}
	m.Actions = actions
	return h.order(Order{Show: &m})
}

// Open has the helper open a page in the user's browser.
func (h *Helper) Open(p Page) error { return h.order(Order{Open: &p}) }

// Withdraw has the helper take a notification away.
func (h *Helper) Withdraw(key string) error { return h.order(Order{Withdraw: key}) }

func (h *Helper) order(o Order) error {
	b, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("ordering the desktop helper about: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	// A helper that does not read its orders fills the pipe, and then holds
	// us up until this is over.
	stuck := time.AfterFunc(endAfter, func() { _ = h.cmd.Process.Kill() })
	defer stuck.Stop()
	if _, err := h.orders.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("ordering the desktop helper about: %w", err)
	}
	return nil
}

// Close ends the helper: it carries out what it was ordered and goes, or is
// made to. Close does not wait for that; Ended does.
func (h *Helper) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.orders.Close()
	// Killing one that is gone does nothing.
	time.AfterFunc(2*endAfter, func() { _ = h.cmd.Process.Kill() })
}

// Ended is closed when the helper is gone and its last report was heard.
func (h *Helper) Ended() <-chan struct{} { return h.ended }

// clean makes text that a bus takes: UTF-8 without control characters, and
// not longer than a person reads.
func clean(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	runes := []rune(text)
	if len(runes) > most {
		text = string(runes[:most-1]) + "…"
	}
	return text
}
