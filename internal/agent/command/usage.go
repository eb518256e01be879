package command

import (
	"errors"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"interdict/internal/fault"
)

// usageFault is a fault of how a command was typed.
func usageFault(cmd *cobra.Command, format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).WithHint("see '%s --help'", cmd.CommandPath())
}

// flagFault says what is wrong with a flag without the words of the libraries
// that read it.
func flagFault(cmd *cobra.Command, err error) error {
	bad, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return usageFault(cmd, "%v", err)
	}
	flag := bad.GetFlag()
	rule := "is not usable"
	switch flag.Name {
	case "label":
		rule = "is not of the form KEY=VALUE"
	case "log-level":
		rule = "is none of debug, info, warn and error"
	default:
		if flag.Value.Type() == "bool" {
			rule = "is neither true nor false"
		}
	}
	return usageFault(cmd, "--%s %q %s", flag.Name, bad.GetValue(), rule)
}

// exactly takes as many arguments as it is given names for.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usageFault(cmd, "%s is missing", names[len(args)])
		case len(args) > len(names):
			return usageFault(cmd, "there is an argument too many: %q", args[len(names)])
		}
		return nil
	}
}
