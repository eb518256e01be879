package usage_test

import (
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"interdict/internal/cli/usage"
	"interdict/internal/fault"
)

// shop is a program with a command for each kind of arguments.
func shop() *cobra.Command {
	nothing := func(*cobra.Command, []string) error { return nil }
	buy := &cobra.Command{Use: "buy WHAT WHERE", Args: usage.Exactly("WHAT", "WHERE"), RunE: nothing}
	look := &cobra.Command{Use: "look WHAT...", Args: usage.AtLeast("WHAT"), RunE: nothing}
	ask := &cobra.Command{Use: "ask [WHOM]", Args: usage.AtMost("WHOM"), RunE: nothing}
	change := &cobra.Command{Use: "change", Args: usage.Exactly(), RunE: func(cmd *cobra.Command, _ []string) error { return usage.CheckEdit(cmd) }}
	change.Flags().Int("price", 0, "")
	change.Flags().Bool("wait", false, "")
	change.Flags().Duration("timeout", 0, "")
	root := usage.Parent("shop", "A shop", "", buy, look, ask, change)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(usage.FlagFault)
	usage.AddHelp(root)
	root.SetOut(io.Discard)
	return root
}

func TestWhoTypesSomethingElseIsToldWhatIsWrong(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
		want string
	}{
		{"as meant", []string{"buy", "a", "b"}, ""},
		{"an argument is missing", []string{"buy", "a"}, "WHERE is missing"},
		{"two arguments are missing", []string{"buy"}, "WHAT and WHERE are missing"},
		{"an argument too many", []string{"buy", "a", "b", "c"}, `there is an argument too many: "c"`},
		{"any number", []string{"look", "a", "b", "c"}, ""},
		{"at least one is missing", []string{"look"}, "WHAT is missing"},
		{"an argument that may be missing", []string{"ask"}, ""},
		{"an argument more than may be there", []string{"ask", "a", "b"}, `there is an argument too many: "b"`},
		{"an unknown command", []string{"sell"}, `unknown command "sell" for "shop"`},
		{"help about an unknown command", []string{"help", "sell"}, `unknown command "sell" for "shop"`},
		{"an edit", []string{"change", "--price", "3"}, ""},
		{"an edit of nothing", []string{"change", "--wait"}, "there is nothing to change"},
		{"a flag that is no number", []string{"change", "--price", "low"}, `--price "low" is not a whole number`},
		{"a flag that is no span", []string{"change", "--timeout", "long"}, `--timeout "long" is not a span of time such as 90s or 5m`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd := shop()
			cmd.SetArgs(tc.args)
			err := cmd.Execute()
			if tc.want == "" {
				if err != nil {
					t.Errorf("got %v, want no error", err)
				}
				return
			}
			if fault.CodeOf(err) != fault.Invalid || err.Error() != tc.want {
				t.Errorf("got %v, want invalid: %s", err, tc.want)
			}
		})
	}
}

func TestHelpAboutWhatIsNotThereIsAMistake(t *testing.T) {
	root := shop()
	help := usage.AddHelp(root)
	root.SetArgs([]string{"buy", "--help"})
	if err := root.Execute(); err != nil || help.Misused() != nil {
		t.Errorf("got %v and %v, want help", err, help.Misused())
	}
	root.SetArgs([]string{"sell", "--help"})
	if err := root.Execute(); err != nil || fault.CodeOf(help.Misused()) != fault.Invalid {
		t.Errorf("got %v and %v, want that there is no such command", err, help.Misused())
	}
}

func TestLabels(t *testing.T) {
	for _, tc := range []struct {
		name  string
		pairs []string
		want  map[string]string
		fails bool
	}{
		{"none", nil, nil, false},
		{"several, one of them empty", []string{"site=berlin", "finance=", "a=b=c"}, map[string]string{"site": "berlin", "finance": "", "a": "b=c"}, false},
		{"no value", []string{"site"}, nil, true},
		{"no key", []string{"=berlin"}, nil, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := usage.Labels("label", tc.pairs)
			if diff := cmp.Diff(tc.want, got); diff != "" || (fault.CodeOf(err) == fault.Invalid) != tc.fails {
				t.Errorf("%q: got %v, want failure %t (-want +got):\n%s", tc.pairs, err, tc.fails, diff)
			}
		})
	}
}
