package rollout

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"interdict/internal/cloudapp"
	"interdict/internal/control/audience"
	"interdict/internal/control/find"
	"interdict/internal/control/page"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/staging"
	"interdict/internal/store"
)

// maxMembers bounds how many devices of a canary are listed.
const maxMembers = 1000

// View is a rollout with what people want to know of it.
type View struct {
	staging.Rollout

	Target     Target `json:"target"`
	CanaryName string `json:"canary_name"`
	// Changes are what becomes different, with names in the place of ids.
	Changes []fleet.Difference `json:"changes"`
	// Progress is of the devices in the canary that the change is for, and
	// Refused how many of their connections were refused since the trial
	// began: of a tag those to its app, of a policy all, since another policy
	// may come into force where one is changed. Both are there on trial only.
	Progress *fleet.Progress `json:"progress,omitempty"`
	Refused  int             `json:"refused"`
	// Waiting says why nobody tries the change yet; empty if somebody does.
	Waiting string `json:"waiting,omitempty"`
	// AdvancesAt is when everybody gets the change if nothing happens. It is
	// known once a device has tried it.
	AdvancesAt time.Time `json:"advances_at,omitzero"`
	// Members are the devices that Progress counts, those with the most
	// refused connections first. Lists have none.
	Members []Member `json:"members,omitempty"`
}

// Target is what a rollout changes.
type Target struct {
	Kind string `json:"kind" enum:"policy,tag"`
	// ID is the policy's or the app's.
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Member is a device of a canary.
type Member struct {
	ID      fleet.DeviceID      `json:"id"`
	Name    string              `json:"name"`
	State   fleet.ProgressState `json:"state" enum:"applied,pending,offline,failed"`
	Refused int                 `json:"refused"`
}

// List returns the rollouts, newest first.
func (s *Service) List(ctx context.Context, q page.Query) (page.Page[View], error) {
	var all []staging.Rollout
	err := s.control.Read(ctx, func(state *audience.State, _ *audience.Snapshot) error {
		for _, r := range state.Rollouts {
			all = append(all, r)
		}
		return nil
	})
	if err != nil {
		return page.Page[View]{}, err
	}
	found, err := page.Of(all, q, func(r *staging.Rollout) string {
		return fmt.Sprintf("%019d", math.MaxInt64-r.StartedAt.UnixNano()) + r.ID
	})
	if err != nil {
		return page.Page[View]{}, err
	}
	views, err := s.views(ctx, found.Items)
	for i := range views {
		views[i].Members = nil
	}
	return page.Page[View]{Items: views, Next: found.Next}, err
}

// Get returns one rollout: by its id, or by the id or name of what it changes,
// which is the one on trial if there is one, and else the newest.
func (s *Service) Get(ctx context.Context, ref string) (View, error) {
	r, err := s.resolve(ctx, ref, staging.StateTrial)
	if err != nil {
		return View{}, err
	}
	views, err := s.views(ctx, []staging.Rollout{r})
	if err != nil {
		return View{}, err
	}
	return views[0], nil
}

// resolve finds the rollout with an id, or the one that is in a state, else
// the newest, of those with a target.
func (s *Service) resolve(ctx context.Context, ref string, preferred staging.State) (found staging.Rollout, err error) {
	err = s.control.Read(ctx, func(state *audience.State, _ *audience.Snapshot) error {
		if r, known := state.Rollouts[ref]; known {
			found = r
			return nil
		}
		targets := s.targets(state, ref)
		for _, r := range state.Rollouts {
			if slices.Contains(targets, store.RolloutName(r.Target())) && (found.ID == "" || better(&r, &found, preferred)) {
				found = r
			}
		}
		if found.ID == "" {
			return fault.New(fault.NotFound, "there is no rollout %q", ref).WithHint("list them with: interdict rollout list")
		}
		return nil
	})
	return found, err
}

// targets are the names of the rollouts of what ref may mean.
func (s *Service) targets(state *audience.State, ref string) (names []string) {
	if id, err := find.Policy(state, ref); err == nil {
		names = append(names, store.RolloutName(staging.TargetPolicy, id))
	}
	if a, err := s.control.FindApp(ref); err == nil {
		names = append(names, store.RolloutName(staging.TargetTag, a.ID))
	}
	return names
}

func better(r, than *staging.Rollout, preferred staging.State) bool {
	if in, was := r.State == preferred, than.State == preferred; in != was {
		return in
	}
	return r.ID > than.ID
}

// views adds to rollouts what people want to know of them.
func (s *Service) views(ctx context.Context, all []staging.Rollout) ([]View, error) {
	views := make([]View, len(all))
	for i := range all {
		views[i] = s.view(&all[i])
	}
	err := s.control.View(ctx, func(tx *store.Tx) error {
		for i := range views {
			v := &views[i]
			if v.State != staging.StateTrial {
				continue
			}
			members := s.members(&v.Rollout)
			refused, err := refusedBy(tx, &v.Rollout, members)
			if err != nil {
				return err
			}
			v.count(members, refused)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return views, s.addMembers(ctx, views)
}

// view is a rollout with what follows from the configuration.
func (s *Service) view(r *staging.Rollout) View {
	v := View{Rollout: *r, Changes: changes(r)}
	v.Target.Kind, v.Target.ID = r.Target()
	if r.AfterPolicy != nil {
		v.Target.Name = r.AfterPolicy.Name
	} else if a, err := s.control.FindApp(v.Target.ID); err == nil {
		v.Target.Name = a.Name
	}
	v.Target.Name = cmp.Or(v.Target.Name, v.Target.ID)
	s.control.Look(func(state *audience.State, _ *audience.Snapshot) {
		v.CanaryName = find.Name(state, r.Canary)
		for i := range v.Changes {
			nameGroups(state, &v.Changes[i])
		}
	})
	if r.State == staging.StateTrial {
		v.Progress = new(fleet.Progress)
		if r.AdvanceAfter != "" && !r.TriedAt.IsZero() {
			v.AdvancesAt = r.TriedAt.Add(r.AdvanceAfter.Duration())
		}
	}
	return v
}

// count notes what the members of the canary were refused.
func (v *View) count(members []fleet.DeviceID, refused map[fleet.DeviceID]int) {
	for _, id := range members {
		v.Refused += refused[id]
		v.Members = append(v.Members, Member{ID: id, Refused: refused[id]})
	}
	slices.SortFunc(v.Members, func(a, b Member) int { return cmp.Or(b.Refused-a.Refused, cmp.Compare(a.ID, b.ID)) })
}

// addMembers says of the devices of canaries how far they have come.
func (s *Service) addMembers(ctx context.Context, views []View) error {
	if !slices.ContainsFunc(views, func(v View) bool { return v.State == staging.StateTrial }) {
		return nil
	}
	devices := make(map[fleet.DeviceID]fleet.Device)
	if err := s.control.EachDevice(ctx, func(d *fleet.Device) { devices[d.ID] = *d }); err != nil {
		return err
	}
	for i := range views {
		v := &views[i]
		var kept []Member
		for _, m := range v.Members {
			d, known := devices[m.ID]
			if !known {
				continue
			}
			m.Name, m.State = d.Name, d.State()
			v.Progress.Add(m.State)
			kept = append(kept, m)
		}
		v.Members = kept[:min(len(kept), maxMembers)]
		v.Waiting = v.waiting()
	}
	return nil
}

// waiting says why nobody tries the change, if nobody does.
func (v *View) waiting() string {
	switch {
	case v.State != staging.StateTrial || !v.TriedAt.IsZero() || v.Progress.Applied > 0:
		return ""
	case v.Progress.Total == 0:
		return fmt.Sprintf("no device is in the canary %s that the change is for", v.CanaryName)
	default:
		return fmt.Sprintf("no device of the canary %s has applied the change yet", v.CanaryName)
	}
}

// changes are what a rollout makes different.
func changes(r *staging.Rollout) []fleet.Difference {
	if r.AfterPolicy != nil {
		var before fleet.Policy
		if r.BeforePolicy != nil {
			before = *r.BeforePolicy
		}
		return fleet.Differences(&before, r.AfterPolicy)
	}
	before := cloudapp.Tagging{Tag: cloudapp.TagNone}
	if r.BeforeTag != nil {
		before = *r.BeforeTag
	}
	return tagChanges(&before, r.AfterTag)
}

// tagChanges are the differences of two tags of an app.
func tagChanges(before, after *cloudapp.Tagging) []fleet.Difference {
	all := []fleet.Difference{}
	compare := func(field string, before, after []string) {
		if b, a := strings.Join(before, ", "), strings.Join(after, ", "); a != b {
			all = append(all, fleet.Difference{Field: field, Before: b, After: a})
		}
	}
	b, a := &before.Scope, &after.Scope
	compare("tag", []string{string(before.Tag)}, []string{string(after.Tag)})
	compare("scope.include_groups", b.Include, a.Include)
	compare("scope.exclude_groups", b.Exclude, a.Exclude)
	compare("scope.include_users", b.IncludeUsers, a.IncludeUsers)
	compare("scope.exclude_users", b.ExcludeUsers, a.ExcludeUsers)
	compare("scope.include_user_groups", b.IncludeUserGroups, a.IncludeUserGroups)
	compare("scope.exclude_user_groups", b.ExcludeUserGroups, a.ExcludeUserGroups)
	compare("scope.windows", windows(b.Windows), windows(a.Windows))
	return all
}

func windows(all []indicator.Window) []string {
	texts := make([]string, len(all))
	for i := range all {
		texts[i] = all[i].String()
	}
	return texts
}

// nameGroups writes names for the ids of device groups.
func nameGroups(state *audience.State, d *fleet.Difference) {
	_, field, _ := strings.Cut(d.Field, ".")
	if field != "include_groups" && field != "exclude_groups" {
		return
	}
	for _, text := range []*string{&d.Before, &d.After} {
		if *text == "" {
			continue
		}
		ids := strings.Split(*text, ", ")
		for i, id := range ids {
			ids[i] = find.Name(state, id)
		}
		*text = strings.Join(ids, ", ")
	}
}
