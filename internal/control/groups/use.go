package groups

import (
	"fmt"
	"slices"
	"time"

	"interdict/internal/control/audience"
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
// mentions it is told.
func (s *Service) checkUnused(tx *store.Tx, g *fleet.Group) error {
	u := groupUses{group: g}
	if err := u.read(tx, s.control.Now()); err != nil {
		return err
	}
	// Read would ask the store, which this transaction has.
	s.control.Look(func(state *audience.State, _ *audience.Snapshot) { u.look(state.Indicators, state.Rollouts) })
	if len(u.uses) == 0 {
		return nil
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

// read looks at what there is little of, in the store.
func (u *groupUses) read(tx *store.Tx, now time.Time) error {
	policies, err := tx.Policies().All()
	if err != nil {
		return err
	}
	for i := range policies {
		if u.in(policies[i].Assignment) {
			u.uses.Add("policy", "%q is assigned by it", policies[i].Name)
		}
	}
	taggings, err := tx.Taggings().All()
	if err != nil {
		return err
	}
	for i := range taggings {
		if u.in(taggings[i].Scope.Scope) {
			u.uses.Add("tag", "of app %s has it in its scope", taggings[i].AppID)
		}
	}
	tokens, err := tx.Tokens("", maxTokens)
	if err != nil {
		return err
	}
	for i := range tokens {
		t := &tokens[i]
		if slices.Contains(t.Groups, u.group.ID) && t.RevokedAt.IsZero() && now.Before(t.ExpiresAt) && t.Used < t.Uses {
			u.uses.Add("token", "%q admits devices to it", t.Name)
		}
	}
	return nil
}

// maxTokens bounds how many enrolment tokens are looked at.
const maxTokens = 10_000

// look looks at what there may be a hundred thousand of.
func (u *groupUses) look(indicators map[string]indicator.Indicator, rollouts map[string]staging.Rollout) {
	var found fault.Fields
	for id, i := range indicators {
		if u.in(i.Scope.Scope) {
			found.Add("indicator", "%s (%s %s) has it in its scope", id, i.Type, i.Value)
		}
	}
	for id, r := range rollouts {
		if u.inTrial(&r) {
			found.Add("rollout", "%s is on trial with it", id)
		}
	}
	slices.SortFunc(found, func(a, b fault.Field) int { return slices.Compare([]string{a.Name, a.Rule}, []string{b.Name, b.Rule}) })
	u.uses = append(u.uses, found...)
}

// inTrial reports whether a rollout needs the group while it is on trial.
func (u *groupUses) inTrial(r *staging.Rollout) bool {
	if r.State != staging.StateTrial {
		return false
	}
	return r.Canary == u.group.ID || r.AfterPolicy != nil && u.in(r.AfterPolicy.Assignment) ||
		r.AfterTag != nil && u.in(r.AfterTag.Scope.Scope)
}
