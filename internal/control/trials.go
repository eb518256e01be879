package control

import (
	"interdict/internal/fault"
	"interdict/internal/indicator"
	"interdict/internal/staging"
	"interdict/internal/store"
)

// This file has what staged changes need of policies and tags: a change on
// trial obeys the same rules as one that is made at once, and its target stays
// as it is until the trial ends.

// CheckPolicy brings what is in a policy into its canonical form, or says what
// is wrong with it.
func (s *Service) CheckPolicy(n *NewPolicy) error { return n.check() }

// CheckTagging returns the ids of the apps of a request, each once, and the
// scope with ids, or says what is wrong with it. What other servers changed is
// looked at as far as it is known here.
func (s *Service) CheckTagging(r *TagRequest) ([]string, indicator.Profile, error) {
	return s.checkTagging(r)
}

// CheckNotOnTrial refuses a change of what a rollout has on trial, see
// [staging.Rollout.Target]: it would be lost when the trial ends. name is what
// people call the target.
func CheckNotOnTrial(tx *store.Tx, kind, id, name string) error {
	all, err := tx.Rollouts().Named(store.RolloutName(kind, id))
	if err != nil {
		return err
	}
	trials := staging.Trials(all)
	if len(trials) == 0 {
		return nil
	}
	r, what := &trials[0], "policy "+name
	if kind == staging.TargetTag {
		what = "the tag of app " + name
	}
	return fault.New(fault.Conflict, "%s is on trial, by rollout %s", what, r.ID).
		WithHint("end the trial first: interdict rollout stop %s, or for everybody: interdict rollout advance %s", r.ID, r.ID)
}
