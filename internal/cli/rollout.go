package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/cli/output"
	"interdict/internal/cli/usage"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/staging"
)

func newRolloutCmd(s *session) *cobra.Command {
	return usage.Parent("rollout", "Look after changes that a group of devices tries out first",
		`A change of a policy or of a tag can be given to one group first, the canary, with
--canary of 'interdict policy set', 'interdict policy assign' and 'interdict app
tag'. Until the trial ends nobody else has it, and what it changes cannot be
changed otherwise. It ends by 'advance', which gives the change to everybody it
is for, by 'stop', after which nobody has it, or by itself: --advance-after gives
it to everybody after a while, --stop-at stops it when that many connections of
the canary were refused.

ID is that of the rollout, or the name of the policy or app. It may be left out
when there is only one that can be meant.`,
		newRolloutListCmd(s), newRolloutShowCmd(s),
		newRolloutEndCmd(s, rolloutEnd{
			verb: "advance", short: "Give a change on trial to everybody it is for", from: staging.StateTrial,
			done: "gave %s to everybody it is for",
		}),
		newRolloutEndCmd(s, rolloutEnd{
			verb: "stop", short: "End a trial, so that nobody has the change", from: staging.StateTrial,
			done: "stopped the trial of %s: nobody has the change",
		}),
		newRolloutEndCmd(s, rolloutEnd{
			verb: "undo", short: "Take back a change that everybody has", from: staging.StateDone,
			done: "took back the change of %s",
		}))
}

// rolloutView is a rollout as the API shows it.
type rolloutView struct {
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
	AdvancesAt time.Time          `json:"advances_at"`
	Members    []struct {
		Name    string              `json:"name"`
		State   fleet.ProgressState `json:"state"`
		Refused int                 `json:"refused"`
	} `json:"members"`
}

// what is what the rollout changes.
func (r rolloutView) what() string { return r.Target.Kind + " " + r.Target.Name }

func (r rolloutView) onTrial() bool { return r.State == staging.StateTrial }

// applied says how many devices of the canary enforce the change.
func (r rolloutView) applied() string {
	if r.Progress == nil {
		return ""
	}
	return fmt.Sprintf("%d of %d", r.Progress.Applied, r.Progress.Total)
}

// refused says how many connections were refused, of how many that stop it.
func (r rolloutView) refused() string {
	switch {
	case !r.onTrial():
		return ""
	case r.StopAt > 0:
		return fmt.Sprintf("%d of %d", r.Refused, r.StopAt)
	default:
		return strconv.Itoa(r.Refused)
	}
}

// ends says when the trial ends, or when and how it did.
func (r rolloutView) ends() string {
	switch {
	case !r.onTrial():
		return output.Time(r.EndedAt)
	case r.AdvancesAt.IsZero():
		return "when told"
	default:
		return output.Time(r.AdvancesAt)
	}
}

func rolloutColumns() []column[rolloutView] {
	return []column[rolloutView]{
		{"id", func(r rolloutView) string { return r.ID }},
		{"what", rolloutView.what},
		{"state", func(r rolloutView) string { return string(r.State) }},
		{"canary", func(r rolloutView) string { return r.CanaryName }},
		{"applied", rolloutView.applied},
		{"refused", rolloutView.refused},
		{"ends", rolloutView.ends},
		{"why", func(r rolloutView) string { return r.Reason }},
	}
}

func newRolloutListCmd(s *session) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the rollouts, newest first",
		Args:  usage.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return list(s, cmd, "/rollouts", nil, limit, rolloutColumns())
		},
	}
	addLimitFlag(cmd, &limit)
	return cmd
}

func newRolloutShowCmd(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "show [ID]",
		Short: "Show what changes, and how the canary gets on with it",
		Example: `  interdict rollout show
  interdict rollout show standard`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := s.rollout(cmd, args, staging.StateTrial)
			if err != nil {
				return err
			}
			c, err := s.client()
			if err != nil {
				return err
			}
			raw, err := c.Get(cmd.Context(), "/rollouts/"+url.PathEscape(ref), nil)
			if err != nil {
				return err
			}
			return s.printRollout(raw)
		},
	}
}

// atMostOne takes an argument, or none.
func atMostOne(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usage.Fault(cmd, "there are %d arguments, at most one is wanted", len(args))
	}
	return nil
}

// rollout returns the id or target of the rollout that is meant: the one that
// was typed, or the only one that is in a state.
func (s *session) rollout(cmd *cobra.Command, args []string, in staging.State) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	items, err := s.listRaw(cmd, "/rollouts", nil, 0)
	if err != nil {
		return "", err
	}
	var found []rolloutView
	for _, raw := range items {
		r, err := client.Decode[rolloutView](raw)
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

func (s *session) printRollout(raw json.RawMessage) error {
	r, err := client.Decode[rolloutView](raw)
	if err != nil {
		return err
	}
	columns := append(without(rolloutColumns(), "applied", "ends", "why"),
		column[rolloutView]{"devices", rolloutView.devices},
		column[rolloutView]{"started", func(r rolloutView) string { return by(r.StartedAt, r.StartedBy) }},
		column[rolloutView]{"advances", func(r rolloutView) string {
			if !r.onTrial() {
				return ""
			}
			return cmp.Or(output.Time(r.AdvancesAt), "when told: interdict rollout advance "+r.ID)
		}},
		column[rolloutView]{"ended", func(r rolloutView) string { return by(r.EndedAt, r.ChangedBy) }},
		column[rolloutView]{"why", func(r rolloutView) string { return r.Reason }})
	for _, c := range r.Changes {
		columns = append(columns, column[rolloutView]{strings.TrimPrefix(c.Field, "settings."), func(rolloutView) string {
			return cmp.Or(c.Before, "(not set)") + " -> " + cmp.Or(c.After, "(not set)")
		}})
	}
	if err := printOne(s, raw, columns); err != nil || s.format != output.FormatTable || len(r.Members) == 0 {
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
func (r rolloutView) devices() string {
	if r.Progress == nil {
		return ""
	}
	text := fmt.Sprintf("applied on %d of %s", r.Progress.Applied, output.Count(r.Progress.Total, "device", "devices"))
	for _, part := range []struct {
		n    int
		word string
	}{{r.Progress.Pending, "pending"}, {r.Progress.Offline, "offline"}, {r.Progress.Failed, "failed"}} {
		if part.n > 0 {
			text += fmt.Sprintf(", %d %s", part.n, part.word)
		}
	}
	return text
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

// rolloutEnd is a command that ends a trial or what followed from one.
type rolloutEnd struct {
	verb, short string
	// from is the state in which it makes sense.
	from staging.State
	// done says what was done, of a target.
	done string
}

func newRolloutEndCmd(s *session, e rolloutEnd) *cobra.Command {
	var wait waitFlags
	cmd := &cobra.Command{
		Use:   e.verb + " [ID]",
		Short: e.short,
		Args:  atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := s.rollout(cmd, args, e.from)
			if err != nil {
				return err
			}
			c, err := s.client()
			if err != nil {
				return err
			}
			raw, err := c.Post(cmd.Context(), "/rollouts/"+url.PathEscape(ref)+"/"+e.verb, nil)
			if err != nil {
				return err
			}
			r, err := client.Decode[rolloutView](raw)
			if err != nil {
				return err
			}
			return s.changed(cmd.Context(), c, wait, raw, e.done, r.what())
		},
	}
	wait.add(cmd)
	return cmd
}

// trialFlags are the flags by which a change is tried out first.
type trialFlags struct {
	canary       string
	advanceAfter time.Duration
	stopAt       int
}

func (t *trialFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&t.canary, "canary", "", "try it out in this `group` first, or device:NAME; see 'interdict rollout'")
	f.DurationVar(&t.advanceAfter, "advance-after", 0, "with --canary, give it to everybody after this `time`, such as 4h")
	f.IntVar(&t.stopAt, "stop-at", 0, "with --canary, stop when this `number` of the canary's connections were refused")
}

// wanted reports whether the change is to be tried out. conflicts are flags
// that cannot be.
func (t *trialFlags) wanted(cmd *cobra.Command, conflicts ...string) (bool, error) {
	changed := cmd.Flags().Changed
	if !changed("canary") {
		if changed("advance-after") || changed("stop-at") {
			return false, usage.Fault(cmd, "--advance-after and --stop-at need --canary")
		}
		return false, nil
	}
	if i := slices.IndexFunc(conflicts, changed); i >= 0 {
		return false, usage.Fault(cmd, "--%s cannot be tried out: give it without --canary", conflicts[i])
	}
	return true, nil
}

// rolloutBody is what is sent to start a trial.
type rolloutBody struct {
	Canary       string        `json:"canary"`
	AdvanceAfter string        `json:"advance_after,omitempty"`
	StopAt       int           `json:"stop_at,omitempty"`
	Policy       *policyChange `json:"policy,omitempty"`
	Tag          any           `json:"tag,omitempty"`
}

// policyChange is a change of a policy to be tried out.
type policyChange struct {
	Policy     string          `json:"policy"`
	Version    uint64          `json:"version,omitempty"`
	Settings   *fleet.Settings `json:"settings,omitempty"`
	Priority   *int            `json:"priority,omitempty"`
	Platforms  []string        `json:"platforms,omitempty"`
	Assignment any             `json:"assignment,omitempty"`
}

// try starts the trial of a change.
func (s *session) try(cmd *cobra.Command, t trialFlags, wait waitFlags, b rolloutBody) error {
	b.Canary, b.StopAt = t.canary, t.stopAt
	if t.advanceAfter != 0 {
		b.AdvanceAfter = t.advanceAfter.String()
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	raw, err := c.Post(cmd.Context(), "/rollouts", b)
	if err != nil {
		return err
	}
	r, err := client.Decode[rolloutView](raw)
	if err != nil {
		return err
	}
	return s.changed(cmd.Context(), c, wait, raw, "trying %s out in %s, rollout %s", r.what(), r.CanaryName, r.ID)
}

// tryPolicy starts the trial of changed settings.
func (s *session) tryPolicy(cmd *cobra.Command, t trialFlags, flags *policyFlags, name string) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	raw, err := c.Get(cmd.Context(), "/policies/"+url.PathEscape(name), nil)
	if err != nil {
		return err
	}
	p, err := client.Decode[fleet.Policy](raw)
	if err != nil {
		return err
	}
	b := policyBody{Settings: p.Settings, Priority: p.Priority, Platforms: p.Platforms}
	if err := flags.apply(cmd, &b); err != nil {
		return err
	}
	return s.try(cmd, t, flags.wait, rolloutBody{Policy: &policyChange{
		Policy: p.ID, Version: p.Version, Settings: &b.Settings, Priority: &b.Priority, Platforms: b.Platforms,
	}})
}

// tryTag starts the trial of the tag of one app.
func (s *session) tryTag(cmd *cobra.Command, t trialFlags, wait waitFlags, apps []string, tag map[string]any) error {
	if len(apps) != 1 {
		return usage.Fault(cmd, "with --canary tag one app at a time")
	}
	tag["app"] = apps[0]
	return s.try(cmd, t, wait, rolloutBody{Tag: tag})
}
