// Package cli decides what the administrator's commands are called, what they
// print and how they end. Its commands are clients of the admin API and of
// nothing else; commands that are not (the server itself, the demo) are made
// by the program and handed to [Run].
//
// Data goes to standard output, everything said to people to standard error.
// With --output json a command prints the document of the admin API, whose
// version is in its path, so that scripts rely on the same contract as any
// other client.
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
	"github.com/spf13/pflag"

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
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Getenv looks up an environment variable.
	Getenv func(string) string
	// ConfigDir is the user's configuration directory, in which
	// interdict/login.json is kept. Empty where there is none.
	ConfigDir string
	// Terminal is true when standard error is a terminal, so that progress
	// can be shown in place.
	Terminal bool
}

// Run runs one command and returns its exit code. It ends early when ctx
// does. More are commands beside those of this package.
func Run(ctx context.Context, env Env, args []string, more ...*cobra.Command) int {
	s := &session{Env: env}
	root := newRootCmd(s)
	root.AddCommand(more...)
	root.SetArgs(args)
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		err = s.misused
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
	default:
		return err
	}
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
	fmt.Fprintf(w, "interdict: %s\n", printable(err.Error()))
	var f *fault.Error
	if errors.As(err, &f) && f.Hint != "" {
		fmt.Fprintf(w, "hint: %s\n", printable(f.Hint))
	}
}

func newRootCmd(s *session) *cobra.Command {
	root := &cobra.Command{
		Use:   "interdict",
		Short: "Block unsanctioned cloud apps on every endpoint",
		Long: `Interdict finds out which cloud apps a fleet of machines uses, and within a
second every endpoint audits, warns about or blocks the connections to those
which an administrator calls unsanctioned.

First use, on the machine that runs the server:

    interdict server --data-dir /var/lib/interdict &
    interdict login --data-dir /var/lib/interdict
    interdict app tag itunes unsanctioned --wait

From elsewhere, give the server's address and a token. A token that the server
wrote into its data directory says by which certificate authority the server is
to be trusted, so nothing else is needed:

    interdict --server https://interdict.example.com:8443 --token "$T" app list

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 server not reachable,
4 not permitted.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          chooseSubcommand,
	}
	root.SuggestionsMinimumDistance = suggestionDistance
	root.SetFlagErrorFunc(flagFault)
	root.SetHelpCommand(newHelpCmd())
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		// Cobra asks for help without looking at the arguments before.
		if rest := cmd.Flags().Args(); cmd.HasSubCommands() && len(rest) > 0 {
			s.misused = chooseSubcommand(cmd, rest)
			return
		}
		help(cmd, args)
	})
	root.Version = version.String()
	root.SetVersionTemplate(versionLine() + "\n")
	f := root.PersistentFlags()
	f.Var((*given)(&s.server), "server", "the server's `URL` (or INTERDICT_SERVER, or the one of 'interdict login')")
	f.Var((*given)(&s.token), "token", "API `token` (or INTERDICT_TOKEN, or the one of 'interdict login')")
	f.Var((*given)(&s.ca), "ca", "`file` with the certificate authority to trust the server by, PEM (or INTERDICT_CA)")
	f.StringVarP(&s.format, "output", "o", "table", "how to print data, a `format`: table, json or csv")
	root.AddCommand(
		newLoginCmd(s), newAppCmd(s), newIndicatorCmd(s), newGroupCmd(s), newPolicyCmd(s), newDeviceCmd(s),
		newAlertCmd(s), newEventCmd(s), newTokenCmd(s), newFeatureCmd(s), newAuditLogCmd(s), newVersionCmd(s),
	)
	return root
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

// chooseSubcommand is run by commands that only hold others.
func chooseSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		if !cmd.HasParent() {
			return cmd.Help()
		}
		var names []string
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() {
				names = append(names, c.Name())
			}
		}
		if len(names) == 1 {
			return usageFault(cmd, "%s what? there is '%s %s'", cmd.CommandPath(), cmd.CommandPath(), names[0])
		}
		return usageFault(cmd, "%s what? one of %s", cmd.CommandPath(), strings.Join(names, ", "))
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return fault.New(fault.Invalid, "unknown command %q for %q", args[0], cmd.CommandPath()).
			WithHint("did you mean '%s %s'?", cmd.CommandPath(), near[0])
	}
	return usageFault(cmd, "unknown command %q for %q", args[0], cmd.CommandPath())
}

// suggestionDistance is how many letters a command that is suggested may differ
// in from what was typed.
const suggestionDistance = 2

func newHelpCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Print the help of a command",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			meant, rest, err := cmd.Root().Find(args)
			if err != nil {
				return usageFault(cmd, "%s", err)
			}
			if len(rest) > 0 && meant.HasSubCommands() {
				return chooseSubcommand(meant, rest)
			}
			return meant.Help()
		},
	}
}

// newParentCmd makes a command that only holds others.
func newParentCmd(use, short, long string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: cobra.ArbitraryArgs, RunE: chooseSubcommand}
	cmd.SuggestionsMinimumDistance = suggestionDistance
	cmd.AddCommand(children...)
	return cmd
}

// usageFault is a fault of how a command was typed.
func usageFault(cmd *cobra.Command, format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).WithHint("see '%s --help'", cmd.CommandPath())
}

// flagFault says what is wrong with a flag without the words of the libraries
// that read it.
func flagFault(cmd *cobra.Command, err error) error {
	bad, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return usageFault(cmd, "%s", err)
	}
	flag := bad.GetFlag()
	rule := "is not usable: " + errors.Unwrap(bad).Error()
	switch flag.Value.Type() {
	case "int":
		rule = "is not a whole number"
	case "duration":
		rule = "is not a span of time such as 90s or 5m"
	case "bool":
		rule = "is neither true nor false"
	}
	return usageFault(cmd, "--%s %q %s", flag.Name, bad.GetValue(), rule)
}

// exactly takes as many arguments as it is given names for.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usageFault(cmd, "%s", missing(names[len(args):]))
		case len(args) > len(names):
			return usageFault(cmd, "there is an argument too many: %q", args[len(names)])
		}
		return nil
	}
}

// missing says which arguments are.
func missing(names []string) string {
	if len(names) == 1 {
		return names[0] + " is missing"
	}
	return strings.Join(names, " and ") + " are missing"
}

// atLeast takes one argument for each name and any number more.
func atLeast(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usageFault(cmd, "%s", missing(names[len(args):]))
		}
		return nil
	}
}

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

func newVersionCmd(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  exactly(),
		RunE: func(*cobra.Command, []string) error {
			if err := checkFormat(s.format); err != nil {
				return err
			}
			if s.format == formatTable {
				_, err := fmt.Fprintln(s.Stdout, versionLine())
				return err
			}
			raw, err := json.Marshal(thisBuild())
			if err != nil {
				return fmt.Errorf("writing JSON: %w", err)
			}
			return printOne(s, raw, []column[build]{
				{"version", func(b build) string { return b.Version }},
				{"go", func(b build) string { return b.Go }},
				{"os", func(b build) string { return b.OS }},
				{"arch", func(b build) string { return b.Arch }},
			})
		},
	}
}
