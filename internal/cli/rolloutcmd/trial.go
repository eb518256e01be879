package rolloutcmd

import (
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/cli/output"
	"interdict/internal/cli/session"
	"interdict/internal/cli/usage"
	"interdict/internal/cloudapp"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// Trial are the flags by which a change is tried out first.
type Trial struct {
	canary       string
	advanceAfter time.Duration
	stopAt       int
}

// Add makes the flags.
func (t *Trial) Add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&t.canary, "canary", "", "try it out in this `group` first, or device:NAME; see 'interdict rollout'")
	f.DurationVar(&t.advanceAfter, "advance-after", 0, "with --canary, give it to everybody after this `time`, such as 4h")
	f.IntVar(&t.stopAt, "stop-at", 0, "with --canary, stop when this `number` of the canary's connections were refused")
}

// Wanted reports whether the change is to be tried out. conflicts are flags
// that cannot be.
func (t *Trial) Wanted(cmd *cobra.Command, conflicts ...string) (bool, error) {
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

// Change is what is tried out: a change of a policy, or the tag of an app.
type Change struct {
	Policy *PolicyChange `json:"policy,omitempty"`
	Tag    *TagChange    `json:"tag,omitempty"`
}

// PolicyChange is what becomes of a policy: of its settings, or of its
// assignment.
type PolicyChange struct {
	// Policy is its name or id.
	Policy string `json:"policy"`
	// Version is that of the policy that Settings are to take the place of.
	Version   uint64          `json:"version,omitempty"`
	Settings  *fleet.Settings `json:"settings,omitempty"`
	Priority  *int            `json:"priority,omitempty"`
	Platforms []string        `json:"platforms,omitempty"`
	// Assignment is nil if it stays.
	Assignment *indicator.Scope `json:"assignment,omitempty"`
}

// TagChange is the tag that an app gets.
type TagChange struct {
	App   string            `json:"app"`
	Tag   cloudapp.Tag      `json:"tag"`
	Scope indicator.Profile `json:"scope"`
}

// Start starts the trial of a change, and ends the command as
// [session.Session.Changed] does.
func (t *Trial) Start(s *session.Session, cmd *cobra.Command, wait session.Wait, change Change) error {
	body := struct {
		Canary       string `json:"canary"`
		AdvanceAfter string `json:"advance_after,omitempty"`
		StopAt       int    `json:"stop_at,omitempty"`
		Change
	}{Canary: t.canary, StopAt: t.stopAt, Change: change}
	if t.advanceAfter != 0 {
		body.AdvanceAfter = t.advanceAfter.String()
	}
	c, err := s.Client()
	if err != nil {
		return err
	}
	raw, err := c.Post(cmd.Context(), "/rollouts", body)
	if err != nil {
		return err
	}
	r, err := client.Decode[view](raw)
	if err != nil {
		return err
	}
	if r.Progress != nil && r.Progress.Total == 0 {
		fmt.Fprintf(s.Stderr, "warning: nobody tries it out yet: %s\n", output.Printable(r.Waiting))
	}
	return s.Changed(cmd, wait, raw, "trying %s out in %s, rollout %s", r.what(), r.CanaryName, r.ID)
}
