package groups

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"interdict/internal/bypass"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/staging"
	"interdict/internal/store"
)

// maxUses bounds how many uses of a group are told.
const maxUses = 100

// groupUses collects what uses a group, for people.
type groupUses struct {
	group *fleet.Group
	uses  fault.Fields
}

// checkUnused refuses a group that something mentions: without it a scope
// would mean something else, and a token would put devices nowhere. All that
// mentions it is told. Only the transaction knows what was changed a moment ago,
// here or by another server.
func (s *Service) checkUnused(tx *store.Tx, g *fleet.Group) error {
	u := groupUses{group: g}
	err := errors.Join(u.readPolicies(tx), u.readTags(tx), u.readTokens(tx, s.control.Now()), u.readIndicators(tx), u.readRollouts(tx),
		u.readRevocations(tx, s.control.Now()))
	if err != nil || len(u.uses) == 0 {
		return err
	}
	e := fault.New(fault.Conflict, "group %q is in use", g.Name)
	e.Fields = u.uses[:min(len(u.uses), maxUses)]
	if more := len(u.uses) - len(e.Fields); more > 0 {
		e.Message += fmt.Sprintf(" in %d places, of which the first %d are these", len(u.uses), len(e.Fields))
	}
	return e.WithHint("take it out there first")
}

func (u *groupUses) in(s indicator.Scope) bool {
	return slices.Contains(s.Include, u.group.ID) || slices.Contains(s.Exclude, u.group.ID)
}

func (u *groupUses) readPolicies(tx *store.Tx) error {
	all, err := tx.Policies().Mentioning(u.group.ID)
	for i := range all {
		if u.in(all[i].Assignment) {
			u.uses.Add("policy", "%q is assigned by it", all[i].Name)
		}
	}
	return err
}

func (u *groupUses) readTags(tx *store.Tx) error {
	all, err := tx.Taggings().Mentioning(u.group.ID)
	for i := range all {
		if u.in(all[i].Scope.Scope) {
			u.uses.Add("tag", "of app %s has it in its scope", all[i].AppID)
		}
	}
	return err
}

func (u *groupUses) readIndicators(tx *store.Tx) error {
	all, err := tx.Indicators().Mentioning(u.group.ID)
	for i := range all {
		if u.in(all[i].Scope.Scope) {
			u.uses.Add("indicator", "%s (%s %s) has it in its scope", all[i].ID, all[i].Type, all[i].Value)
		}
	}
	return err
}

func (u *groupUses) readRollouts(tx *store.Tx) error {
	all, err := tx.Rollouts().Mentioning(u.group.ID)
	for i := range all {
		if u.inTrial(&all[i]) {
			u.uses.Add("rollout", "%s is on trial with it", all[i].ID)
		}
	}
	return err
}

// readRevocations looks for those that may still end a bypass: without the
// group it would go on.
func (u *groupUses) readRevocations(tx *store.Tx, now time.Time) error {
	all, err := tx.Revocations().Mentioning(u.group.ID)
	for i := range all {
		r := &all[i]
		if last := r.Before.Add(bypass.MaxAge); u.in(r.Scope) && now.Before(last) {
			u.uses.Add("revocation", "of bypasses has it in its scope until %s", last.UTC().Format(time.RFC3339))
		}
	}
	return err
}

// maxTokens bounds how many enrolment tokens are looked at.
const maxTokens = 10_000

func (u *groupUses) readTokens(tx *store.Tx, now time.Time) error {
	all, err := tx.Tokens("", maxTokens)
	for i := range all {
		t := &all[i]
		if slices.Contains(t.Groups, u.group.ID) && t.RevokedAt.IsZero() && now.Before(t.ExpiresAt) && t.Used < t.Uses {
			u.uses.Add("token", "%q admits devices to it", t.Name)
		}
	}
	return err
}

// inTrial reports whether a rollout needs the group while it is on trial.
func (u *groupUses) inTrial(r *staging.Rollout) bool {
	if r.State != staging.StateTrial {
		return false
	}
	return r.Canary == u.group.ID || r.AfterPolicy != nil && u.in(r.AfterPolicy.Assignment) ||
		r.AfterTag != nil && u.in(r.AfterTag.Scope.Scope)
}
