// Package rolloutcmd has the commands that look after changes which a group of
// devices tries out first, and the flags by which other commands start such a
// trial.
package rolloutcmd

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/cli/output"
	"interdict/internal/cli/session"
	"interdict/internal/cli/usage"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/staging"
)

// New makes the commands about rollouts.
func New(s *session.Session) *cobra.Command {
	return usage.Parent("rollout", "Look after changes that a group of devices tries out first",
		`A change of a policy or of a tag can be given to one group first, the canary, with
--canary of 'interdict policy set', 'interdict policy assign' and 'interdict app
tag'. Until the trial ends nobody else has it, and what it changes cannot be
changed otherwise. It ends by 'advance', which gives the change to everybody it
is for, by 'stop', after which nobody has it, or by itself.

--advance-after gives it to everybody after a while, from when a device of the
canary that the change is for has applied it; until one has, the trial waits.
--stop-at stops it when that many connections of the canary were refused since it
began: of a tag those to its app, of a policy all that its devices report, since
another policy may come into force where one is changed.

ID is that of the rollout, or the name of the policy or app. It may be left out
when there is only one that can be meant.`,
		newListCmd(s), newShowCmd(s),
		newEndCmd(s, end{
			verb: "advance", short: "Give a change on trial to everybody it is for", from: staging.StateTrial,
			done: "gave %s to everybody it is for",
		}),
		newEndCmd(s, end{
			verb: "stop", short: "End a trial, so that nobody has the change", from: staging.StateTrial,
			done: "stopped the trial of %s: nobody has the change",
		}),
		newEndCmd(s, end{
			verb: "undo", short: "Take back a change that everybody has", from: staging.StateDone,
			done: "took back the change of %s",
		}))
}

// view is a rollout as the API shows it.
type view struct {
	staging.Rollout
	Target struct {
		Kind string `json:"kind"`
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"target"`
	CanaryName string             `json:"canary_name"`
	Changes    []fleet.Difference `json:"changes"`
	Progress   *fleet.Progress    `json:"progress"`
	Refused    int                `json:"refused"`
	Waiting    string             `json:"waiting"`
	AdvancesAt time.Time          `json:"advances_at"`
	Members    []struct {
		Name    string              `json:"name"`
		State   fleet.ProgressState `json:"state"`
		Refused int                 `json:"refused"`
	} `json:"members"`
}

// what is what the rollout changes.
func (r view) what() string { return r.Target.Kind + " " + r.Target.Name }

func (r view) onTrial() bool { return r.State == staging.StateTrial }

// applied says how many devices of the canary enforce the change.
func (r view) applied() string {
	if r.Progress == nil {
		return ""
	}
	return fmt.Sprintf("%d of %d", r.Progress.Applied, r.Progress.Total)
}

// refused says how many connections were refused, of how many that stop it.
func (r view) refused() string {
	switch {
	case !r.onTrial():
		return ""
	case r.StopAt > 0:
		return fmt.Sprintf("%d of %d", r.Refused, r.StopAt)
	default:
		return strconv.Itoa(r.Refused)
	}
}

// why says what ended the trial, or what it waits for.
func (r view) why() string {
	if r.onTrial() && r.Waiting != "" {
		return "waiting: " + r.Waiting
	}
	return r.Reason
}

// refusedOf is refused, with what counts.
func (r view) refusedOf() string {
	switch {
	case !r.onTrial():
		return ""
	case r.Target.Kind == staging.TargetTag:
		return r.refused() + " (connections to " + r.Target.Name + ")"
	default:
		return r.refused() + " (all connections of its devices)"
	}
}

// ends says when the trial ends, or when and how it did.
func (r view) ends() string {
	switch {
	case !r.onTrial():
		return output.Time(r.EndedAt)
	case r.AdvanceAfter == "":
		return "when told"
	case r.AdvancesAt.IsZero():
		return string(r.AdvanceAfter) + " after it is tried"
	default:
		return output.Time(r.AdvancesAt)
	}
}

func columns() []output.Column[view] {
	return []output.Column[view]{
		{Head: "id", Cell: func(r view) string { return r.ID }},
		{Head: "what", Cell: view.what},
		{Head: "state", Cell: func(r view) string { return string(r.State) }},
		{Head: "canary", Cell: func(r view) string { return r.CanaryName }},
		{Head: "applied", Cell: view.applied},
		{Head: "refused", Cell: view.refused},
		{Head: "ends", Cell: view.ends},
		{Head: "why", Cell: view.why},
	}
}

func newListCmd(s *session.Session) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the rollouts, newest first",
		Example: "  interdict rollout list --output csv",
		Args:    usage.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return session.List(s, cmd, "/rollouts", nil, limit, columns())
		},
	}
	usage.AddLimit(cmd, &limit)
	return cmd
}

func newShowCmd(s *session.Session) *cobra.Command {
	return &cobra.Command{
		Use:   "show [ID]",
		Short: "Show what changes, and how the canary gets on with it",
		Example: `  interdict rollout show
  interdict rollout show standard`,
		Args: usage.AtMost("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := meant(s, cmd, args, staging.StateTrial)
			if err != nil {
				return err
			}
			c, err := s.Client()
			if err != nil {
				return err
			}
			raw, err := c.Get(cmd.Context(), "/rollouts/"+url.PathEscape(ref), nil)
			if err != nil {
				return err
			}
			return printRollout(s, raw)
		},
	}
}

// meant returns the id or target of the rollout that is meant: the one that
// was typed, or the only one that is in a state.
func meant(s *session.Session, cmd *cobra.Command, args []string, in staging.State) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	items, err := s.Items(cmd, "/rollouts", nil, 0)
	if err != nil {
		return "", err
	}
	var found []view
	for _, raw := range items {
		r, err := client.Decode[view](raw)
		if err != nil {
			return "", err
		}
		if r.State == in {
			found = append(found, r)
		}
	}
	words := map[staging.State]string{staging.StateTrial: "on trial", staging.StateDone: "done"}
	switch len(found) {
	case 1:
		return found[0].ID, nil
	case 0:
		return "", fault.New(fault.NotFound, "no rollout is %s", words[in]).WithHint("list them with: interdict rollout list")
	default:
		return "", usage.Fault(cmd, "ID is missing: %d rollouts are %s, such as %s and %s", len(found), words[in], found[0].what(), found[1].what())
	}
}

func printRollout(s *session.Session, raw json.RawMessage) error {
	r, err := client.Decode[view](raw)
	if err != nil {
		return err
	}
	fields := append(output.Without(columns(), "applied", "refused", "ends", "why"),
		output.Column[view]{Head: "refused", Cell: view.refusedOf},
		output.Column[view]{Head: "devices", Cell: view.devices},
		output.Column[view]{Head: "started", Cell: func(r view) string { return by(r.StartedAt, r.StartedBy) }},
		output.Column[view]{Head: "advances", Cell: func(r view) string {
			if !r.onTrial() {
				return ""
			}
			if r.AdvanceAfter == "" {
				return "when told: interdict rollout advance " + r.ID
			}
			return r.ends()
		}},
		output.Column[view]{Head: "ended", Cell: func(r view) string { return by(r.EndedAt, r.ChangedBy) }},
		output.Column[view]{Head: "why", Cell: view.why})
	for _, c := range r.Changes {
		fields = append(fields, output.Column[view]{Head: strings.TrimPrefix(c.Field, "settings."), Cell: func(view) string {
			return cmp.Or(c.Before, "(not set)") + " -> " + cmp.Or(c.After, "(not set)")
		}})
	}
	if err := output.One(s.Stdout, s.Format, raw, fields); err != nil || s.Format != output.FormatTable || len(r.Members) == 0 {
		return err
	}
	rows := make([][]string, len(r.Members))
	for i, m := range r.Members {
		rows[i] = []string{m.Name, string(m.State), strconv.Itoa(m.Refused)}
	}
	fmt.Fprintln(s.Stdout)
	return output.Table(s.Stdout, []string{"device", "state", "refused"}, rows)
}

// devices says how far the canary has come.
func (r view) devices() string {
	if r.Progress == nil {
		return ""
	}
	parts := []string{fmt.Sprintf("applied on %d of %s", r.Progress.Applied, output.Count(r.Progress.Total, "device", "devices"))}
	for _, part := range []struct {
		n    int
		word string
	}{{r.Progress.Pending, "pending"}, {r.Progress.Offline, "offline"}, {r.Progress.Failed, "failed"}} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.n, part.word))
		}
	}
	return strings.Join(parts, ", ")
}

func by(at time.Time, who string) string {
	switch {
	case at.IsZero():
		return ""
	case who == "":
		return output.Time(at)
	default:
		return output.Time(at) + " by " + who
	}
}

// end is a command that ends a trial or what followed from one.
type end struct {
	verb, short string
	// from is the state in which it makes sense.
	from staging.State
	// done says what was done, of a target.
	done string
}

func newEndCmd(s *session.Session, e end) *cobra.Command {
	var wait session.Wait
	cmd := &cobra.Command{
		Use:     e.verb + " [ID]",
		Short:   e.short,
		Example: "  interdict rollout " + e.verb + "\n  interdict rollout " + e.verb + " standard --wait",
		Args:    usage.AtMost("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := meant(s, cmd, args, e.from)
			if err != nil {
				return err
			}
			c, err := s.Client()
			if err != nil {
				return err
			}
			raw, err := c.Post(cmd.Context(), "/rollouts/"+url.PathEscape(ref)+"/"+e.verb, nil)
			if err != nil {
				return err
			}
			r, err := client.Decode[view](raw)
			if err != nil {
				return err
			}
			return s.Changed(cmd, wait, raw, e.done, r.what())
		},
	}
	wait.Add(cmd)
	return cmd
}
