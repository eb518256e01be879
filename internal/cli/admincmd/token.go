package admincmd

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/cli/moment"
	"interdict/internal/cli/output"
	"interdict/internal/cli/session"
	"interdict/internal/cli/usage"
)

// NewToken makes the commands about enrolment tokens.
func NewToken(s *session.Session) *cobra.Command {
	return usage.Parent("token", "Make and revoke enrolment tokens",
		`An enrolment token makes machines into devices: one string with the server's
address, the fingerprint of its certificate authority and a secret. It expires,
admits a limited number of machines, and can give them labels and groups. It is
named by its name or its id.`,
		newTokenCreateCmd(s), newTokenListCmd(s), newTokenDeleteCmd(s))
}

// tokenView is an enrolment token as the API shows it.
type tokenView struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	State     string            `json:"state"`
	Uses      int               `json:"uses"`
	Used      int               `json:"used"`
	ExpiresAt time.Time         `json:"expires_at"`
	Labels    map[string]string `json:"labels"`
	Groups    []string          `json:"groups"`
	// Token is there once, in the answer to its creation.
	Token string `json:"token"`
}

// newToken is the body of a request for an enrolment token.
type newToken struct {
	Name      string            `json:"name"`
	ExpiresAt time.Time         `json:"expires_at"`
	Uses      int               `json:"uses"`
	Labels    map[string]string `json:"labels,omitempty"`
	Groups    []string          `json:"groups,omitempty"`
}

// read takes in the flags that need reading, and makes up a name if there is
// none.
func (n *newToken) read(cmd *cobra.Command, expires string, labels []string) (err error) {
	if n.Uses < 1 {
		return usage.Fault(cmd, "--uses must be at least 1")
	}
	if n.Labels, err = usage.Labels("label", labels); err != nil {
		return err
	}
	if n.ExpiresAt, err = moment.Parse("--expires", expires, time.Now(), moment.Ahead); err != nil {
		return err
	}
	if n.Name == "" {
		n.Name = fmt.Sprintf("token-%s-%s", time.Now().UTC().Format("20060102"), strings.ToLower(rand.Text()[:6]))
	}
	return nil
}

func newTokenCreateCmd(s *session.Session) *cobra.Command {
	var n newToken
	var expires string
	var labels []string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make an enrolment token and print it, this once",
		Long: `Create prints the token alone on standard output, so that it can be handed on:

    ssh laptop sudo interdict-agent enroll "$(interdict token create)"`,
		Example: `  interdict token create --name berlin-laptops --expires 24h --uses 50 --group laptops --label site=berlin`,
		Args:    usage.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := n.read(cmd, expires, labels); err != nil {
				return err
			}
			c, err := s.Client()
			if err != nil {
				return err
			}
			raw, err := c.Post(cmd.Context(), "/tokens", n)
			if err != nil {
				return err
			}
			return printToken(s, raw)
		},
	}
	f := cmd.Flags()
	f.StringVar(&n.Name, "name", "", "a `name` to find it by; one is made up if missing")
	f.StringVar(&expires, "expires", "24h", "until when machines can enrol: a `time` such as 24h, 7d or 2026-12-31")
	f.IntVar(&n.Uses, "uses", 1, "this `number` of machines can enrol")
	f.StringArrayVar(&labels, "label", nil, "give the devices this label, `KEY=VALUE`; may be repeated")
	f.StringSliceVar(&n.Groups, "group", nil, "put the devices into this `group`; may be repeated")
	return cmd
}

// printToken prints a new token: for programs alone, for people what it is
// good for as well.
func printToken(s *session.Session, raw json.RawMessage) error {
	if s.Format != output.FormatTable {
		return output.One(s.Stdout, s.Format, raw, []output.Column[tokenView]{
			{Head: "id", Cell: func(t tokenView) string { return t.ID }},
			{Head: "name", Cell: func(t tokenView) string { return t.Name }},
			{Head: "uses", Cell: func(t tokenView) string { return strconv.Itoa(t.Uses) }},
			{Head: "expires", Cell: func(t tokenView) string { return output.Time(t.ExpiresAt) }},
			{Head: "token", Cell: func(t tokenView) string { return t.Token }},
		})
	}
	t, err := client.Decode[tokenView](raw)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.Stderr, "token %s, for %s until %s\n", output.Printable(t.Name), output.Count(t.Uses, "machine", "machines"), output.Time(t.ExpiresAt))
	_, err = fmt.Fprintln(s.Stdout, t.Token)
	return err
}

func tokenColumns(groups session.Names) []output.Column[tokenView] {
	return []output.Column[tokenView]{
		{Head: "id", Cell: func(t tokenView) string { return t.ID }},
		{Head: "name", Cell: func(t tokenView) string { return t.Name }},
		{Head: "state", Cell: func(t tokenView) string { return t.State }},
		{Head: "used", Cell: func(t tokenView) string { return fmt.Sprintf("%d of %d", t.Used, t.Uses) }},
		{Head: "expires", Cell: func(t tokenView) string { return output.Time(t.ExpiresAt) }},
		{Head: "labels", Cell: func(t tokenView) string { return output.Labels(t.Labels) }},
		{Head: "groups", Cell: func(t tokenView) string { return groups.List(t.Groups) }},
	}
}

func newTokenListCmd(s *session.Session) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the enrolment tokens, without their secrets",
		Example: "  interdict token list --output csv",
		Args:    usage.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			groups, err := s.Groups(cmd)
			if err != nil {
				return err
			}
			return session.List(s, cmd, "/tokens", nil, limit, tokenColumns(groups))
		},
	}
	usage.AddLimit(cmd, &limit)
	return cmd
}

func newTokenDeleteCmd(s *session.Session) *cobra.Command {
	return &cobra.Command{
		Use:     "delete NAME",
		Aliases: []string{"revoke"},
		Short:   "Revoke an enrolment token; devices that enrolled with it stay",
		Example: "  interdict token delete berlin-laptops",
		Args:    usage.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.Client()
			if err != nil {
				return err
			}
			raw, err := c.Delete(cmd.Context(), "/tokens/"+url.PathEscape(args[0]), nil)
			if err != nil {
				return err
			}
			if s.Format == output.FormatJSON {
				return output.JSON(s.Stdout, raw)
			}
			_, err = fmt.Fprintf(s.Stdout, "revoked token %s\n", args[0])
			return err
		},
	}
}
