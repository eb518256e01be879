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
	rules := map[string]string{
		"bool":     "is neither true nor false",
		"uint":     "is not a number of 0 or more",
		"intSlice": "is not a list of numbers such as 1126,1129",
		"duration": "is not a time such as 10m or 1h30m",
	}
	rule := "is not usable"
	switch flag.Name {
	case "label":
		rule = "is not of the form KEY=VALUE"
	case "log-level":
		rule = "is none of debug, info, warn and error"
	default:
		if said, ok := rules[flag.Value.Type()]; ok {
			rule = said
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
