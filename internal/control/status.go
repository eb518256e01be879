package control

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"interdict/internal/control/audience"
	"interdict/internal/control/find"
	"interdict/internal/control/lag"
	"interdict/internal/control/page"
	"interdict/internal/fault"
	"interdict/internal/fleet"
)

// reach is a policy, and what has been decided about its settings for the
// devices it is assigned to.
type reach struct {
	policy   fleet.Policy
	snapshot *audience.Snapshot
	// standings are by audience: all its devices have the same.
	standings map[*audience.Audience][]fleet.Standing
}

// covers reports whether the policy is assigned to a device, also one with
// another operating system than the policy is for.
func (r *reach) covers(id fleet.DeviceID) bool {
	return r.policy.Assigned && r.policy.Assignment.Covers(r.snapshot.Target(id).Groups)
}

func (r *reach) of(id fleet.DeviceID) []fleet.Standing {
	a := r.snapshot.Of(id)
	if a == nil {
		return nil
	}
	standings, known := r.standings[a]
	if !known {
		standings = a.Effective.StandingsOf(&r.policy)
		r.standings[a] = standings
	}
	return standings
}

// eachReached shows fn the devices that a policy is assigned to, and how far
// each has come with it. What holds for Read holds here.
func (s *Service) eachReached(ctx context.Context, ref string,
	fn func(*reach, *fleet.Device, fleet.SettingState, []fleet.SettingStatus),
) (fleet.Policy, error) {
	if err := errors.Join(s.fresh(ctx), s.freshPresence(ctx)); err != nil {
		return fleet.Policy{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	id, err := find.Policy(s.state, ref)
	if err != nil {
		return fleet.Policy{}, err
	}
	r := reach{policy: s.state.Policies[id], snapshot: s.snapshot.Load(), standings: make(map[*audience.Audience][]fleet.Standing)}
	for id := range s.state.Devices {
		if !r.covers(id) {
			continue
		}
		d := s.state.Devices[id].Device
		s.fill(&d)
		state, settings := d.PolicyStatus(&r.policy, r.of(id))
		fn(&r, &d, state, settings)
	}
	return r.policy, nil
}

// PolicyStatus says how far the devices have come that a policy is assigned
// to. It names none of them; see PolicyDevices.
func (s *Service) PolicyStatus(ctx context.Context, ref string) (PolicyStatus, error) {
	status := PolicyStatus{Settings: []SettingCounts{}}
	conflicts := make(map[fleet.Conflict]int)
	counts := make(map[string]*fleet.StateCounts)
	var newest lag.Lag
	var err error
	status.Policy, err = s.eachReached(ctx, ref, func(_ *reach, d *fleet.Device, state fleet.SettingState, settings []fleet.SettingStatus) {
		status.Counts.Add(state)
		newest.Add(d, &s.moments)
		for i := range settings {
			one := &settings[i]
			if counts[one.Setting] == nil {
				counts[one.Setting] = new(fleet.StateCounts)
			}
			counts[one.Setting].Add(one.State)
			for _, c := range one.Conflicts {
				conflicts[c]++
			}
		}
	})
	if err != nil {
		return PolicyStatus{}, err
	}
	for _, d := range fleet.Definitions() {
		if value := d.Get(&status.Policy.Settings); value != "" {
			one := SettingCounts{Setting: d.Name, Value: value}
			if c := counts[d.Name]; c != nil {
				one.Counts = *c
			}
			status.Settings = append(status.Settings, one)
		}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	status.Conflicts = s.conflicts(conflicts)
	status.Revision, status.Took = newest.Revision, newest.Took.Seconds()
	return status, nil
}

// torn returns the devices that have conflicts, few as a rule. s.mu is held.
func (s *Service) torn() []fleet.DeviceID {
	var torn []fleet.DeviceID
	snapshot := s.snapshot.Load()
	for id := range s.state.Devices {
		if a := snapshot.Of(id); a != nil && len(a.Effective.Conflicts) > 0 {
			torn = append(torn, id)
		}
	}
	return torn
}

// conflictsOf returns the conflicts of a policy on the devices that have any.
// s.mu is held.
func (s *Service) conflictsOf(p fleet.Policy, torn []fleet.DeviceID) []PolicyConflict {
	counts := make(map[fleet.Conflict]int)
	r := reach{policy: p, snapshot: s.snapshot.Load(), standings: make(map[*audience.Audience][]fleet.Standing)}
	for _, id := range torn {
		if !r.covers(id) || !p.SupportsOS(s.state.Devices[id].OS) {
			continue
		}
		for _, standing := range r.of(id) {
			for _, c := range standing.Conflicts {
				counts[c]++
			}
		}
	}
	return s.conflicts(counts)
}

// conflicts returns conflicts with the names of their policies, sorted. s.mu is
// held.
func (s *Service) conflicts(counts map[fleet.Conflict]int) []PolicyConflict {
	var all []PolicyConflict
	for c, devices := range counts {
		s.name(&c)
		all = append(all, PolicyConflict{Conflict: c, Devices: devices})
	}
	slices.SortFunc(all, func(a, b PolicyConflict) int {
		return cmp.Or(cmp.Compare(a.Setting, b.Setting), cmp.Compare(a.PolicyName, b.PolicyName), cmp.Compare(a.OverruledName, b.OverruledName),
			cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Overruled, b.Overruled))
	})
	return all
}

// name puts the names of the policies into a conflict. s.mu is held.
func (s *Service) name(c *fleet.Conflict) {
	c.PolicyName, c.OverruledName = s.state.Policies[c.Policy].Name, s.state.Policies[c.Overruled].Name
}

// PolicyDevices returns the devices that a policy is assigned to, sorted by
// name, with how far each has come.
func (s *Service) PolicyDevices(ctx context.Context, ref string, q PolicyDeviceQuery) (page.Page[PolicyDevice], error) {
	for _, state := range q.States {
		if !state.Valid() {
			var faults fault.Fields
			faults.Add("state", "must be one of %v", fleet.SettingStates())
			return page.Page[PolicyDevice]{}, faults.Err("the query is not valid")
		}
	}
	var found []PolicyDevice
	_, err := s.eachReached(ctx, ref, func(_ *reach, d *fleet.Device, state fleet.SettingState, settings []fleet.SettingStatus) {
		if len(q.States) > 0 && !slices.Contains(q.States, state) {
			return
		}
		found = append(found, PolicyDevice{
			ID: d.ID, Name: d.Name, State: state, Online: d.Online, LastSeen: d.LastSeen, Applied: d.Applied, Settings: unnamed(settings),
		})
	})
	if err != nil {
		return page.Page[PolicyDevice]{}, err
	}
	p, err := page.Of(found, q.Query, func(d *PolicyDevice) string { return d.Name + "\x00" + string(d.ID) })
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i := range p.Items {
		s.nameAll(p.Items[i].Settings)
	}
	return p, err
}

func unnamed(settings []fleet.SettingStatus) []SettingView {
	all := make([]SettingView, len(settings))
	for i := range settings {
		all[i].SettingStatus = settings[i]
	}
	return all
}

// nameAll puts the names of policies in. s.mu is held.
func (s *Service) nameAll(settings []SettingView) {
	for i := range settings {
		v := &settings[i]
		v.PolicyName = s.state.Policies[v.Policy].Name
		// The snapshot has them too.
		v.Conflicts = slices.Clone(v.Conflicts)
		for j := range v.Conflicts {
			s.name(&v.Conflicts[j])
		}
	}
}
