package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"interdict/internal/fleet"
	"interdict/internal/lab/site"
)

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
	for _, member := range []struct{ host, ring string }{{hostInside, "1"}, {hostOutside, "2"}} {
		n.did("on %s: interdict-agent enroll TOKEN --name %[1]s --label ring=%s", member.host, member.ring)
		if err := st.site.Enroll(ctx, member.host, "ring="+member.ring); err != nil {
			return err
		}
	}
	return nil
}

func (st *story) group(ctx context.Context, n *notes) error {
	for _, g := range []struct{ name, ring string }{{groupInside, "1"}, {groupOutside, "2"}} {
		rule := fmt.Sprintf("os == %q && labels.ring == %q", "linux", g.ring)
		members, err := st.admin(ctx, n, "group", "preview", "--rule", rule)
		if err != nil {
			return err
		}
		n.saw("%s", members)
		if _, err := st.admin(ctx, n, "group", "create", g.name, "--rule", rule); err != nil {
			return err
		}
	}
	if _, err := st.admin(ctx, n, "group", "create", "typo", "--rule", "os == linux"); err != nil {
		_, said, _ := strings.Cut(err.Error(), "interdict: ")
		n.saw("%s", said)
		return nil
	}
	return errors.New("a rule that makes no sense was taken")
}

func (st *story) online(ctx context.Context, n *notes) error {
	for _, host := range []string{hostInside, hostOutside} {
		n.did("on %s: interdict-agent run", host)
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
