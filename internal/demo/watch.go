package demo

import (
	"context"
	"errors"
	"time"

	"interdict/internal/event"
	"interdict/internal/fleet"
)

const settingProtection = "network_protection"

func (st *story) auditPolicy(ctx context.Context, n *notes) error {
	if _, err := st.admin(ctx, n, "policy", "create", policyName, "--network-protection", "audit"); err != nil {
		return err
	}
	if err := st.adminWait(ctx, n, "policy", "assign", policyName, "--include-group", groupInside); err != nil {
		return err
	}
	return st.changed(ctx, n, settingProtection, string(fleet.ModeAudit), fleet.ChannelServer)
}

func (st *story) unsanction(ctx context.Context, n *notes) error {
	return st.adminWait(ctx, n, "app", "tag", appUnsanctioned, "unsanctioned")
}

func (st *story) audited(ctx context.Context, n *notes) error {
	if err := st.works(ctx, n, st.alice(), urlUnsanctioned); err != nil {
		return err
	}
	return st.recorded(ctx, n, event.IDAudited, st.alice(), appUnsanctioned)
}

// openDownload starts an endless download and waits until bytes arrive.
func (st *story) openDownload(ctx context.Context, n *notes) error {
	n.did("%s: curl %s &", st.alice(), urlDownload)
	cmd := st.as(context.WithoutCancel(ctx), st.alice(), "curl", "-sSN", "--cacert", st.lab.CAFile(), urlDownload)
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
