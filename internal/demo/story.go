package demo

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"interdict/internal/alert"
	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/lab"
	"interdict/internal/lab/site"
)

// The cast.
const (
	appUnsanctioned = "itunes"
	urlUnsanctioned = "https://init.itunes.apple.com/"
	urlDownload     = "https://audio.itunes.apple.com/slow"
	appSanctioned   = "dropbox"
	urlSanctioned   = "https://www.dropbox.com/"
	urlElse         = "https://www.example.com/"
	groupInside     = "pilots"
	groupOutside    = "others"
	policyName      = "pilot"
)

// story is what the steps share.
type story struct {
	lab      *lab.Lab
	site     *site.Site
	programs string
	// reachedAs is the name or address at which the server is reached from
	// the machine, for its certificate; "" if it is not.
	reachedAs string
	download  *download
	// switched is when the mode was set to block.
	switched time.Time
}

// download is a running curl.
type download struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it ended
	at   time.Time     // when it ended
	err  error
}

func (st *story) steps() []step {
	return []step{
		{"Start the server on " + hostServer, true, st.startServer},
		{"Enrol two machines, into two groups", true, st.enrol},
		{"Both agents run and are online", true, st.online},
		{"Network protection in audit mode, for one group", true, st.auditPolicy},
		{"Unsanction iTunes", true, st.unsanction},
		{"A connection to iTunes still works, and is recorded", false, st.audited},
		{"A download from iTunes is open", false, st.openDownload},
		{"Network protection in block mode", true, st.blockPolicy},
		{"The open download is cut", false, st.cut},
		{"The same connection is refused at once", false, st.refused},
		{"So it is without a look-up", false, st.refusedByName},
		{"An alert is on the server", false, st.alerted},
		{"A sanctioned app is untouched", false, st.sanctioned},
		{"So is the rest of the Internet", false, st.rest},
		{"The machine outside the group is untouched", false, st.outside},
	}
}

func (st *story) startServer(ctx context.Context, n *notes) error {
	n.did("interdict server --data-dir %s --listen %s", st.site.DataDir(), st.site.ServerAddr())
	var args []string
	if st.reachedAs != "" {
		args = []string{"--host", st.reachedAs}
	}
	if err := st.site.StartServer(ctx, args...); err != nil {
		return err
	}
	n.saw("it answers at %s", st.site.ServerURL())
	return nil
}

func (st *story) enrol(ctx context.Context, n *notes) error {
	for _, member := range []struct{ host, group string }{{hostInside, groupInside}, {hostOutside, groupOutside}} {
		host, group := member.host, member.group
		if _, err := st.admin(ctx, n, "group", "create", group, "--rule", `labels.group == "`+group+`"`); err != nil {
			return err
		}
		n.did("interdict-agent enroll TOKEN --name %s --label group=%s", host, group)
		if err := st.site.Enroll(ctx, host, "group="+group); err != nil {
			return err
		}
	}
	return nil
}

func (st *story) online(ctx context.Context, n *notes) error {
	for _, host := range []string{hostInside, hostOutside} {
		n.did("interdict-agent run --state-dir %s", st.site.StateDir(host))
		if err := st.site.StartAgent(ctx, host); err != nil {
			return err
		}
	}
	return site.Until(ctx, func(ctx context.Context) error {
		var devices []fleet.Device
		if err := st.site.AdminList(ctx, &devices, "device", "list"); err != nil {
			return err
		}
		if len(devices) != 2 || !devices[0].Online || !devices[1].Online {
			return fmt.Errorf("the server does not show two devices online: %+v", devices)
		}
		n.saw("interdict device list shows two devices online")
		return nil
	})
}

func (st *story) auditPolicy(ctx context.Context, n *notes) error {
	if _, err := st.admin(ctx, n, "policy", "create", policyName, "--network-protection", "audit"); err != nil {
		return err
	}
	if err := st.adminWait(ctx, n, "policy", "assign", policyName, "--include-group", groupInside); err != nil {
		return err
	}
	return st.changed(ctx, n, string(fleet.ModeAudit))
}

func (st *story) unsanction(ctx context.Context, n *notes) error {
	return st.adminWait(ctx, n, "app", "tag", appUnsanctioned, "unsanctioned")
}

func (st *story) audited(ctx context.Context, n *notes) error {
	if err := st.works(ctx, n, hostInside, urlUnsanctioned); err != nil {
		return err
	}
	return st.recorded(ctx, n, event.IDAudited)
}

// openDownload starts an endless download and waits until bytes arrive.
func (st *story) openDownload(ctx context.Context, n *notes) error {
	n.did("on %s: curl %s &", hostInside, urlDownload)
	cmd := st.lab.Command(context.WithoutCancel(ctx), hostInside, "curl", "-sSN", "--cacert", st.lab.CAFile(), urlDownload)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	first := make(chan int, 1)
	d := &download{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(d.done)
		buf := make([]byte, 64<<10)
		n, readErr := out.Read(buf)
		first <- n
		for readErr == nil {
			_, readErr = out.Read(buf)
		}
		d.err = cmd.Wait()
		d.at = time.Now()
	}()
	st.download = d
	select {
	case got := <-first:
		if got == 0 {
			return errors.New("no bytes arrive")
		}
		n.saw("bytes arrive")
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (st *story) blockPolicy(ctx context.Context, n *notes) error {
	st.switched = time.Now()
	if err := st.adminWait(ctx, n, "policy", "set", policyName, "--network-protection", "block"); err != nil {
		return err
	}
	return st.changed(ctx, n, string(fleet.ModeBlock))
}

func (st *story) cut(ctx context.Context, n *notes) error {
	if st.download == nil {
		return errors.New("no download is open")
	}
	select {
	case <-st.download.done:
	case <-ctx.Done():
		return errors.Join(errors.New("the download goes on"), st.download.cmd.Process.Kill())
	}
	if st.download.err == nil {
		return errors.New("the download ended without an error")
	}
	took := st.download.at.Sub(st.switched)
	n.saw("curl ended with %v, %s after the command", st.download.err, inMilliseconds(took))
	n.took("from the command to the end of the open download", took)
	return nil
}

func (st *story) refused(ctx context.Context, n *notes) error {
	if err := st.fails(ctx, n, urlUnsanctioned); err != nil {
		return err
	}
	return st.recorded(ctx, n, event.IDBlocked)
}

// refusedByName connects to an address that curl is given, so that the name is
// seen in the TLS handshake only.
func (st *story) refusedByName(ctx context.Context, n *notes) error {
	return st.fails(ctx, n, urlUnsanctioned, "--resolve", "init.itunes.apple.com:443:"+st.lab.Addrs("init.itunes.apple.com")[0].String())
}

func (st *story) alerted(ctx context.Context, n *notes) error {
	n.did("interdict alert list")
	return site.Until(ctx, func(ctx context.Context) error {
		var alerts []alert.Alert
		if err := st.site.AdminList(ctx, &alerts, "alert", "list"); err != nil {
			return err
		}
		i := slices.IndexFunc(alerts, func(a alert.Alert) bool { return a.AppID == appUnsanctioned })
		if i < 0 {
			return fmt.Errorf("none of %d alerts is about %s", len(alerts), appUnsanctioned)
		}
		n.saw("%s on %s, %d times, severity %s", alerts[i].Title, alerts[i].DeviceName, alerts[i].Count, alerts[i].Severity)
		return nil
	})
}

func (st *story) sanctioned(ctx context.Context, n *notes) error {
	if err := st.adminWait(ctx, n, "app", "tag", appSanctioned, "sanctioned"); err != nil {
		return err
	}
	return st.works(ctx, n, hostInside, urlSanctioned)
}

func (st *story) rest(ctx context.Context, n *notes) error {
	if err := st.works(ctx, n, hostInside, urlElse); err != nil {
		return err
	}
	events, err := st.site.Events(ctx, hostInside)
	if err != nil {
		return err
	}
	for _, e := range events {
		if e.EventID != event.IDConfigChanged && e.AppID != appUnsanctioned {
			return fmt.Errorf("there is an event about something else: %s", describe(e))
		}
	}
	n.saw("no event on %s is about anything but %s", hostInside, appUnsanctioned)
	return nil
}

func (st *story) outside(ctx context.Context, n *notes) error {
	if err := st.works(ctx, n, hostOutside, urlUnsanctioned); err != nil {
		return err
	}
	events, err := st.site.Events(ctx, hostOutside)
	if err != nil {
		return err
	}
	for _, e := range events {
		if e.EventID == event.IDAudited || e.EventID == event.IDBlocked {
			return fmt.Errorf("there is an event on %s: %s", hostOutside, describe(e))
		}
	}
	n.saw("no 1125 and no 1126 on %s", hostOutside)
	return nil
}

// logs is what the programs said last.
func (st *story) logs() string {
	return strings.Join([]string{st.site.ServerLog(), st.site.AgentLog(hostInside)}, "\n")
}
