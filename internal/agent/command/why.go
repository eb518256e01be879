package command

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"interdict/internal/access"
	"interdict/internal/agent/why"
	"interdict/internal/fault"
)

// appealing is what a user wants to do about a refusal.
type appealing struct {
	goOn, request bool
	reason        string
}

func (c *commander) why() *cobra.Command {
	var do appealing
	listen := ""
	cmd := &cobra.Command{
		Use: "why [ID|URL]", Short: "Say what you were refused, and go on or ask for access",
		Long: `Say what you were refused, and go on or ask for access.

Run it as yourself, without root: it says what your own programs were refused or
warned of in the last 24 hours, the newest first, with the address of the page
that says why. Times are UTC. What was warned of you may continue, for what is
blocked you can request access; both are on the page as well.`,
		Example: `  interdict-agent why
  interdict-agent why 6tq2c7drjyzqmsdk2b5yqxk5he --continue --reason "customer call"
  interdict-agent why 6tq2c7drjyzqmsdk2b5yqxk5he --request`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return exactly("ID")(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			id := ""
			if len(args) > 0 {
				id = refusalID(args[0])
			}
			if err := do.check(cmd, id); err != nil {
				return err
			}
			if !cmd.Flags().Changed("why-listen") {
				var err error
				if listen, err = why.Find(); err != nil {
					return err
				}
			}
			client, err := why.NewClient(listen)
			if err != nil {
				return err
			}
			defer client.Close()
			return c.tellWhy(cmd.Context(), client, id, do)
		},
	}
	cmd.Flags().BoolVar(&do.goOn, "continue", false, "go on after a warning")
	cmd.Flags().BoolVar(&do.request, "request", false, "ask the administrators for access")
	cmd.Flags().StringVar(&do.reason, "reason", "", "why you need it, a `text` for the administrators")
	cmd.Flags().StringVar(&listen, "why-listen", "", "`address` on 127.0.0.1 that the agent was given with the same flag, if it runs without its service")
	return cmd
}

// refusalID is the id in what a user typed, which may be the address of the
// page.
func refusalID(text string) string {
	text = strings.TrimRight(text, "/")
	return text[strings.LastIndex(text, "/")+1:]
}

func (a *appealing) check(cmd *cobra.Command, id string) error {
	switch act := a.goOn || a.request; {
	case a.goOn && a.request:
		return usageFault(cmd, "--continue is for what is warned of, --request for what is blocked: give one of them")
	case act && id == "":
		return usageFault(cmd, "ID is missing: which refusal is it about?")
	case !act && a.reason != "":
		return usageFault(cmd, "--reason needs --continue or --request")
	default:
		return nil
	}
}

// tellWhy does what is to be done and prints what there is to tell.
func (c *commander) tellWhy(ctx context.Context, client *why.Client, id string, do appealing) error {
	// Before anything is said to it, it is known to be the agent.
	all, err := client.List(ctx)
	if err != nil {
		return err
	}
	if id != "" {
		if all, err = only(all, id); err != nil {
			return err
		}
	}
	switch {
	case do.goOn:
		all[0], err = client.Continue(ctx, id, do.reason)
	case do.request:
		all[0], err = client.Request(ctx, id, do.reason)
	}
	if err != nil {
		return err
	}
	return c.printRefusals(all)
}

// only returns the refusal with an id.
func only(all []why.Refusal, id string) ([]why.Refusal, error) {
	for _, r := range all {
		if r.ID == id {
			return []why.Refusal{r}, nil
		}
	}
	return nil, fault.New(fault.NotFound, "you were refused nothing with the id %.64q in the last 24 hours", id).
		WithHint("see what there is: interdict-agent why")
}

func (c *commander) printRefusals(all []why.Refusal) error {
	err := c.print(map[string]any{"schema": 1, "refusals": all}, func(w io.Writer) {
		if len(all) == 0 {
			return
		}
		_, _ = fmt.Fprintln(w, "TIME\tWHAT\tPROGRAM\tAPP\tHOST\tPAGE")
		for i := range all {
			r := &all[i]
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Time.Format(time.RFC3339), stateOf(r),
				printable(cmp.Or(r.Program, "-")), printable(cmp.Or(r.App, "-")), printable(cmp.Or(r.Host, "-")), printable(r.URL))
		}
	})
	if err == nil && len(all) == 0 {
		c.say("you were refused nothing in the last 24 hours")
	}
	return err
}

// stateOf is what happened, and what has become of it.
func stateOf(r *why.Refusal) string {
	what := "refused"
	if r.Warned {
		what = "warned"
	}
	switch {
	case r.Warned && !r.Until.IsZero():
		what += ", continued until " + r.Until.UTC().Format(time.RFC3339)
	case r.Request == access.StateApproved && !r.Until.IsZero():
		what += ", approved until " + r.Until.UTC().Format(time.RFC3339)
	case r.Request == access.StatePending:
		what += ", access requested"
	case r.Request != "":
		what += ", " + string(r.Request)
	}
	return what
}

// printable is text that programs chose, as a terminal may be shown it.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
