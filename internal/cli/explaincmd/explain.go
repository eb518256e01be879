// Package explaincmd has the command that says why a destination is blocked on
// a device, or why not. It decides how the answer is printed for people: a
// sentence, then the links of the chain, with the one that decides marked and
// what to type below it.
package explaincmd

import (
	"encoding/json"
	"io"
	"net/url"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"interdict/internal/cli/client"
	"interdict/internal/cli/output"
	"interdict/internal/cli/session"
	"interdict/internal/cli/usage"
	"interdict/internal/explain"
	"interdict/internal/fault"
)

// New makes the command.
func New(s *session.Session) *cobra.Command {
	var device, user, expect string
	cmd := &cobra.Command{
		Use:   "explain HOST|ADDRESS|URL --device NAME",
		Short: "Say why a destination is blocked on a device, or why not",
		Long: `Explain follows the chain from an app to a refused connection: its tag, the
feature switch, the indicator and its scope, the device's policies, whether the
device has the newest of all that, whether its kernel is in force, what it makes
of the destination itself, and what it last recorded about it. It says which link
decides, and what to type to mend that. A device that is connected is asked
itself; otherwise the answer follows from what it last acknowledged.

The path of a URL counts if it is one of http: nobody can see that of https.

With --expect the exit code is 1 if it is not as expected, or if that cannot be
said.`,
		Example: `  interdict explain itunes.apple.com --device anna-pc
  interdict explain https://www.dropbox.com/home --device anna-pc --user anna --expect blocked`,
		Args: usage.Exactly("HOST"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if device == "" {
				return usage.Fault(cmd, "--device is missing")
			}
			q := url.Values{"target": {args[0]}, "device": {device}}
			for name, value := range map[string]string{"user": user, "expect": expect} {
				if value != "" {
					q.Set(name, value)
				}
			}
			c, err := s.Client()
			if err != nil {
				return err
			}
			raw, err := c.Get(cmd.Context(), "/explain", q)
			if err != nil {
				return err
			}
			return show(s, raw)
		},
	}
	cmd.Flags().StringVar(&device, "device", "", "the device's `name` or id")
	cmd.Flags().StringVar(&user, "user", "", "for this user of the device, a login `name`")
	cmd.Flags().StringVar(&expect, "expect", "", "what ought to be: `blocked` or allowed")
	return cmd
}

func show(s *session.Session, raw json.RawMessage) error {
	c, err := client.Decode[explain.Chain](raw)
	if err != nil {
		return err
	}
	switch s.Format {
	case output.FormatJSON:
		err = output.JSON(s.Stdout, raw)
	case output.FormatCSV:
		err = links(s, &c)
	default:
		look := plain
		if s.Getenv("NO_COLOR") == "" && terminal(s.Stdout) {
			look = colour
		}
		err = write(s.Stdout, &c, look)
	}
	if err != nil {
		return err
	}
	switch {
	case c.Unexpected:
		return fault.New(fault.Internal, "%s is %s on %s, and %s was expected", c.Subject, c.Outcome, c.Name, c.Expected)
	case c.Expected != "" && c.Outcome == explain.OutcomeUnknown:
		return fault.New(fault.Internal, "it is not known whether %s is %s on %s", c.Subject, c.Expected, c.Name)
	default:
		return nil
	}
}

// terminal reports whether people see at once what is written to w.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// links prints a line of CSV for each link.
func links(s *session.Session, c *explain.Chain) error {
	rows := make([][]string, len(c.Links))
	for i, l := range c.Links {
		decisive := ""
		if l.Name == c.Decisive {
			decisive = "yes"
		}
		rows[i] = []string{string(l.Name), string(l.State), decisive, l.Text, l.Fix}
	}
	return output.CSV(s.Stdout, []string{"link", "state", "decisive", "text", "fix"}, rows)
}
