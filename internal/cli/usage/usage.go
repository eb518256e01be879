// Package usage decides how commands are typed: which arguments they take, how
// commands that only hold others behave, and what is said to who typed
// something else. It knows no command.
package usage

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"interdict/internal/fault"
)

// ChooseSubcommand is run by commands that only hold others.
func ChooseSubcommand(cmd *cobra.Command, args []string) error {
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
			return Fault(cmd, "%s what? there is '%s %s'", cmd.CommandPath(), cmd.CommandPath(), names[0])
		}
		return Fault(cmd, "%s what? one of %s", cmd.CommandPath(), strings.Join(names, ", "))
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return fault.New(fault.Invalid, "unknown command %q for %q", args[0], cmd.CommandPath()).
			WithHint("did you mean '%s %s'?", cmd.CommandPath(), near[0])
	}
	return Fault(cmd, "unknown command %q for %q", args[0], cmd.CommandPath())
}

// SuggestionDistance is how many letters a command that is suggested may differ
// in from what was typed.
const SuggestionDistance = 2

// Help prints the help of commands.
type Help struct {
	print   func(*cobra.Command, []string)
	misused error
}

// AddHelp makes the help of root and of the commands below it: by the flag --help,
// and by a command. The help of a command that only holds others does not say
// that it could be typed alone. Where root has groups of commands, the last
// one gets the command for help.
func AddHelp(root *cobra.Command) *Help {
	h := &Help{print: root.HelpFunc()}
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .Runnable}}", "{{if not .HasAvailableSubCommands}}", 1))
	help := newHelpCmd()
	if groups := root.Groups(); len(groups) > 0 {
		help.GroupID = groups[len(groups)-1].ID
		root.SetCompletionCommandGroupID(help.GroupID)
	}
	root.SetHelpCommand(help)
	root.SetHelpFunc(h.ask)
	return h
}

// Misused returns what was wrong with a command that help was asked for, nil
// for nothing.
func (h *Help) Misused() error { return h.misused }

// ask prints the help of a command. Cobra asks for it without looking at the
// arguments before.
func (h *Help) ask(cmd *cobra.Command, args []string) {
	if rest := cmd.Flags().Args(); cmd.HasSubCommands() && len(rest) > 0 {
		h.misused = ChooseSubcommand(cmd, rest)
		return
	}
	h.print(cmd, args)
}

// newHelpCmd makes the command that prints the help of others.
func newHelpCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Print the help of a command",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			meant, rest, err := cmd.Root().Find(args)
			if err != nil {
				return Fault(cmd, "%s", err)
			}
			if len(rest) > 0 && meant.HasSubCommands() {
				return ChooseSubcommand(meant, rest)
			}
			return meant.Help()
		},
	}
}

// Parent makes a command that only holds others.
func Parent(use, short, long string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: cobra.ArbitraryArgs, RunE: ChooseSubcommand}
	cmd.SuggestionsMinimumDistance = SuggestionDistance
	cmd.AddCommand(children...)
	return cmd
}

// Fault is a fault of how a command was typed.
func Fault(cmd *cobra.Command, format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).WithHint("see '%s --help'", cmd.CommandPath())
}

// FlagFault says what is wrong with a flag without the words of the libraries
// that read it.
func FlagFault(cmd *cobra.Command, err error) error {
	bad, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return Fault(cmd, "%s", err)
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
	return Fault(cmd, "--%s %q %s", flag.Name, bad.GetValue(), rule)
}

// Exactly takes as many arguments as it is given names for.
func Exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return Fault(cmd, "%s", missing(names[len(args):]))
		}
		return AtMost(names...)(cmd, args)
	}
}

// missing says which arguments are.
func missing(names []string) string {
	if len(names) == 1 {
		return names[0] + " is missing"
	}
	return strings.Join(names, " and ") + " are missing"
}

// AtMost takes one argument for each name, or fewer.
func AtMost(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > len(names) {
			return Fault(cmd, "there is an argument too many: %q", args[len(names)])
		}
		return nil
	}
}

// AtLeast takes one argument for each name and any number more.
func AtLeast(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return Fault(cmd, "%s", missing(names[len(args):]))
		}
		return nil
	}
}

// CheckEdit makes sure that a command which changes what its flags name has
// been given one.
func CheckEdit(cmd *cobra.Command) error {
	edits := false
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		edits = edits || f.Changed && f.Name != "wait" && f.Name != "timeout"
	})
	if !edits {
		return Fault(cmd, "there is nothing to change")
	}
	return nil
}

// AddLimit makes the flag that bounds how much of a list is printed.
func AddLimit(cmd *cobra.Command, limit *int) {
	cmd.Flags().IntVar(limit, "limit", 0, "print at most this `number`; 0 prints all")
}

// Labels reads the KEY=VALUE pairs that were given to a flag. It returns nil if
// there are none.
func Labels(flag string, pairs []string) (map[string]string, error) {
	if len(pairs) == 0 {
		return nil, nil
	}
	labels := make(map[string]string, len(pairs))
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return nil, fault.New(fault.Invalid, "--%s %q is not of the form KEY=VALUE", flag, p)
		}
		labels[k] = v
	}
	return labels, nil
}
