package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"interdict/internal/event"
	"interdict/internal/fleet"
)

// curlPatience is how long curl may take, in seconds. A connection that is
// dropped, not refused, would last this long.
const curlPatience = "10"

// refusedWithin is how fast a refusal has to be.
const refusedWithin = 2 * time.Second

// admin runs an administrator's command.
func (st *story) admin(ctx context.Context, n *notes, args ...string) (string, error) {
	n.did("interdict %s", strings.Join(args, " "))
	return st.site.Admin(ctx, args...)
}

// adminWait runs an administrator's command that waits until the devices
// enforce what it changed. It notes when the inside host did.
func (st *story) adminWait(ctx context.Context, n *notes, args ...string) error {
	start := time.Now()
	out, err := st.admin(ctx, n, append(args, "--wait")...)
	if err != nil {
		return err
	}
	n.saw("%s", strings.TrimSpace(out))
	var devices []fleet.Device
	if err := st.site.AdminList(ctx, &devices, "device", "list", "--search", hostInside); err != nil {
		return err
	}
	for _, d := range devices {
		// A change that asks nothing new of the host leaves the time as it was.
		if took := d.Applied.At.Sub(start); d.Name == hostInside && took > 0 {
			n.took(fmt.Sprintf("from the command to the kernel of %s: interdict %s", hostInside, strings.Join(args, " ")), took)
		}
	}
	return nil
}

// curl runs curl on a host and returns what it printed and how long it took.
func (st *story) curl(ctx context.Context, n *notes, host, url string, args ...string) (string, time.Duration, error) {
	n.did("on %s: curl %s", host, strings.Join(append(args, url), " "))
	all := append([]string{"-sS", "--cacert", st.lab.CAFile(), "--max-time", curlPatience}, append(args, url)...)
	cmd := st.lab.Command(ctx, host, "curl", all...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	start := time.Now()
	err := cmd.Run()
	return strings.TrimSpace(out.String()), time.Since(start), err
}

// works checks that curl gets a page.
func (st *story) works(ctx context.Context, n *notes, host, url string) error {
	out, took, err := st.curl(ctx, n, host, url)
	if err != nil {
		return fmt.Errorf("curl should work: %w: %s", err, out)
	}
	n.saw("%q in %s", out, inMilliseconds(took))
	return nil
}

// fails checks that curl is refused on the inside host, and fast.
func (st *story) fails(ctx context.Context, n *notes, url string, args ...string) error {
	out, took, err := st.curl(ctx, n, hostInside, url, args...)
	if err == nil {
		return fmt.Errorf("curl should be refused, and got %q", out)
	}
	n.saw("%s, after %s", out, inMilliseconds(took))
	n.took("from a connection to its refusal, as curl sees it: "+strings.Join(append(args, url), " "), took)
	if took > refusedWithin {
		return fmt.Errorf("it took longer than %s", refusedWithin)
	}
	return nil
}

// changed checks that the inside host recorded a new network protection mode.
func (st *story) changed(ctx context.Context, n *notes, mode string) error {
	e, err := st.site.WaitEvent(ctx, hostInside, func(e event.Event) bool {
		return e.EventID == event.IDConfigChanged && e.Change != nil && e.Change.Setting == "network_protection" && e.Change.New == mode
	})
	if err != nil {
		return err
	}
	n.saw("%s", describe(e))
	return nil
}

// recorded checks that the inside host recorded a connection to the
// unsanctioned app.
func (st *story) recorded(ctx context.Context, n *notes, id event.ID) error {
	e, err := st.site.WaitEvent(ctx, hostInside, func(e event.Event) bool {
		return e.EventID == id && e.AppID == appUnsanctioned && !e.Cut
	})
	if err != nil {
		return err
	}
	n.saw("%s", describe(e))
	if e.Process.Path == "" {
		return errors.New("the event does not say which program it was")
	}
	return nil
}

// describe tells an event in one line.
func describe(e event.Event) string {
	if c := e.Change; c != nil {
		return fmt.Sprintf("event %d: %s changed from %q to %q by the %s", e.EventID, c.Setting, c.Old, c.New, c.Channel)
	}
	return fmt.Sprintf("event %d %s: %s, %s seen by %s, program %s, user %s, %d times",
		e.EventID, e.Action, e.AppName, e.Destination.Host, e.Evidence, e.Process.Path, e.User.Name, e.Count)
}
