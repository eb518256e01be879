package profile_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"interdict/internal/cli/output"
	"interdict/internal/cli/profile"
	"interdict/internal/indicator"
)

func TestEditReplacesWhatWasTyped(t *testing.T) {
	before := indicator.Profile{
		Scope:   indicator.Scope{Include: []string{"lab"}, Exclude: []string{"old"}},
		People:  indicator.People{IncludeUsers: []string{"alice"}, ExcludeUserGroups: []string{"staff"}},
		Windows: []indicator.Window{{From: "08:00", To: "17:00"}},
	}
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"nothing", nil, "lab except old; users alice; not user groups staff; 08:00-17:00"},
		{"one list", []string{"--user", "bob,carol"}, "lab except old; users bob, carol; not user groups staff; 08:00-17:00"},
		{"lists away", []string{"--include-group", "", "--exclude-user-group", "", "--window", ""}, "all devices except old; users alice"},
		{"several windows", []string{"--window", "mon 22:00-06:00 UTC", "--window", "sat,sun 00:00-24:00"}, "lab except old; users alice; not user groups staff; mon 22:00-06:00 UTC, sat,sun 00:00-24:00"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var f profile.Flags
			got := before
			cmd := &cobra.Command{Use: "scope", RunE: func(cmd *cobra.Command, _ []string) error {
				if f.Changed(cmd) != (len(test.args) > 0) {
					t.Errorf("changed is %v", f.Changed(cmd))
				}
				if err := f.Read(cmd); err != nil {
					return err
				}
				f.Edit(cmd, &got)
				return nil
			}}
			f.Add(cmd)
			cmd.SetArgs(test.args)
			if err := cmd.Execute(); err != nil {
				t.Fatal(err)
			}
			text := profile.Text(&got, func(s indicator.Scope) string { return output.Scope(s.Include, s.Exclude) })
			if diff := cmp.Diff(test.want, text); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
