package appcmd

import (
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/cli/profile"
	"interdict/internal/cli/session"
	"interdict/internal/cli/usage"
	"interdict/internal/indicator"
)

func newScopeCmd(s *session.Session) *cobra.Command {
	var scope profile.Flags
	var everybody bool
	var wait session.Wait
	cmd := &cobra.Command{
		Use:   "scope ID",
		Short: "Change for whom and when the tag of an app counts",
		Long: `Scope changes the scope of a tag in place: the tag stays as it is, with its time
and its author, and no device is without it for a moment. What is typed takes the
place of what was there, list by list; an empty value takes a list away, --clear
all of them.`,
		Example: `  interdict app scope itunes --exclude-group auditors --wait
  interdict app scope itunes --window 'mon-fri 08:00-17:30 Europe/Berlin'
  interdict app scope itunes --clear --user-group students`,
		Args: usage.Exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !everybody && !scope.Changed(cmd) {
				return usage.Fault(cmd, "there is nothing to change")
			}
			if err := scope.Read(cmd); err != nil {
				return err
			}
			c, err := s.Client()
			if err != nil {
				return err
			}
			var name string
			raw, err := client.EditPart(cmd.Context(), c, http.MethodPut, "/apps/"+url.PathEscape(args[0]), "/scope", func(app *view) (any, error) {
				name = app.Name
				wanted := app.Tagging.Scope
				if everybody {
					wanted = indicator.Profile{}
				}
				scope.Edit(cmd, &wanted)
				return wanted, nil
			})
			if err != nil {
				return err
			}
			return s.Changed(cmd, wait, raw, "changed the scope of %s", name)
		},
	}
	cmd.Flags().BoolVar(&everybody, "clear", false, "for everybody, always, but for what else is typed")
	scope.Add(cmd)
	wait.Add(cmd)
	return cmd
}
