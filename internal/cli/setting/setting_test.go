package setting_test

import (
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"interdict/internal/cli/setting"
	"interdict/internal/fleet"
)

// run types arguments at a command with the flags, which edits settings.
func run(s *fleet.Settings, args ...string) error {
	var f setting.Flags
	cmd := &cobra.Command{
		Use: "set", SilenceErrors: true, SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.Apply(cmd, s) },
	}
	cmd.SetOut(io.Discard)
	cmd.SetArgs(args)
	f.Add(cmd)
	f.AddUnset(cmd)
	return cmd.Execute()
}

func TestEverySettingHasAFlag(t *testing.T) {
	for _, d := range fleet.Definitions() {
		value := d.Default
		if value == "" {
			value = "https://help.example/"
		}
		var s fleet.Settings
		if err := run(&s, "--"+strings.ReplaceAll(d.Name, "_", "-"), value); err != nil || d.Get(&s) != value {
			t.Errorf("%s: got %q (%v), want %q", d.Name, d.Get(&s), err, value)
		}
		if err := run(&s, "--unset", d.Name); err != nil || d.Get(&s) != "" {
			t.Errorf("%s: got %q (%v), want it unmade", d.Name, d.Get(&s), err)
		}
	}
}

func TestFlagsSayWhatIsWrong(t *testing.T) {
	for want, args := range map[string][]string{
		`--fail-mode "ajar" must be open or closed`:            {"--fail-mode", "ajar"},
		`there is no setting "nothing"`:                        {"--unset", "nothing"},
		"--unset fail-mode and --fail-mode cannot be together": {"--unset", "fail-mode", "--fail-mode", "open"},
	} {
		var s fleet.Settings
		if err := run(&s, args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %q", args, err, want)
		}
	}
}
