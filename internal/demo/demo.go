// Package demo plays Interdict's story in a private lab: an administrator
// unsanctions an app, and within a second its connections are audited, then
// refused, on the devices she chose and on no others; users are told, go on
// after warnings and ask for access; and everybody can ask why.
//
// The server and the agents are the programs that are installed, the users'
// application is curl, and packets, users and message buses are real. The
// Internet is small, and of alice's desktop there is as much as package desktop
// says. It runs as root, or as an ordinary user where the kernel allows user
// namespaces; then steps that take two users are left out.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"interdict/internal/fault"
	"interdict/internal/lab"
	"interdict/internal/lab/site"
)

// The hosts of the lab.
const (
	hostServer  = "hq"
	hostInside  = "laptop" // in the group that the policy is for
	hostOutside = "kiosk"
)

// defaultListen is where the server of a demo that stays up is reached from
// the machine.
const defaultListen = "127.0.0.1:8443"

// NewCmd returns the command that plays the demo.
func NewCmd() *cobra.Command {
	var opts options
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Play the story in a private lab, with real programs and real traffic",
		Long: `Demo builds a private lab in network namespaces: a small Internet (DNS, HTTP,
HTTPS and HTTP/3 for any name), a server, and two endpoints in two groups, on one
of which alice and bob work. Then it unsanctions an app and shows, with curl as
the users' application, how its connections are audited, then refused; what users
are told, and how they go on or ask for access; how policies, files and roll-outs
work together; and how to find out why something is refused or not. Each step
says what was done, what was seen, PASS or FAIL, and how long it took.

It runs as root, or as an ordinary user where the kernel allows user namespaces.
As an ordinary user there are no alice and bob: what takes two users is left out,
and said to be. Nothing on the machine is changed, and nothing is left behind.

Without --once the lab stays up afterwards, to be tried by hand.`,
		Example: `  interdict demo --once
  interdict demo --listen 127.0.0.1:9443`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fault.New(fault.Invalid, "the demo takes no arguments: %q", args[0]).WithHint("see 'interdict demo --help'")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.out = cmd.OutOrStdout()
			return run(cmd.Context(), opts)
		},
	}
	cmd.Flags().BoolVar(&opts.once, "once", false, "end after the story: exit code 0 if every step passed, 1 if not")
	cmd.Flags().StringVar(&opts.listen, "listen", defaultListen, "`address` on this machine at which the lab's server is reached while it stays up")
	return cmd
}

type options struct {
	once   bool
	listen string
	out    io.Writer
}

// run plays the demo. Outside the lab it only checks what the demo needs and
// enters the lab, which starts the same command inside.
func run(ctx context.Context, opts options) error {
	programs, err := findPrograms()
	if err != nil {
		return err
	}
	if lab.Inside() {
		return play(ctx, opts, programs)
	}
	if err = lab.CheckTools(lab.Tool{Command: "curl", Package: "curl"}); err != nil {
		return err
	}
	if opts.once {
		return lab.Enter(ctx)
	}
	f, err := openListener(ctx, opts.listen)
	if err != nil {
		return err
	}
	return errors.Join(lab.Enter(ctx, f), f.Close())
}

// findPrograms returns the directory of this program, where the agent has to
// be as well.
func findPrograms() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding the programs: %w", err)
	}
	dir := filepath.Dir(self)
	for _, name := range []string{"interdict", "interdict-agent"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return "", fmt.Errorf("the demo needs %s in %s: run make build: %w", name, dir, err)
		}
	}
	return dir, nil
}

// openListener opens the port on the machine's own network. The socket stays
// there when the process enters the lab.
func openListener(ctx context.Context, address string) (*os.File, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("opening the port for the lab's server (choose another with --listen): %w", err)
	}
	defer l.Close()
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("opening the port for the lab's server: %s is no TCP address", address)
	}
	return tcp.File()
}

// play builds the lab, plays the story in it, and takes it down.
func play(ctx context.Context, opts options, programs string) error {
	files, err := lab.Inherited()
	if err != nil {
		return err
	}
	r := newReport(opts.out, isTerminal(opts.out))
	r.head("Interdict demo: a private lab in network namespaces, made as %s.", privilegeText())
	l, err := lab.New(ctx, lab.Config{
		Hosts: []string{hostServer, hostInside, hostOutside}, Users: users(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	s := site.New(site.Config{Lab: l, Programs: programs, ServerHost: hostServer})
	st := &story{lab: l, site: s, programs: programs}
	if !opts.once {
		st.reachedAs = listenHost(opts.listen)
	}
	err = tell(ctx, r, st)
	if ctx.Err() == nil && !opts.once {
		err = errors.Join(err, stayUp(ctx, r, st, files))
	}
	return errors.Join(err, s.Close(), st.closeDesktop(), l.Close())
}

// tell plays all steps and sums them up. A step that fails does not end the
// story, unless the steps after it make no sense without it.
func tell(ctx context.Context, r *report, st *story) error {
	for _, act := range st.acts() {
		r.act(act.title)
		if !tellAct(ctx, r, st, act) {
			break
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return r.summary()
}

// tellAct plays the steps of an act and reports whether the story can go on.
func tellAct(ctx context.Context, r *report, st *story, a act) bool {
	for _, step := range a.steps {
		err := r.play(ctx, step)
		if ctx.Err() != nil {
			return false
		}
		if err == nil {
			continue
		}
		r.logs(st.logs())
		if step.essential {
			return false
		}
	}
	return true
}

// listenHost returns the host of an address to listen on, "" if it is any.
func listenHost(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return host
}

func privilegeText() string {
	if lab.CurrentPrivilege() == lab.PrivilegeRoot {
		return "root"
	}
	return "an ordinary user, through a user namespace (processes are found by /proc: BPF needs real root)"
}

// isTerminal says whether to use colours, see no-color.org.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(f.Fd()))
}

// stayUp keeps the lab until the context ends and says how to use it.
func stayUp(ctx context.Context, r *report, st *story, files []*os.File) error {
	text, err := st.manual(ctx, files)
	if err != nil {
		return err
	}
	r.head("%s", strings.TrimRight(text, "\n"))
	var watcher sync.WaitGroup
	defer watcher.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watcher.Go(func() { st.watchDesktop(ctx, r) })
	if len(files) == 0 {
		<-ctx.Done()
		return nil
	}
	return forward(ctx, files[0], st.site.ServerAddr().String())
}
