package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// manual says how to use the lab by hand.
func (st *story) manual(ctx context.Context, files []*os.File) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "The lab stays up until Ctrl-C. In another terminal:\n\n")
	if len(files) > 0 {
		l, err := net.FileListener(files[0])
		if err != nil {
			return "", fmt.Errorf("taking over the port for the lab's server: %w", err)
		}
		fmt.Fprintf(&b, "    export INTERDICT_SERVER=https://%s\n    export INTERDICT_TOKEN=%s\n", l.Addr(), st.site.Token())
		if err := l.Close(); err != nil {
			return "", err
		}
	}
	interdict, agent := filepath.Join(st.programs, "interdict"), filepath.Join(st.programs, "interdict-agent")
	fmt.Fprintf(&b, "    %s device list\n    %s app tag discord unsanctioned --wait\n    %s event tail\n\n", interdict, interdict, interdict)
	fmt.Fprintf(&b, "    %s\n", st.lab.ShellFunction("on"))
	fmt.Fprintf(&b, "    on %s %scurl --cacert %s https://discord.com/\n", hostInside, st.becomeAlice(), st.lab.CAFile())
	fmt.Fprintf(&b, "    on %s %s events --follow --state-dir %s\n", hostInside, agent, st.site.StateDir(hostInside))
	fmt.Fprintf(&b, "    on %s %s status --state-dir %s\n", hostInside, agent, st.site.StateDir(hostInside))
	return b.String(), ctx.Err()
}

// becomeAlice is what makes a command alice's, in front of it.
func (st *story) becomeAlice() string {
	if st.alice().user == "" {
		return ""
	}
	uid := st.lab.User(userAlice).UID
	return fmt.Sprintf("setpriv --reuid=%d --regid=%[1]d --init-groups ", uid)
}

// watchDesktop prints what alice is shown, until the context ends.
func (st *story) watchDesktop(ctx context.Context, r *report) {
	if st.desktop == nil {
		return
	}
	for {
		note, err := st.desktop.Next(ctx)
		if err != nil {
			return
		}
		r.head("On alice's desktop: %s", describeNote(note))
	}
}

// forward passes connections that come to a listening socket on to an
// address, until the context ends.
func forward(ctx context.Context, f *os.File, address string) error {
	l, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("taking over the port for the lab's server: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var workers sync.WaitGroup
	defer workers.Wait()
	for {
		near, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("taking connections for the lab's server: %w", err)
		}
		workers.Go(func() { pass(ctx, near, address) })
	}
}

// pass copies both ways between a connection and an address until one end is
// done or the context ends. A client whose server is away sees its connection
// end.
func pass(ctx context.Context, near net.Conn, address string) {
	defer near.Close()
	far, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return
	}
	closeBoth := func() { _ = errors.Join(near.Close(), far.Close()) }
	defer closeBoth()
	stop := context.AfterFunc(ctx, closeBoth)
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer closeBoth()
		_, _ = io.Copy(far, near)
	}()
	_, _ = io.Copy(near, far)
	closeBoth()
	<-done
}
