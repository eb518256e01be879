package rollout

import (
	"context"
	"errors"

	"interdict/internal/cloudapp"
	"interdict/internal/control"
	"interdict/internal/control/edit"
	"interdict/internal/fault"
	"interdict/internal/staging"
	"interdict/internal/store"
)

// Advance gives the change on trial to everybody it is for. ref is as for Get.
func (s *Service) Advance(ctx context.Context, actor control.Actor, ref string) (View, control.Change, error) {
	return s.settle(ctx, ref, staging.StateTrial, func(tx *store.Tx, r staging.Rollout) error {
		return s.advance(tx, actor, r, "")
	})
}

// Stop ends a trial so that nobody has the change. ref is as for Get.
func (s *Service) Stop(ctx context.Context, actor control.Actor, ref string) (View, control.Change, error) {
	return s.settle(ctx, ref, staging.StateTrial, func(tx *store.Tx, r staging.Rollout) error {
		return s.end(tx, actor, r, staging.StateStopped, "")
	})
}

// Undo takes back a change that everybody has, unless its target was changed
// since. ref is as for Get.
func (s *Service) Undo(ctx context.Context, actor control.Actor, ref string) (View, control.Change, error) {
	return s.settle(ctx, ref, staging.StateDone, func(tx *store.Tx, r staging.Rollout) error {
		kind, id := r.Target()
		if err := control.CheckNotOnTrial(tx, kind, id, id); err != nil {
			return err
		}
		if err := s.write(tx, actor, &r, wayBack); err != nil {
			return err
		}
		return s.end(tx, actor, r, staging.StateUndone, "")
	})
}

// settle runs fn on a rollout that must be in a state.
func (s *Service) settle(ctx context.Context, ref string, want staging.State, fn func(*store.Tx, staging.Rollout) error) (View, control.Change, error) {
	known, err := s.resolve(ctx, ref, want)
	if err != nil {
		return View{}, control.Change{}, err
	}
	change, err := s.control.Change(ctx, func(tx *store.Tx) error {
		r, missing := tx.Rollouts().Get(known.ID)
		if missing != nil {
			return edit.Gone(missing, "rollout", ref)
		}
		if r.State != want {
			return notIn(&r, want)
		}
		return fn(tx, r)
	})
	if err != nil {
		return View{}, control.Change{}, err
	}
	v, err := s.Get(ctx, known.ID)
	return v, change, err
}

// notIn says why nothing can be done about a rollout.
func notIn(r *staging.Rollout, want staging.State) error {
	words := map[staging.State]string{
		staging.StateTrial: "is still on trial", staging.StateDone: "is done, and everybody it is for has the change",
		staging.StateStopped: "was stopped, and nobody has the change", staging.StateUndone: "was undone, and nobody has the change",
	}
	e := fault.New(fault.Conflict, "rollout %s %s", r.ID, words[r.State])
	switch {
	case r.State == staging.StateDone && want == staging.StateTrial:
		return e.WithHint("to take it back, type: interdict rollout undo %s", r.ID)
	case r.State == staging.StateTrial && want == staging.StateDone:
		return e.WithHint("to end it, type: interdict rollout stop %s", r.ID)
	default:
		return e
	}
}

// advance writes what is on trial into its target.
func (s *Service) advance(tx *store.Tx, actor control.Actor, r staging.Rollout, reason string) error {
	before := r
	if err := s.write(tx, actor, &r, wayForth); err != nil {
		return err
	}
	return s.record(tx, actor, before, r, staging.StateDone, reason)
}

func (s *Service) end(tx *store.Tx, actor control.Actor, r staging.Rollout, state staging.State, reason string) error {
	return s.record(tx, actor, r, r, state, reason)
}

// record writes down what became of a rollout.
func (s *Service) record(tx *store.Tx, actor control.Actor, before, r staging.Rollout, state staging.State, reason string) error {
	action := map[staging.State]string{
		staging.StateDone: "rollout.advance", staging.StateStopped: "rollout.stop", staging.StateUndone: "rollout.undo",
	}[state]
	r.State, r.EndedAt, r.ChangedBy, r.Reason = state, s.control.Now().UTC(), actor.Name, reason
	if actor.Kind == control.ActorSystem {
		r.ChangedBy = actor.Source
	}
	r.Version++
	tx.Audit(s.control.Entry(actor, action, r.ID, before, r))
	return tx.Rollouts().Put(r)
}

// way is whether a target becomes what it is after a rollout, or before.
type way int

const (
	wayForth way = iota
	wayBack
)

// write writes into the target of a rollout, which must be as the rollout left
// it, and notes in the rollout what the target is after it.
func (s *Service) write(tx *store.Tx, actor control.Actor, r *staging.Rollout, w way) error {
	if r.AfterPolicy != nil {
		return s.writePolicy(tx, actor, r, w)
	}
	return s.writeTag(tx, actor, r, w)
}

// editedSince says that a target is no longer as a rollout left it.
func editedSince(what string, r *staging.Rollout) error {
	return fault.New(fault.Conflict, "%s was changed since rollout %s, which would be lost", what, r.ID).
		WithHint("change it by hand; 'interdict rollout show %s' says how it was before", r.ID)
}

func (s *Service) writePolicy(tx *store.Tx, actor control.Actor, r *staging.Rollout, w way) error {
	have, want := r.BeforePolicy, *r.AfterPolicy
	if w == wayBack {
		if r.BeforePolicy == nil {
			return s.removePolicy(tx, actor, r)
		}
		have, want = r.AfterPolicy, *r.BeforePolicy
	}
	now, err := tx.Policies().Get(want.ID)
	if err != nil && (have != nil || !errors.Is(err, store.ErrNotFound)) {
		return edit.Gone(err, "policy", want.Name)
	}
	if have != nil && now.Version != have.Version {
		return editedSince("policy "+now.Name, r)
	}
	want.Version, want.UpdatedAt = now.Version+1, s.control.Now().UTC()
	if w == wayForth {
		r.AfterPolicy = &want
	}
	tx.Audit(s.control.Entry(actor, "policy.update", want.ID, now, want))
	return tx.Policies().Put(want)
}

// removePolicy takes back a policy that there was none of before.
func (s *Service) removePolicy(tx *store.Tx, actor control.Actor, r *staging.Rollout) error {
	now, err := tx.Policies().Get(r.AfterPolicy.ID)
	if err != nil {
		return edit.Gone(err, "policy", r.AfterPolicy.Name)
	}
	if now.Version != r.AfterPolicy.Version {
		return editedSince("policy "+now.Name, r)
	}
	tx.Audit(s.control.Entry(actor, "policy.delete", now.ID, now, nil))
	return tx.Policies().Delete(now.ID)
}

func (s *Service) writeTag(tx *store.Tx, actor control.Actor, r *staging.Rollout, w way) error {
	have, want := r.BeforeTag, r.AfterTag
	if w == wayBack {
		have, want = r.AfterTag, r.BeforeTag
	}
	id := r.AfterTag.AppID
	now, err := tagging(tx, id)
	if err != nil {
		return err
	}
	if !sameTag(now, have) {
		return editedSince("the tag of app "+id, r)
	}
	if want == nil || want.Tag == cloudapp.TagNone {
		if now == nil {
			return nil
		}
		tx.Audit(s.control.Entry(actor, "app.untag", id, now, nil))
		return tx.Taggings().Delete(id)
	}
	written := *want
	if w == wayForth {
		written.At = s.control.Now().UTC()
		r.AfterTag = &written
	}
	tx.Audit(s.control.Entry(actor, "app.tag", id, now, written))
	return tx.Taggings().Put(written)
}

// sameTag reports whether two tags of an app are the same one. No tag and the
// tag none are.
func sameTag(a, b *cloudapp.Tagging) bool {
	none := func(t *cloudapp.Tagging) bool { return t == nil || t.Tag == cloudapp.TagNone }
	if none(a) || none(b) {
		return none(a) && none(b)
	}
	return a.Tag == b.Tag && a.At.Equal(b.At) && a.Scope.Equal(&b.Scope)
}
