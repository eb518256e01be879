// Package command decides what a person at the endpoint can ask for: the
// commands of interdict-agent, their flags, what they print and how they
// exit.
//
// Data goes to standard output, everything said to a person to standard
// error. With --output json the data is one JSON document with a schema
// number (for events one a line), which only grows.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"interdict/internal/agent"
	"interdict/internal/agent/state"
	"interdict/internal/fault"
	"interdict/internal/version"
)

// The exit codes.
const (
	ExitDone        = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitUnreachable = 3
	ExitForbidden   = 4
)

// Env is what a command sees of the world.
type Env struct {
	Stdout, Stderr io.Writer
}

// options are the flags of every command.
type options struct {
	stateDir string
	output   string
}

// The values of --output.
const (
	outputTable = "table"
	outputJSON  = "json"
)

// commander makes the commands.
type commander struct {
	env  Env
	opts options
	// started is set when a command's arguments were right.
	started bool
}

// Run runs one command and returns its exit code.
func Run(ctx context.Context, env Env, args []string) int {
	c := &commander{env: env}
	root := c.root()
	root.SetArgs(args)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	err := root.ExecuteContext(ctx)
	if err == nil || errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return ExitDone
	}
	_, _ = fmt.Fprintf(env.Stderr, "interdict-agent: %v\n", err)
	if h := hint(err); h != "" {
		_, _ = fmt.Fprintf(env.Stderr, "hint: %s\n", h)
	}
	if !c.started {
		return ExitUsage
	}
	return exitCode(err)
}

func exitCode(err error) int {
	if errors.Is(err, os.ErrPermission) {
		return ExitForbidden
	}
	switch fault.CodeOf(err) {
	case fault.Invalid:
		return ExitUsage
	case fault.Unreachable, fault.Unavailable:
		return ExitUnreachable
	case fault.Unauthorized, fault.Forbidden:
		return ExitForbidden
	default:
		return ExitFailed
	}
}

func hint(err error) string {
	var f *fault.Error
	switch {
	case errors.As(err, &f) && f.Hint != "":
		return f.Hint
	case errors.Is(err, state.ErrNotEnrolled):
		return "enrol it with: interdict-agent enroll TOKEN; or enforce its own policy alone: interdict-agent run"
	case errors.Is(err, os.ErrPermission):
		return "run the command as root"
	default:
		return ""
	}
}

func (c *commander) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "interdict-agent",
		Short: "Enforce on this machine what the Interdict server decides",
		Long: `Enforce on this machine what the Interdict server decides.

First use, as root, with a token made by "interdict token create":

    interdict-agent enroll TOKEN
    interdict-agent run

A package starts the agent as a service instead: systemctl enable --now
interdict-agent. "status", "test" and "events" say what it does, "doctor" what
is wrong, and "rescue" always gives the network back.

A machine that no server manages needs no token: the agent enforces what is in
/etc/interdict/policy.d/*.yaml and what "interdict-agent set" says.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 server or agent not reachable,
4 not permitted.`,
		Version:       version.String(),
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if c.opts.output != outputTable && c.opts.output != outputJSON {
				return fmt.Errorf("--output must be table or json, not %q", c.opts.output)
			}
			c.started = true
			return nil
		},
	}
	root.SetVersionTemplate(versionLine())
	root.SetFlagErrorFunc(flagFault)
	flags := root.PersistentFlags()
	flags.StringVar(&c.opts.stateDir, "state-dir", state.DefaultRoot, "`directory` of the agent's state")
	flags.StringVarP(&c.opts.output, "output", "o", outputTable, "how to print data, a `format`: table or json")
	root.AddCommand(c.enroll(), c.run(), c.status(), c.sync(), c.set(), c.events(), c.test(), c.why(), c.doctor(), c.rescue(), c.unenroll(), c.version(), c.desktop())
	root.CompletionOptions.DisableDefaultCmd = true
	return root
}

// dir returns the state directory, which only enroll makes.
func (c *commander) dir() state.Dir { return state.At(c.opts.stateDir) }

// client returns a client of the agent that runs on the state directory.
func (c *commander) client() (*agent.Client, error) {
	if err := c.inhabited(); err != nil {
		return nil, err
	}
	return agent.NewClient(c.dir()), nil
}

// inhabited returns nil if the state directory is an agent's: of a machine
// that is enrolled, or where one runs without a server.
func (c *commander) inhabited() error {
	err := c.dir().Enrolled()
	if errors.Is(err, state.ErrNotEnrolled) {
		if _, statErr := os.Stat(c.dir().Path(state.FileSocket)); statErr == nil {
			return nil
		}
	}
	return err
}

// logger writes for people and service managers, which add the time.
func (c *commander) logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(c.env.Stderr, &slog.HandlerOptions{Level: level}))
}

// print prints data as a JSON document, or as a person reads it.
func (c *commander) print(data any, table func(w io.Writer)) error {
	if c.opts.output == outputJSON {
		enc := json.NewEncoder(c.env.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(data)
	}
	w := tabwriter.NewWriter(c.env.Stdout, 0, 4, 2, ' ', 0)
	table(w)
	return w.Flush()
}

// say tells the person at the terminal something.
func (c *commander) say(format string, args ...any) {
	_, _ = fmt.Fprintf(c.env.Stderr, format+"\n", args...)
}

// row writes one line of a table; what cannot be written shows at the flush.
func row(w io.Writer, name, format string, args ...any) {
	_, _ = fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...))
}

func (c *commander) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print this program's version", Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			data := map[string]any{
				"schema": 1, "version": version.String(), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH,
			}
			return c.print(data, func(w io.Writer) { _, _ = fmt.Fprint(w, versionLine()) })
		},
	}
}

// versionLine is what this program is called and was built for.
func versionLine() string {
	return fmt.Sprintf("interdict-agent %s %s %s/%s\n", version.String(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
