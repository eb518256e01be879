// Package staging decides how a change reaches a fleet in two steps: first a
// group of devices that try it out, the canary, and then everybody, on
// command or after a while without too many refused connections.
//
// It is pure: who counts connections, and who writes decisions down, is the
// caller. While a rollout is on trial what it changes stays as it was for
// everybody but the canary; nothing is written into the policy or the tag
// itself until it is finished.
package staging

import (
	"slices"
	"time"

	"interdict/internal/cloudapp"
	"interdict/internal/fleet"
)

// State is how far a rollout has come.
type State string

// The states of a rollout.
const (
	// StateTrial: only the canary has the change.
	StateTrial State = "trial"
	// StateDone: everybody it is for has it.
	StateDone State = "done"
	// StateStopped: it ended on trial, nobody has it.
	StateStopped State = "stopped"
	// StateUndone: it was done, and taken back.
	StateUndone State = "undone"
)

// Rollout is a staged change of one policy or of one app's tag.
type Rollout struct {
	// ID is a ULID.
	ID string `json:"id"`
	// Canary is the id of the group that has the change first.
	Canary string `json:"canary"`
	// Before and After are what changes; nil in Before for something new.
	// Either the policies or the taggings are set.
	BeforePolicy *fleet.Policy     `json:"before_policy,omitempty"`
	AfterPolicy  *fleet.Policy     `json:"after_policy,omitempty"`
	BeforeTag    *cloudapp.Tagging `json:"before_tag,omitempty"`
	AfterTag     *cloudapp.Tagging `json:"after_tag,omitempty"`
	// AdvanceAfter is how long the trial lasts before everybody gets the
	// change, from TriedAt on; 0 means until somebody says so.
	AdvanceAfter fleet.Span `json:"advance_after,omitempty"`
	// StopAt is how many refused connections (1126) of the canary, counted
	// as their events count them, stop the trial; 0 means none do.
	StopAt int `json:"stop_at,omitempty"`

	State     State     `json:"state" enum:"trial,done,stopped,undone"`
	StartedAt time.Time `json:"started_at"`
	StartedBy string    `json:"started_by,omitempty"`
	// TriedAt is when a device of the canary was first seen to have applied
	// the change; zero while none was.
	TriedAt time.Time `json:"tried_at,omitzero"`
	// EndedAt is when the trial ended, ChangedBy who ended or undid it: a
	// person, or "rollout" itself. Reason says why, for people.
	EndedAt   time.Time `json:"ended_at,omitzero"`
	ChangedBy string    `json:"changed_by,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Version   uint64    `json:"version"`
}

// The kinds of what a rollout changes.
const (
	TargetPolicy = "policy"
	TargetTag    = "tag"
)

// Target says what the rollout changes: a policy and its id, or a tag and the
// app's.
func (r *Rollout) Target() (kind, id string) {
	if r.AfterPolicy != nil {
		return TargetPolicy, r.AfterPolicy.ID
	}
	if r.AfterTag != nil {
		return TargetTag, r.AfterTag.AppID
	}
	return "", ""
}

// Step is what a rollout on trial has to do next.
type Step string

// The steps.
const (
	StepWait    Step = "wait"
	StepAdvance Step = "advance"
	StepStop    Step = "stop"
)

// Next returns what a rollout on trial has to do, with so many connections of
// the canary refused since it began. Stopping goes before advancing, and what
// nobody has tried does not advance.
func (r *Rollout) Next(now time.Time, refused int) Step {
	switch {
	case r.State != StateTrial:
		return StepWait
	case r.StopAt > 0 && refused >= r.StopAt:
		return StepStop
	case r.AdvanceAfter != "" && !r.TriedAt.IsZero() && !now.Before(r.TriedAt.Add(r.AdvanceAfter.Duration())):
		return StepAdvance
	default:
		return StepWait
	}
}

// Trials are the rollouts on trial among all.
func Trials(all []Rollout) []Rollout {
	return slices.DeleteFunc(slices.Clone(all), func(r Rollout) bool { return r.State != StateTrial })
}

// Policies returns the policies as they are for a device in these groups:
// those on trial replaced by what they become, if the device is in the canary.
// The slice that is given stays as it is.
func Policies(policies []fleet.Policy, trials []Rollout, groups []string) []fleet.Policy {
	changed := false
	for i := range trials {
		t := &trials[i]
		if t.State != StateTrial || t.AfterPolicy == nil || !slices.Contains(groups, t.Canary) {
			continue
		}
		if !changed {
			policies, changed = slices.Clone(policies), true
		}
		at := slices.IndexFunc(policies, func(p fleet.Policy) bool { return p.ID == t.AfterPolicy.ID })
		if at < 0 {
			policies = append(policies, *t.AfterPolicy)
			continue
		}
		policies[at] = *t.AfterPolicy
	}
	return policies
}

// Taggings does the same for the tags of apps.
func Taggings(taggings []cloudapp.Tagging, trials []Rollout, groups []string) []cloudapp.Tagging {
	changed := false
	for i := range trials {
		t := &trials[i]
		if t.State != StateTrial || t.AfterTag == nil || !slices.Contains(groups, t.Canary) {
			continue
		}
		if !changed {
			taggings, changed = slices.Clone(taggings), true
		}
		at := slices.IndexFunc(taggings, func(g cloudapp.Tagging) bool { return g.AppID == t.AfterTag.AppID })
		if at < 0 {
			taggings = append(taggings, *t.AfterTag)
			continue
		}
		taggings[at] = *t.AfterTag
	}
	return taggings
}
