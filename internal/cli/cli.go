// Package cli puts the administrator's commands together, and decides how they
// end: what is said of an error, and which exit code a script gets. The commands
// themselves are in the packages below whose names end in cmd, each made for the
// session of a run; what those share is in package session.
//
// All of them are clients of the admin API and of nothing else; commands that
// are not (the server itself, the demo) are made by the program and handed to
// [Run]. Data goes to standard output, everything said to people to standard
// error. With --output json a command prints the document of the admin API, whose
// version is in its path, so that scripts rely on the same contract as any other
// client.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"interdict/internal/cli/admincmd"
	"interdict/internal/cli/appcmd"
	"interdict/internal/cli/explaincmd"
	"interdict/internal/cli/fleetcmd"
	"interdict/internal/cli/indicatorcmd"
	"interdict/internal/cli/output"
	"interdict/internal/cli/rolloutcmd"
	"interdict/internal/cli/session"
	"interdict/internal/cli/usage"
	"interdict/internal/cli/watchcmd"
	"interdict/internal/fault"
	"interdict/internal/version"
)

// The exit codes. Scripts rely on them.
const (
	ExitDone         = 0
	ExitFailed       = 1
	ExitUsage        = 2
	ExitUnreachable  = 3
	ExitNotPermitted = 4
)

// Env is what a command knows of the world outside.
type Env = session.Env

// Run runs one command and returns its exit code. It ends early when ctx
// does. More are commands beside those of this package.
func Run(ctx context.Context, env Env, args []string, more ...*cobra.Command) int {
	root := newRootCmd(&session.Session{Env: env})
	for _, cmd := range more {
		cmd.GroupID = groupRun
	}
	root.AddCommand(more...)
	help := usage.AddHelp(root)
	root.SetArgs(args)
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		err = help.Misused()
	}
	if err != nil {
		tell(env.Stderr, advise(cmd, err))
	}
	return exitCode(err)
}

// advise adds what to do next to faults of the server, which does not know by
// which command it was asked.
func advise(cmd *cobra.Command, err error) error {
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Hint != "" {
		return err
	}
	told := *f
	switch f.Code {
	case fault.Invalid:
		return told.WithHint("see '%s --help'", cmd.CommandPath())
	case fault.Unauthorized:
		return told.WithHint("check --token and INTERDICT_TOKEN, or type 'interdict login' again; the server wrote a token to DIR/admin-token")
	case fault.NotFound:
		if list := listOf(cmd.Root(), f.Message); list != nil {
			return told.WithHint("list them with: %s", list.CommandPath())
		}
		return err
	default:
		return err
	}
}

// listOf returns the command that lists what a message says is not there, such
// as groups for: there is no group "lab". It returns nil if there is none.
func listOf(root *cobra.Command, message string) *cobra.Command {
	what, _, _ := strings.Cut(message, ` "`)
	words := strings.Fields(what)
	if len(words) == 0 {
		return nil
	}
	list, rest, err := root.Find([]string{words[len(words)-1], "list"})
	if err != nil || len(rest) > 0 {
		return nil
	}
	return list
}

// exitCode is the one table from faults to exit codes.
func exitCode(err error) int {
	if err == nil {
		return ExitDone
	}
	switch fault.CodeOf(err) {
	case fault.Invalid:
		return ExitUsage
	case fault.Unreachable, fault.Unavailable:
		return ExitUnreachable
	case fault.Unauthorized, fault.Forbidden:
		return ExitNotPermitted
	default:
		return ExitFailed
	}
}

// tell writes an error for people: what is wrong, then what to do next.
func tell(w io.Writer, err error) {
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	fmt.Fprintf(w, "interdict: %s\n", output.Printable(err.Error()))
	var f *fault.Error
	if errors.As(err, &f) && f.Hint != "" {
		fmt.Fprintf(w, "hint: %s\n", output.Printable(f.Hint))
	}
}

func newRootCmd(s *session.Session) *cobra.Command {
	root := &cobra.Command{
		Use:   "interdict",
		Short: "Block unsanctioned cloud apps on every endpoint",
		Long: `Interdict finds out which cloud apps a fleet of machines uses, and within a
second every endpoint audits, warns about or blocks the connections to those
which an administrator calls unsanctioned.

First use, on the machine that runs the server:

    interdict server --data-dir /var/lib/interdict

and when it says 'server is ready', in another terminal:

    interdict login --data-dir /var/lib/interdict
    interdict token create
    interdict policy create standard --network-protection block
    interdict policy assign standard --all-devices
    interdict app tag itunes unsanctioned --wait

The second of these prints what 'interdict-agent enroll' needs on each machine.

From elsewhere, give the server's address and a token. A token that the server
wrote into its data directory says by which certificate authority the server is
to be trusted, so nothing else is needed:

    interdict --server https://interdict.example.com:8443 --token "$T" app list

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 server not reachable,
4 not permitted.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          usage.ChooseSubcommand,
	}
	root.SuggestionsMinimumDistance = usage.SuggestionDistance
	root.SetFlagErrorFunc(usage.FlagFault)
	root.Version = version.String()
	root.SetVersionTemplate(versionLine() + "\n")
	f := root.PersistentFlags()
	f.Var((*given)(&s.Server), "server", "the server's `URL` (or INTERDICT_SERVER, or the one of 'interdict login')")
	f.Var((*given)(&s.Token), "token", "API `token` (or INTERDICT_TOKEN, or the one of 'interdict login')")
	f.Var((*given)(&s.CA), "ca", "`file` with the certificate authority to trust the server by, PEM (or INTERDICT_CA)")
	f.StringVarP(&s.Format, "output", "o", "table", "how to print data, a `format`: table, json or csv")
	addGrouped(root, groupApps, "Apps and indicators", appcmd.New(s), indicatorcmd.New(s), watchcmd.NewRequest(s), watchcmd.NewBypass(s))
	addGrouped(root, groupFleet, "Fleet", fleetcmd.NewDevice(s), fleetcmd.NewGroup(s), fleetcmd.NewPolicy(s), rolloutcmd.New(s))
	addGrouped(root, groupWatch, "Watch", watchcmd.NewAlert(s), watchcmd.NewEvent(s), explaincmd.New(s))
	addGrouped(root, groupAdminister, "Administer", admincmd.NewLogin(s), admincmd.NewToken(s), admincmd.NewFeature(s), admincmd.NewAuditLog(s))
	addGrouped(root, groupRun, "Run, and get help", newVersionCmd(s))
	return root
}

// The groups of commands in the help, in its order.
const (
	groupApps       = "apps"
	groupFleet      = "fleet"
	groupWatch      = "watch"
	groupAdminister = "administer"
	groupRun        = "run"
)

// addGrouped adds the commands to the root that the help lists under a title.
func addGrouped(root *cobra.Command, id, title string, cmds ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: id, Title: title + ":"})
	for _, cmd := range cmds {
		cmd.GroupID = id
	}
	root.AddCommand(cmds...)
}

// given is the text of a flag that must not be empty when it is typed: in a
// script it is a variable that was not set, and means no other server or token.
type given string

// Set implements pflag.Value.
func (g *given) Set(s string) error {
	if s == "" {
		return errors.New("it is empty")
	}
	*g = given(s)
	return nil
}

// String implements pflag.Value.
func (g *given) String() string { return string(*g) }

// Type implements pflag.Value.
func (*given) Type() string { return "string" }

// build is what the version command says of this program.
type build struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func thisBuild() build {
	return build{Version: version.String(), Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
}

func versionLine() string {
	b := thisBuild()
	return fmt.Sprintf("interdict %s %s %s/%s", b.Version, b.Go, b.OS, b.Arch)
}

func newVersionCmd(s *session.Session) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  usage.Exactly(),
		RunE: func(*cobra.Command, []string) error {
			if err := output.CheckFormat(s.Format); err != nil {
				return err
			}
			if s.Format == output.FormatTable {
				_, err := fmt.Fprintln(s.Stdout, versionLine())
				return err
			}
			raw, err := json.Marshal(thisBuild())
			if err != nil {
				return fmt.Errorf("writing JSON: %w", err)
			}
			return output.One(s.Stdout, s.Format, raw, []output.Column[build]{
				{Head: "version", Cell: func(b build) string { return b.Version }},
				{Head: "go", Cell: func(b build) string { return b.Go }},
				{Head: "os", Cell: func(b build) string { return b.OS }},
				{Head: "arch", Cell: func(b build) string { return b.Arch }},
			})
		},
	}
}
