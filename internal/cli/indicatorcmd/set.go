package indicatorcmd

import (
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/cli/moment"
	"interdict/internal/cli/profile"
	"interdict/internal/cli/session"
	"interdict/internal/cli/usage"
	"interdict/internal/indicator"
)

// edit says how an indicator is to be changed.
type edit struct {
	action, severity, description, expires string
	alert, everybody                       bool
	scope                                  profile.Flags
}

// never is the expiry of an indicator that has none.
const never = "never"

// body returns what is sent to change the indicator i.
func (e *edit) body(cmd *cobra.Command, i *indicator.Indicator) (map[string]any, error) {
	body := map[string]any{}
	for flag, value := range map[string]any{"action": e.action, "severity": e.severity, "description": e.description} {
		if cmd.Flags().Changed(flag) {
			body[flag] = value
		}
	}
	if cmd.Flags().Changed("alert") {
		body["generate_alert"] = e.alert
	}
	if cmd.Flags().Changed("expires") {
		at := time.Time{}
		if e.expires != never {
			var err error
			if at, err = moment.Parse("--expires", e.expires, time.Now(), moment.Ahead); err != nil {
				return nil, err
			}
		}
		body["expires_at"] = at
	}
	if e.everybody || e.scope.Changed(cmd) {
		wanted := i.Scope
		if e.everybody {
			wanted = indicator.Profile{}
		}
		e.scope.Edit(cmd, &wanted)
		body["scope"] = wanted
	}
	return body, nil
}

func newSetCmd(s *session.Session) *cobra.Command {
	var e edit
	var wait session.Wait
	cmd := &cobra.Command{
		Use:   "set ID",
		Short: "Change a custom indicator in place",
		Long: `Set changes what its flags name and leaves the rest, the indicator's id among
it. Of the scope, what is typed takes the place of what was there, list by list;
an empty value takes a list away, --clear all of them.`,
		Example: `  interdict indicator set 01M84SC2ZQCA2EHZJHB86FZB6Z --action warn --wait
  interdict indicator set 01M84SC2ZQCA2EHZJHB86FZB6Z --exclude-user root --expires never`,
		Args: usage.Exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := usage.CheckEdit(cmd); err != nil {
				return err
			}
			if err := e.scope.Read(cmd); err != nil {
				return err
			}
			c, err := s.Client()
			if err != nil {
				return err
			}
			path := "/indicators/" + url.PathEscape(args[0])
			var i indicator.Indicator
			raw, err := client.Edit(cmd.Context(), c, http.MethodPatch, path, func(is *indicator.Indicator) (any, error) {
				i = *is
				return e.body(cmd, is)
			})
			if err != nil {
				return err
			}
			return s.Changed(cmd, wait, raw, "changed %s: %s %s", i.ID, i.Type, i.Value)
		},
	}
	f := cmd.Flags()
	f.StringVar(&e.action, "action", "", actionHelp)
	f.StringVar(&e.severity, "severity", "", severityHelp)
	f.StringVar(&e.description, "description", "", "a `text` that says what it is for")
	f.StringVar(&e.expires, "expires", "", "when it ceases to exist: a `time` such as 24h, 7d or 2026-12-31, or never")
	f.BoolVar(&e.alert, "alert", true, alertHelp)
	f.BoolVar(&e.everybody, "clear", false, "for everybody, always, but for what else is typed")
	e.scope.Add(cmd)
	wait.Add(cmd)
	return cmd
}
