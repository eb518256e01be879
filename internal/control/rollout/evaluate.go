package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"interdict/internal/cloudapp"
	"interdict/internal/control"
	"interdict/internal/control/audience"
	"interdict/internal/control/find"
	"interdict/internal/event"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/staging"
	"interdict/internal/store"
)

// itself is what a rollout says changed it when nobody did.
const itself = "rollout"

// Observed takes notice of events that a device reported. Those that may end a
// trial have it looked at soon.
func (s *Service) Observed(events []event.Event) {
	counts := false
	s.control.Look(func(state *audience.State, snapshot *audience.Snapshot) {
		for _, r := range state.Rollouts {
			if r.State == staging.StateTrial && r.StopAt > 0 && slices.ContainsFunc(events, func(e event.Event) bool { return concerns(&e, &r, snapshot) }) {
				counts = true
				return
			}
		}
	})
	if !counts {
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// concerns reports whether an event may count for a rollout.
func concerns(e *event.Event, r *staging.Rollout, snapshot *audience.Snapshot) bool {
	if e.EventID != event.IDBlocked || !slices.Contains(snapshot.Target(fleet.DeviceID(e.Device)).Groups, r.Canary) {
		return false
	}
	kind, id := r.Target()
	return kind == staging.TargetPolicy || e.AppID == id
}

// Evaluate ends the trials whose time has come: it is what goes on in the
// background, and may be called at any time.
func (s *Service) Evaluate(ctx context.Context) error {
	var trials []staging.Rollout
	s.control.Look(func(state *audience.State, _ *audience.Snapshot) {
		for _, r := range state.Rollouts {
			if r.State == staging.StateTrial {
				trials = append(trials, r)
			}
		}
	})
	var faults []error
	for i := range trials {
		if err := s.evaluate(ctx, &trials[i]); err != nil {
			faults = append(faults, fmt.Errorf("looking after rollout %s: %w", trials[i].ID, err))
		}
	}
	return errors.Join(faults...)
}

// evaluate looks whether there is something to do before it does it in a
// transaction, where it is asked again: most often there is not.
func (s *Service) evaluate(ctx context.Context, r *staging.Rollout) error {
	members := s.members(r)
	if err := s.noteTried(ctx, r, members); err != nil {
		return err
	}
	var step staging.Step
	err := s.control.View(ctx, func(tx *store.Tx) (err error) {
		step, _, err = s.step(tx, r, members)
		return err
	})
	if err != nil || step == staging.StepWait {
		return err
	}
	_, err = s.control.Change(ctx, func(tx *store.Tx) error { return s.conclude(ctx, tx, r.ID, members) })
	return err
}

// noteTried notes when a device first has what is on trial: from then on the
// time runs after which everybody gets it.
func (s *Service) noteTried(ctx context.Context, r *staging.Rollout, members []fleet.DeviceID) error {
	if !r.TriedAt.IsZero() || len(members) == 0 {
		return nil
	}
	tried := false
	err := s.control.EachDevice(ctx, func(d *fleet.Device) {
		if _, in := slices.BinarySearch(members, d.ID); in && d.State() == fleet.StateApplied {
			tried = true
		}
	})
	if err != nil || !tried {
		return err
	}
	_, err = s.control.Change(ctx, func(tx *store.Tx) error {
		now, missing := tx.Rollouts().Get(r.ID)
		if missing != nil || now.State != staging.StateTrial || !now.TriedAt.IsZero() {
			return missing
		}
		now.TriedAt = s.control.Now().UTC()
		now.Version++
		return tx.Rollouts().Put(now)
	})
	return err
}

// conclude does what a rollout has to do next, if it still has to.
func (s *Service) conclude(ctx context.Context, tx *store.Tx, id string, members []fleet.DeviceID) error {
	r, err := tx.Rollouts().Get(id)
	if err != nil {
		return err
	}
	actor := control.System(itself)
	step, refused, err := s.step(tx, &r, members)
	switch {
	case err != nil:
		return err
	case step == staging.StepStop:
		s.logger.WarnContext(ctx, "stopped a rollout", "rollout", r.ID, "refused", refused, "stop_at", r.StopAt)
		return s.end(tx, actor, r, staging.StateStopped, fmt.Sprintf(
			"%s of the canary %s refused since the trial began, and %d stop it", connections(refused), wereRefused(refused), r.StopAt))
	case step == staging.StepAdvance:
		s.logger.InfoContext(ctx, "advanced a rollout", "rollout", r.ID, "refused", refused)
		return s.advance(tx, actor, r, fmt.Sprintf("the trial lasted %s, with %s refused", r.AdvanceAfter, connections(refused)))
	default:
		return nil
	}
}

func connections(n int) string {
	if n == 1 {
		return "1 connection"
	}
	return fmt.Sprintf("%d connections", n)
}

func wereRefused(n int) string {
	if n == 1 {
		return "was"
	}
	return "were"
}

// step is what a rollout has to do next, and how many connections were
// refused.
func (s *Service) step(tx *store.Tx, r *staging.Rollout, members []fleet.DeviceID) (staging.Step, int, error) {
	refused, err := refusedBy(tx, r, members)
	if err != nil {
		return "", 0, err
	}
	n := 0
	for _, count := range refused {
		n += count
	}
	return r.Next(s.control.Now(), n), n, nil
}

// refusedBy counts the connections that members of a canary reported as
// refused since the trial began and that may be due to it. A tag refuses those
// to its app. What a policy refuses cannot be told by the policy that an event
// names: where one gives way, another comes into force. So all count.
func refusedBy(tx *store.Tx, r *staging.Rollout, members []fleet.DeviceID) (map[fleet.DeviceID]int, error) {
	since := r.StartedAt.Truncate(time.Microsecond)
	refused := make(map[fleet.DeviceID]int)
	if kind, id := r.Target(); kind == staging.TargetTag {
		all, err := tx.RefusedByTag(id, since)
		for _, one := range all {
			if slices.Contains(members, one.Device) {
				refused[one.Device] = one.Count
			}
		}
		return refused, err
	}
	for _, id := range members {
		all, err := tx.RefusedByDevice(id, since)
		if err != nil {
			return nil, err
		}
		for _, one := range all {
			refused[one.Device] = one.Count
		}
	}
	return refused, nil
}

// members are the devices of a canary that the change makes a difference to,
// in the order of their ids.
func (s *Service) members(r *staging.Rollout) (members []fleet.DeviceID) {
	s.control.Look(func(state *audience.State, snapshot *audience.Snapshot) {
		for id := range state.Devices {
			if t := snapshot.Target(id); slices.Contains(t.Groups, r.Canary) && reaches(r, t) {
				members = append(members, id)
			}
		}
	})
	slices.Sort(members)
	return members
}

// checkReached refuses a trial that nobody in the canary would try. One in an
// empty group may: devices may come into it.
func (s *Service) checkReached(r *staging.Rollout) error {
	var name string
	inside := false
	s.control.Look(func(state *audience.State, snapshot *audience.Snapshot) {
		name = find.Name(state, r.Canary)
		for id := range state.Devices {
			inside = inside || slices.Contains(snapshot.Target(id).Groups, r.Canary)
		}
	})
	if !inside || len(s.members(r)) > 0 {
		return nil
	}
	return fault.New(fault.Conflict, "the change is for no device of the canary %s, so nobody would try it out", name).
		WithHint("choose a canary among the devices that the change is for")
}

// reaches reports whether a change makes a difference to a device, once it has
// it.
func reaches(r *staging.Rollout, d fleet.Target) bool {
	for _, t := range []*cloudapp.Tagging{r.BeforeTag, r.AfterTag} {
		if t != nil && t.Scope.Covers(d.Groups) {
			return true
		}
	}
	for _, p := range []*fleet.Policy{r.BeforePolicy, r.AfterPolicy} {
		if p != nil && p.AppliesTo(d) {
			return true
		}
	}
	return false
}
