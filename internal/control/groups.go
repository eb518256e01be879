package control

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/oklog/ulid/v2"

	"interdict/internal/cloudapp"
	"interdict/internal/control/edit"
	"interdict/internal/control/find"
	"interdict/internal/control/input"
	"interdict/internal/control/page"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/store"
)

// Groups returns the device groups, sorted by name.
func (s *Service) Groups(ctx context.Context, q page.Query) (page.Page[GroupView], error) {
	if err := s.fresh(ctx); err != nil {
		return page.Page[GroupView]{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all []GroupView
	for id := range s.state.Groups {
		all = append(all, s.groupView(id))
	}
	return page.Of(all, q, func(g *GroupView) string { return g.Name + "\x00" + g.ID })
}

// Group returns the group with an id or a name.
func (s *Service) Group(ctx context.Context, ref string) (GroupView, error) {
	if err := s.fresh(ctx); err != nil {
		return GroupView{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	id, err := find.Group(s.state, ref)
	if err != nil {
		return GroupView{}, err
	}
	return s.groupView(id), nil
}

// groupView is called with s.mu held.
func (s *Service) groupView(id string) GroupView {
	g := s.state.Groups[id]
	for device, d := range s.state.Devices {
		if slices.Contains(d.Static, id) {
			g.Members = append(g.Members, device)
		}
	}
	slices.Sort(g.Members)
	return GroupView{Group: g, Devices: s.snapshot.Load().Members(id)}
}

// CreateGroup makes a group.
func (s *Service) CreateGroup(ctx context.Context, actor Actor, n NewGroup) (GroupView, Change, error) {
	if err := s.fresh(ctx); err != nil {
		return GroupView{}, Change{}, err
	}
	members, err := s.checkGroup(&n)
	if err != nil {
		return GroupView{}, Change{}, err
	}
	g := fleet.Group{
		ID: ulid.Make().String(), Name: n.Name, Description: n.Description, Match: n.Match, Members: members,
		Version: 1, CreatedAt: s.now().UTC(),
	}
	change, err := s.Change(ctx, func(tx *store.Tx) error {
		tx.Audit(s.Entry(actor, "group.create", g.ID, nil, g))
		return addGroup(tx, g)
	})
	if err != nil {
		return GroupView{}, Change{}, err
	}
	view, err := s.Group(ctx, g.ID)
	return view, change, err
}

func addGroup(tx *store.Tx, g fleet.Group) error {
	if err := edit.CheckFreeName(tx.Groups(), g.Name); err != nil {
		return err
	}
	return errors.Join(tx.Groups().Put(g), tx.Join(g.ID, g.Members...))
}

// UpdateGroup makes a group what n says, unless it no longer has the version.
func (s *Service) UpdateGroup(ctx context.Context, actor Actor, ref string, version uint64, n NewGroup) (GroupView, Change, error) {
	before, err := s.Group(ctx, ref)
	if err != nil {
		return GroupView{}, Change{}, err
	}
	members, err := s.checkGroup(&n)
	if err != nil {
		return GroupView{}, Change{}, err
	}
	after := before.Group
	after.Name, after.Description, after.Match, after.Members = n.Name, n.Description, n.Match, members
	change, err := s.Change(ctx, func(tx *store.Tx) error { return s.putGroup(tx, actor, after, version) })
	if err != nil {
		return GroupView{}, Change{}, err
	}
	view, err := s.Group(ctx, before.ID)
	return view, change, err
}

// putGroup writes a group that is there already, unless it no longer has the
// version.
func (s *Service) putGroup(tx *store.Tx, actor Actor, after fleet.Group, version uint64) error {
	before, err := tx.Groups().Get(after.ID)
	if err != nil {
		return edit.Gone(err, "group", after.ID)
	}
	if err := edit.CheckVersion("group", before.Version, version); err != nil {
		return err
	}
	if after.Name != before.Name {
		if err := edit.CheckFreeName(tx.Groups(), after.Name); err != nil {
			return err
		}
	}
	if err := setMembers(tx, &before, after.Members); err != nil {
		return err
	}
	slices.Sort(before.Members)
	if before.Name == after.Name && before.Description == after.Description &&
		maps.Equal(before.Match, after.Match) && slices.Equal(before.Members, after.Members) {
		return nil
	}
	after.Version = before.Version + 1
	tx.Audit(s.Entry(actor, "group.update", before.ID, before, after))
	return tx.Groups().Put(after)
}

// setMembers makes devices the static members of g, and sets g.Members to
// those it had.
func setMembers(tx *store.Tx, g *fleet.Group, devices []fleet.DeviceID) error {
	had, err := tx.MembersOf(g.ID)
	if err != nil {
		return err
	}
	var leave, join []fleet.DeviceID
	for _, m := range had {
		g.Members = append(g.Members, m.DeviceID)
		if !slices.Contains(devices, m.DeviceID) {
			leave = append(leave, m.DeviceID)
		}
	}
	for _, id := range devices {
		if !slices.Contains(g.Members, id) {
			join = append(join, id)
		}
	}
	return errors.Join(tx.Leave(g.ID, leave...), tx.Join(g.ID, join...))
}

// checkGroup returns the ids of the members, sorted, each once.
func (s *Service) checkGroup(n *NewGroup) ([]fleet.DeviceID, error) {
	var faults fault.Fields
	input.CheckName(&faults, n.Name)
	input.CheckDescription(&faults, n.Description)
	input.CheckLabels(&faults, "match_labels", n.Match)
	s.mu.RLock()
	defer s.mu.RUnlock()
	var members []fleet.DeviceID
	for _, ref := range n.Members {
		id, err := find.Device(s.state, ref)
		if err != nil {
			faults.Add("members", "must have known devices only: %s", err)
			continue
		}
		members = append(members, id)
	}
	slices.Sort(members)
	return slices.Compact(members), faults.Err("the group is not valid")
}

// DeleteGroup deletes a group that nothing refers to, unless it no longer has
// the version.
func (s *Service) DeleteGroup(ctx context.Context, actor Actor, ref string, version uint64) (Change, error) {
	view, err := s.Group(ctx, ref)
	if err != nil {
		return Change{}, err
	}
	return s.Change(ctx, func(tx *store.Tx) error {
		g, err := tx.Groups().Get(view.ID)
		if err != nil {
			return edit.Gone(err, "group", ref)
		}
		if err := edit.CheckVersion("group", g.Version, version); err != nil {
			return err
		}
		if err := s.checkUnused(tx, &g); err != nil {
			return err
		}
		if err := setMembers(tx, &g, nil); err != nil {
			return err
		}
		tx.Audit(s.Entry(actor, "group.delete", g.ID, g, nil))
		return tx.Groups().Delete(g.ID)
	})
}

// checkUnused refuses a group that a scope mentions: without it the scope
// would mean something else, possibly everybody.
func (s *Service) checkUnused(tx *store.Tx, g *fleet.Group) error {
	uses := func(scope indicator.Scope) bool {
		return slices.Contains(scope.Include, g.ID) || slices.Contains(scope.Exclude, g.ID)
	}
	inUse := func(what, name string) error {
		return fault.New(fault.Conflict, "group %q is used by %s %q", g.Name, what, name).WithHint("change that first")
	}
	policies, err := tx.Policies().All()
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(policies, func(p fleet.Policy) bool { return uses(p.Assignment) }); i >= 0 {
		return inUse("policy", policies[i].Name)
	}
	taggings, err := tx.Taggings().All()
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(taggings, func(t cloudapp.Tagging) bool { return uses(t.Scope.Scope) }); i >= 0 {
		return inUse("the tag of app", taggings[i].AppID)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i := range maps.Values(s.state.Indicators) {
		if uses(i.Scope.Scope) {
			return inUse("indicator", i.ID)
		}
	}
	return nil
}
