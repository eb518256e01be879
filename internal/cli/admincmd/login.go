// Package admincmd has the commands by which somebody administers a server:
// login, enrolment tokens, the features of the whole server, and the audit log.
package admincmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/cli/session"
	"interdict/internal/cli/usage"
)

// NewLogin makes the command that remembers a server and a token.
func NewLogin(s *session.Session) *cobra.Command {
	var dataDir, fingerprint string
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Remember a server and a token for the commands that follow",
		Long: `Login checks that the server accepts a token and remembers both, with the
fingerprint of the server's certificate authority, in interdict/login.json below
the user's configuration directory, readable by the user only.

On the server's machine, --data-dir reads address, token and fingerprint from
the files that the server wrote. It writes them at its first start: wait until it
says 'server is ready'. Elsewhere give --server, and the token with
--token, INTERDICT_TOKEN or on standard input. The fingerprint is part of the
token that the server wrote; for another token give --fingerprint or --ca.`,
		Example: `  interdict login --data-dir /var/lib/interdict
  ssh server cat /var/lib/interdict/admin-token | interdict login --server https://interdict.example.com:8443`,
		Args: usage.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			from := s.Login()
			l, err := from.Gather(dataDir, fingerprint)
			if err != nil {
				return err
			}
			roots, err := from.Roots()
			if err != nil {
				return err
			}
			c, err := client.New(l.Config(roots))
			if err != nil {
				return err
			}
			if _, err = c.Get(cmd.Context(), "/features", nil); err != nil {
				return err
			}
			name, err := from.Remember(l)
			if err != nil {
				return err
			}
			fmt.Fprintf(s.Stderr, "logged in to %s; remembered in %s\n", l.Server, name)
			return nil
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", "", "the data `directory` of a server on this machine")
	cmd.Flags().StringVar(&fingerprint, "fingerprint", "", "SHA-256 of the server's certificate authority in `hex`")
	return cmd
}
