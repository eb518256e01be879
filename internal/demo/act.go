package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/lab/site"
)

// curlPatience is how long curl may take, in seconds. A connection that is
// dropped, not refused, would last this long.
const curlPatience = "10"

// refusedWithin is how fast a refusal has to be.
const refusedWithin = 2 * time.Second

// admin runs an administrator's command.
func (st *story) admin(ctx context.Context, n *notes, args ...string) (string, error) {
	n.did("interdict %s", commandLine(args))
	out, err := st.site.Admin(ctx, args...)
	return strings.TrimSpace(out), err
}

// commandLine is how a person would type arguments.
func commandLine(args []string) string {
	plain := regexp.MustCompile(`^[\w./:=@,+-]+$`)
	typed := make([]string, len(args))
	for i, arg := range args {
		if typed[i] = arg; !plain.MatchString(arg) {
			typed[i] = "'" + arg + "'"
		}
	}
	return strings.Join(typed, " ")
}

// adminWait runs an administrator's command that waits until the devices
// enforce what it changed. It notes when the inside host did.
func (st *story) adminWait(ctx context.Context, n *notes, args ...string) error {
	start := time.Now()
	out, err := st.admin(ctx, n, append(args, "--wait")...)
	if err != nil {
		return err
	}
	n.saw("%s", out)
	device, err := st.device(ctx, hostInside)
	if err != nil {
		return err
	}
	// A change that asks nothing new of the host leaves the time as it was.
	if took := device.Applied.At.Sub(start); took > 0 {
		n.took(fmt.Sprintf("from the command to the kernel of %s: interdict %s", hostInside, commandLine(args)), took)
	}
	return nil
}

// device is what the server knows of a host.
func (st *story) device(ctx context.Context, host string) (d fleet.Device, err error) {
	return d, st.site.AdminShow(ctx, &d, "device", "show", host)
}

// agent runs a command of a host's agent.
func (st *story) agent(ctx context.Context, n *notes, host, command string, args ...string) (string, error) {
	n.did("on %s: interdict-agent %s", host, commandLine(append([]string{command}, args...)))
	out, err := st.site.Agent(ctx, host, command, args...)
	return strings.TrimSpace(out), err
}

// curl runs curl as a person and returns what it printed and how long it took.
func (st *story) curl(ctx context.Context, n *notes, who person, url string, args ...string) (string, time.Duration, error) {
	n.did("%s: curl %s", who, commandLine(append(slices.Clone(args), url)))
	return st.runCurl(ctx, who, append(args, url)...)
}

func (st *story) runCurl(ctx context.Context, who person, args ...string) (string, time.Duration, error) {
	all := append([]string{"-sS", "--cacert", st.lab.CAFile(), "--max-time", curlPatience}, args...)
	cmd := st.as(ctx, who, "curl", all...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	start := time.Now()
	err := cmd.Run()
	return strings.TrimSpace(out.String()), time.Since(start), err
}

// works checks that curl gets a page.
func (st *story) works(ctx context.Context, n *notes, who person, url string) error {
	out, took, err := st.curl(ctx, n, who, url)
	if err != nil {
		return fmt.Errorf("curl should work: %w: %s", err, out)
	}
	n.saw("%q in %s", out, inMilliseconds(took))
	return nil
}

// fails checks that curl is refused, and fast.
func (st *story) fails(ctx context.Context, n *notes, who person, url string, args ...string) error {
	out, took, err := st.curl(ctx, n, who, url, args...)
	if err == nil {
		return fmt.Errorf("curl should be refused, and got %q", out)
	}
	n.saw("%s, after %s", out, inMilliseconds(took))
	if took > refusedWithin {
		return fmt.Errorf("it took longer than %s", refusedWithin)
	}
	return nil
}

// page is what a web server answered.
type page struct {
	status int
	body   string
}

// browse gets a page with curl as a person, whatever its status, and follows
// it to another.
func (st *story) browse(ctx context.Context, n *notes, who person, url string, args ...string) (page, error) {
	n.did("%s: curl -L %s", who, commandLine(append(slices.Clone(args), url)))
	out, _, err := st.runCurl(ctx, who, append(args, "-L", "-w", `\n%{http_code}`, url)...)
	if err != nil {
		return page{}, fmt.Errorf("getting %s: %w: %s", url, err, out)
	}
	body, status := "", out
	if at := strings.LastIndexByte(out, '\n'); at >= 0 {
		body, status = out[:at], out[at+1:]
	}
	code, err := strconv.Atoi(status)
	if err != nil {
		return page{}, fmt.Errorf("getting %s: curl printed %q", url, out)
	}
	return page{code, body}, nil
}

// text is what a page says without its markup and its tables, a line for each
// block of it.
func (p page) text() string {
	body := p.body
	if at := strings.Index(body, "<body"); at >= 0 {
		body = body[at:]
	}
	body = regexp.MustCompile(`(?s)<dl\b.*?</dl>|<details\b.*?</details>`).ReplaceAllString(body, " <p> ")
	body = strings.ReplaceAll(body, "\n", " ") // In HTML that is a space.
	body = regexp.MustCompile(`</?(h\d|p|li|dt|div|form|section|main|summary)\b[^>]*>`).ReplaceAllString(body, "\n")
	body = regexp.MustCompile(`<[^>]*>`).ReplaceAllString(body, " ")
	var lines []string
	for line := range strings.Lines(body) {
		if line = strings.Join(strings.Fields(html.UnescapeString(line)), " "); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// changed checks that the inside host recorded a new value of a setting by a
// channel.
func (st *story) changed(ctx context.Context, n *notes, setting, value string, by fleet.Channel) error {
	e, err := st.site.WaitEvent(ctx, hostInside, func(e event.Event) bool {
		return e.EventID == event.IDConfigChanged && e.Change != nil && e.Change.Setting == setting && e.Change.New == value && e.Change.Channel == string(by)
	})
	if err != nil {
		return err
	}
	n.saw("%s", describe(e))
	return nil
}

// recorded waits until the inside host has recorded a connection of a person to
// an app.
func (st *story) recorded(ctx context.Context, n *notes, id event.ID, who person, app string) error {
	e, err := st.site.WaitEvent(ctx, hostInside, func(e event.Event) bool {
		return e.EventID == id && e.AppID == app && !e.Cut && (who.user == "" || e.User.Name == who.user)
	})
	if err != nil {
		return err
	}
	n.saw("%s", describe(e))
	if e.Process.Path == "" && id != event.IDBypassed {
		return errors.New("the event does not say which program it was")
	}
	return nil
}

// eventually tries again until it succeeds, noting only what the last try did
// and saw.
func eventually(ctx context.Context, n *notes, try func(ctx context.Context, n *notes) error) error {
	return site.Until(ctx, func(ctx context.Context) error {
		var last notes
		if err := try(ctx, &last); err != nil {
			return err
		}
		n.lines, n.figures = append(n.lines, last.lines...), append(n.figures, last.figures...)
		return nil
	})
}

// describe tells an event in one line.
func describe(e event.Event) string {
	if c := e.Change; c != nil {
		return fmt.Sprintf("event %d: %s changed from %q to %q by the %s", e.EventID, c.Setting, c.Old, c.New, c.Channel)
	}
	if e.EventID == event.IDBypassed {
		return fmt.Sprintf("event %d %s: %s by %s until %s", e.EventID, e.Action, e.AppName, e.User.Name, e.Until.Local().Format(time.TimeOnly))
	}
	return fmt.Sprintf("event %d %s: %s, %s seen by %s, program %s, user %s, %d times",
		e.EventID, e.Action, e.AppName, e.Destination.Host, e.Evidence, e.Process.Path, e.User.Name, e.Count)
}
