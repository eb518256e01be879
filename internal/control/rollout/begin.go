package rollout

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"interdict/internal/cloudapp"
	"interdict/internal/control"
	"interdict/internal/control/audience"
	"interdict/internal/control/edit"
	"interdict/internal/control/find"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/staging"
	"interdict/internal/store"
)

const (
	// The bounds of how long a trial lasts before it advances by itself.
	leastTrial = time.Minute
	mostTrial  = 90 * 24 * time.Hour
	// maxStopAt bounds how many refused connections stop a trial.
	maxStopAt = 1_000_000_000
	// maxEnded bounds how many rollouts are kept that have ended.
	maxEnded = 1000
)

// NewRollout is a staged change to be made. It has either a policy or a tag.
type NewRollout struct {
	// Canary takes the id or name of a group, or device:NAME.
	Canary string `json:"canary" maxLength:"512" doc:"Group that has the change first"`
	// AdvanceAfter and StopAt are those of a staging.Rollout.
	AdvanceAfter fleet.Span    `json:"advance_after,omitempty" maxLength:"32" doc:"How long the trial lasts before everybody has the change, such as 4h; empty means until it is advanced"`
	StopAt       int           `json:"stop_at,omitempty" minimum:"0" doc:"How many refused connections of the canary stop the trial; 0 means none do"`
	Policy       *PolicyChange `json:"policy,omitempty"`
	Tag          *TagChange    `json:"tag,omitempty"`
}

// PolicyChange changes a policy. nil leaves as it is.
type PolicyChange struct {
	// Policy is its id or name.
	Policy string `json:"policy" maxLength:"512" doc:"Id or name of the policy"`
	// Version is the one it must have; 0 means any.
	Version    uint64           `json:"version,omitempty" doc:"Version that the change is based on; 0 means any"`
	Settings   *fleet.Settings  `json:"settings,omitempty" doc:"All settings as they become"`
	Priority   *int             `json:"priority,omitempty"`
	Platforms  *[]string        `json:"platforms,omitempty"`
	Assignment *indicator.Scope `json:"assignment,omitempty" doc:"Takes ids or names of groups, and device:NAME"`
}

// TagChange tags an app.
type TagChange struct {
	// App is its id or name.
	App string       `json:"app" maxLength:"512" doc:"Id or name of the app"`
	Tag cloudapp.Tag `json:"tag" enum:"none,sanctioned,unsanctioned,monitored"`
	// Scope takes ids or names of groups, and device:NAME.
	Scope indicator.Profile `json:"scope,omitzero"`
}

// Begin starts the trial of a change.
func (s *Service) Begin(ctx context.Context, actor control.Actor, n NewRollout) (View, control.Change, error) {
	r := staging.Rollout{
		ID: ulid.Make().String(), AdvanceAfter: n.AdvanceAfter, StopAt: n.StopAt, State: staging.StateTrial,
		StartedAt: s.control.Now().UTC(), StartedBy: actor.Name, Version: 1,
	}
	var err error
	if r.Canary, err = s.check(ctx, &n); err != nil {
		return View{}, control.Change{}, err
	}
	prepare := s.stagePolicy
	if n.Tag != nil {
		prepare = s.stageTag
	}
	stage, err := prepare(ctx, actor, &n)
	if err != nil {
		return View{}, control.Change{}, err
	}
	change, err := s.control.Change(ctx, func(tx *store.Tx) error {
		if gone := edit.CheckGroups(tx, []string{r.Canary}); gone != nil {
			return gone
		}
		if refused := stage(tx, &r); refused != nil {
			return refused
		}
		if untried := s.checkReached(&r); untried != nil {
			return untried
		}
		if unforgotten := forgetEnded(tx); unforgotten != nil {
			return unforgotten
		}
		tx.Audit(s.control.Entry(actor, "rollout.start", r.ID, nil, r))
		return tx.Rollouts().Put(r)
	})
	if err != nil {
		return View{}, control.Change{}, err
	}
	v, err := s.Get(ctx, r.ID)
	return v, change, err
}

// check checks what all rollouts have in common, and returns the canary's id.
func (s *Service) check(ctx context.Context, n *NewRollout) (canary string, err error) {
	var faults fault.Fields
	if (n.Policy == nil) == (n.Tag == nil) {
		faults.Add("policy", "must be given, or a tag in its place")
	}
	if n.AdvanceAfter != "" {
		length, bad := time.ParseDuration(string(n.AdvanceAfter))
		if bad != nil || length < leastTrial || length > mostTrial {
			faults.Add("advance_after", "must be a length of time from 1m to 2160h, such as 4h")
		}
	}
	if n.StopAt < 0 || n.StopAt > maxStopAt {
		faults.Add("stop_at", "must be between 0 and %d", maxStopAt)
	}
	err = s.control.Read(ctx, func(state *audience.State, _ *audience.Snapshot) error {
		var unknown error
		if canary, unknown = find.Audience(state, n.Canary); unknown != nil {
			faults.Add("canary", "must be a known group: %s", unknown)
		}
		return nil
	})
	return canary, cmp.Or(err, faults.Err("the rollout is not valid"))
}

// staged puts what changes into a rollout, in its transaction.
type staged = func(tx *store.Tx, r *staging.Rollout) error

// stagePolicy checks the change of a policy.
func (s *Service) stagePolicy(ctx context.Context, _ control.Actor, n *NewRollout) (staged, error) {
	change := *n.Policy
	known, err := s.control.Policy(ctx, change.Policy)
	if err != nil {
		return nil, err
	}
	if change.Assignment != nil {
		scope, err := s.scope(*change.Assignment)
		if err != nil {
			return nil, err
		}
		change.Assignment = &scope
	}
	return func(tx *store.Tx, r *staging.Rollout) error {
		before, err := tx.Policies().Get(known.ID)
		if err != nil {
			return edit.Gone(err, "policy", change.Policy)
		}
		if stale := edit.CheckVersion("policy", before.Version, change.Version); stale != nil {
			return stale
		}
		if trial := control.CheckNotOnTrial(tx, staging.TargetPolicy, before.ID, before.Name); trial != nil {
			return trial
		}
		after, err := s.changed(before, &change)
		if err != nil {
			return err
		}
		if reflect.DeepEqual(before, after) {
			return unchanged("policy " + before.Name)
		}
		r.BeforePolicy, r.AfterPolicy = &before, &after
		return edit.CheckGroups(tx, after.Assignment.Include, after.Assignment.Exclude)
	}, nil
}

// scope finds the groups of an assignment.
func (s *Service) scope(in indicator.Scope) (out indicator.Scope, err error) {
	var faults fault.Fields
	s.control.Look(func(state *audience.State, _ *audience.Snapshot) { out = find.Scope(state, in, "assignment.", &faults) })
	return out, faults.Err("the policy cannot be assigned")
}

// changed is what a policy becomes.
func (s *Service) changed(before fleet.Policy, c *PolicyChange) (fleet.Policy, error) {
	n := control.NewPolicy{
		Name: before.Name, Description: before.Description, Settings: before.Settings, Priority: before.Priority,
		Platforms: slices.Clone(before.Platforms),
	}
	if c.Settings != nil {
		n.Settings = *c.Settings
	}
	if c.Priority != nil {
		n.Priority = *c.Priority
	}
	if c.Platforms != nil {
		n.Platforms = slices.Clone(*c.Platforms)
	}
	if err := s.control.CheckPolicy(&n); err != nil {
		return fleet.Policy{}, err
	}
	after := before
	after.Settings, after.Priority = n.Settings, n.Priority
	if !slices.Equal(before.Platforms, n.Platforms) {
		after.Platforms = n.Platforms
	}
	if c.Assignment != nil && (!before.Assigned || !sameScope(before.Assignment, *c.Assignment)) {
		after.Assigned, after.Assignment = true, *c.Assignment
	}
	return after, nil
}

func sameScope(a, b indicator.Scope) bool {
	return slices.Equal(a.Include, b.Include) && slices.Equal(a.Exclude, b.Exclude)
}

// unchanged refuses a trial of nothing.
func unchanged(what string) error {
	return fault.New(fault.Conflict, "%s is like that already, so there is nothing to try out", what)
}

// stageTag checks the tag of an app.
func (s *Service) stageTag(_ context.Context, actor control.Actor, n *NewRollout) (staged, error) {
	ids, scope, err := s.control.CheckTagging(&control.TagRequest{Apps: []string{n.Tag.App}, Tag: n.Tag.Tag, Scope: n.Tag.Scope})
	if err != nil {
		return nil, err
	}
	after := cloudapp.Tagging{AppID: ids[0], Tag: n.Tag.Tag, Scope: scope, By: actor.Name}
	return func(tx *store.Tx, r *staging.Rollout) error {
		if err := control.CheckNotOnTrial(tx, staging.TargetTag, after.AppID, after.AppID); err != nil {
			return err
		}
		before, err := tagging(tx, after.AppID)
		if err != nil {
			return err
		}
		if before == nil && after.Tag == cloudapp.TagNone || before != nil && before.Tag == after.Tag && before.Scope.Equal(&after.Scope) {
			return unchanged("the tag of app " + after.AppID)
		}
		tried := after
		tried.At = r.StartedAt
		r.BeforeTag, r.AfterTag = before, &tried
		return edit.CheckGroups(tx, scope.Include, scope.Exclude)
	}, nil
}

// tagging returns the tag of an app, nil if it has none.
func tagging(tx *store.Tx, id string) (*cloudapp.Tagging, error) {
	t, err := tx.Taggings().Get(id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil //nolint:nilnil // no tag is a value
	}
	return &t, err
}

// forgetEnded deletes the oldest rollouts that have ended, if there are too
// many to be kept in memory for ever.
func forgetEnded(tx *store.Tx) error {
	all, err := tx.Rollouts().All()
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(r staging.Rollout) bool { return r.State == staging.StateTrial })
	// Their ids are in the order in which they began.
	slices.SortFunc(all, func(a, b staging.Rollout) int { return strings.Compare(a.ID, b.ID) })
	for _, r := range all[:max(0, len(all)-maxEnded)] {
		if err := tx.Rollouts().Delete(r.ID); err != nil {
			return err
		}
	}
	return nil
}
