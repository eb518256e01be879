// Package groups has the use cases of device groups: looking at them, making,
// changing and deleting them, and saying which devices would be in one before
// it is made. For which devices a rule is true is package grouprule's to say,
// which groups a device is in package audience's.
package groups

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/oklog/ulid/v2"

	"interdict/internal/control"
	"interdict/internal/control/audience"
	"interdict/internal/control/edit"
	"interdict/internal/control/find"
	"interdict/internal/control/input"
	"interdict/internal/control/page"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/fleet/grouprule"
	"interdict/internal/store"
)

// Config is what a Service needs; all of it is required.
type Config struct {
	Control *control.Service
}

// Service has the use cases. It is safe for concurrent use.
type Service struct {
	control *control.Service
}

// New returns a Service.
func New(c Config) *Service { return &Service{control: c.Control} }

// NewGroup is a group to be made, or what it is to become.
type NewGroup struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	// Members takes ids or names of devices.
	Members []string `json:"members,omitempty" doc:"Ids or names of devices that are in it whatever the rule says"`
	Rule    string   `json:"rule,omitempty" doc:"Expression over the properties of a device, for which it is in the group"`
}

// GroupPreviewQuery asks which devices would be in a group.
type GroupPreviewQuery struct {
	Rule string `json:"rule,omitempty" doc:"Expression over the properties of a device"`
	// Members takes ids or names of devices.
	Members []string `json:"members,omitempty" doc:"Ids or names of static members"`
	// Limit is how many devices are named at most; 0 means 20.
	Limit int `json:"limit,omitempty" doc:"How many devices to name at most; 20 if missing"`
}

// GroupPreview says which devices would be in a group.
type GroupPreview struct {
	// Count is how many they are.
	Count int `json:"count"`
	// Devices are the first of them, by name.
	Devices []control.Named `json:"devices"`
	// Failed is for how many devices the rule has no answer, Failure why for
	// one of them. The rule does not put them into the group.
	Failed  int    `json:"failed,omitempty"`
	Failure string `json:"failure,omitempty"`
}

// GroupView is a group with how many devices are in it.
type GroupView struct {
	fleet.Group

	Devices int `json:"devices"`
	// RuleError says why a rule that was accepted once, by another version of
	// the server, is not usable; it is true for no device then.
	RuleError string `json:"rule_error,omitempty"`
}

// List returns the device groups, sorted by name.
func (s *Service) List(ctx context.Context, q page.Query) (page.Page[GroupView], error) {
	var all []GroupView
	err := s.control.Read(ctx, func(state *audience.State, snapshot *audience.Snapshot) error {
		counts, members := count(state, snapshot)
		for id, g := range state.Groups {
			all = append(all, view(g, snapshot, counts[id], members[id]))
		}
		return nil
	})
	if err != nil {
		return page.Page[GroupView]{}, err
	}
	return page.Of(all, q, func(g *GroupView) string { return g.Name + "\x00" + g.ID })
}

// Get returns the group with an id or a name.
func (s *Service) Get(ctx context.Context, ref string) (GroupView, error) {
	var v GroupView
	err := s.control.Read(ctx, func(state *audience.State, snapshot *audience.Snapshot) error {
		id, err := find.Group(state, ref)
		if err != nil {
			return err
		}
		counts, members := count(state, snapshot)
		v = view(state.Groups[id], snapshot, counts[id], members[id])
		return nil
	})
	return v, err
}

// count returns, by group, how many devices are in it and which are static
// members.
func count(state *audience.State, snapshot *audience.Snapshot) (counts map[string]int, members map[string][]fleet.DeviceID) {
	counts, members = make(map[string]int), make(map[string][]fleet.DeviceID)
	for id, d := range state.Devices {
		for _, g := range snapshot.Groups(id) {
			counts[g]++
		}
		for _, g := range d.Static {
			members[g] = append(members[g], id)
		}
	}
	return counts, members
}

func view(g fleet.Group, snapshot *audience.Snapshot, devices int, members []fleet.DeviceID) GroupView {
	slices.Sort(members)
	g.Members = members
	v := GroupView{Group: g, Devices: devices}
	if err := snapshot.Broken()[g.ID]; err != nil {
		v.RuleError = err.Error()
	}
	return v
}

// Create makes a group.
func (s *Service) Create(ctx context.Context, actor control.Actor, n NewGroup) (GroupView, control.Change, error) {
	members, err := s.check(ctx, &n)
	if err != nil {
		return GroupView{}, control.Change{}, err
	}
	g := fleet.Group{
		ID: ulid.Make().String(), Name: n.Name, Description: n.Description, Rule: n.Rule, Members: members,
		Version: 1, CreatedAt: s.control.Now().UTC(),
	}
	change, err := s.control.Change(ctx, func(tx *store.Tx) error {
		tx.Audit(s.control.Entry(actor, "group.create", g.ID, nil, g))
		return addGroup(tx, g)
	})
	if err != nil {
		return GroupView{}, control.Change{}, err
	}
	v, err := s.Get(ctx, g.ID)
	return v, change, err
}

func addGroup(tx *store.Tx, g fleet.Group) error {
	if err := edit.CheckFreeName(tx.Groups(), g.Name); err != nil {
		return err
	}
	return errors.Join(tx.Groups().Put(g), tx.Join(g.ID, g.Members...))
}

// Update makes a group what n says, unless it no longer has the version.
func (s *Service) Update(ctx context.Context, actor control.Actor, ref string, version uint64, n NewGroup) (GroupView, control.Change, error) {
	before, err := s.Get(ctx, ref)
	if err != nil {
		return GroupView{}, control.Change{}, err
	}
	members, err := s.check(ctx, &n)
	if err != nil {
		return GroupView{}, control.Change{}, err
	}
	after := before.Group
	after.Name, after.Description, after.Rule, after.Members = n.Name, n.Description, n.Rule, members
	change, err := s.control.Change(ctx, func(tx *store.Tx) error { return s.putGroup(tx, actor, after, version) })
	if err != nil {
		return GroupView{}, control.Change{}, err
	}
	v, err := s.Get(ctx, before.ID)
	return v, change, err
}

// putGroup writes a group that is there already, unless it no longer has the
// version.
func (s *Service) putGroup(tx *store.Tx, actor control.Actor, after fleet.Group, version uint64) error {
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
		before.Rule == after.Rule && slices.Equal(before.Members, after.Members) {
		return nil
	}
	after.Version = before.Version + 1
	tx.Audit(s.control.Entry(actor, "group.update", before.ID, before, after))
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

// maxMembers bounds the static members of a group.
const maxMembers = 10_000

// check returns the ids of the members, sorted, each once.
func (s *Service) check(ctx context.Context, n *NewGroup) ([]fleet.DeviceID, error) {
	var faults fault.Fields
	input.CheckName(&faults, n.Name)
	if _, ok := fleet.DeviceOf(n.Name); ok {
		faults.Add("name", "must not begin as the word for a single device does")
	}
	input.CheckDescription(&faults, n.Description)
	if _, err := checkRule(&faults, n.Rule); err != nil {
		return nil, err
	}
	var members []fleet.DeviceID
	err := s.control.Read(ctx, func(state *audience.State, _ *audience.Snapshot) error {
		members = checkMembers(state, &faults, n.Members)
		return faults.Err("the group is not valid")
	})
	return members, err
}

// checkRule compiles a rule; there is none if the text is empty. The field
// says where a mistake is: "line 1, column 5".
func checkRule(faults *fault.Fields, text string) (*grouprule.Rule, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // no rule is a value
	}
	rule, err := grouprule.Compile(text)
	if mistake, ok := errors.AsType[*grouprule.Error](err); ok {
		faults.Add("rule", "has a mistake at %s", mistake)
		return nil, nil //nolint:nilnil // faults has what is wrong
	}
	return rule, err
}

// checkMembers returns the ids of devices, sorted, each once.
func checkMembers(state *audience.State, faults *fault.Fields, refs []string) []fleet.DeviceID {
	if len(refs) > maxMembers {
		faults.Add("members", "must not have more than %d devices", maxMembers)
		return nil
	}
	var members []fleet.DeviceID
	for _, ref := range refs {
		id, err := find.Device(state, ref)
		if err != nil {
			faults.Add("members", "must have known devices only: %s", err)
			continue
		}
		members = append(members, id)
	}
	slices.Sort(members)
	return slices.Compact(members)
}

// The bounds of how many members a preview names.
const (
	usualPreview = 20
	maxPreview   = 1000
)

// Preview says which devices would be in a group, now.
func (s *Service) Preview(ctx context.Context, q GroupPreviewQuery) (GroupPreview, error) {
	var faults fault.Fields
	rule, err := checkRule(&faults, q.Rule)
	if err != nil {
		return GroupPreview{}, err
	}
	if q.Limit < 0 || q.Limit > maxPreview {
		faults.Add("limit", "must be between 0 and %d", maxPreview)
	}
	var members []fleet.DeviceID
	var devices map[fleet.DeviceID]audience.Device
	err = s.control.Read(ctx, func(state *audience.State, _ *audience.Snapshot) error {
		members = checkMembers(state, &faults, q.Members)
		// Asking every device takes longer than Read may.
		devices = maps.Clone(state.Devices)
		return faults.Err("the group is not valid")
	})
	if err != nil {
		return GroupPreview{}, err
	}
	return preview(audience.Members(&audience.State{Devices: devices}, rule, members), devices, cmp.Or(q.Limit, usualPreview)), nil
}

func preview(found audience.Preview, devices map[fleet.DeviceID]audience.Device, limit int) GroupPreview {
	p := GroupPreview{Count: len(found.Devices), Devices: []control.Named{}, Failed: found.Failed}
	if found.Failure != nil {
		p.Failure = found.Failure.Error()
	}
	for _, id := range found.Devices {
		p.Devices = append(p.Devices, control.Named{ID: string(id), Name: devices[id].Name})
	}
	slices.SortFunc(p.Devices, func(a, b control.Named) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	p.Devices = p.Devices[:min(len(p.Devices), limit)]
	return p
}

// Delete deletes a group that nothing refers to, unless it no longer has
// the version.
func (s *Service) Delete(ctx context.Context, actor control.Actor, ref string, version uint64) (control.Change, error) {
	known, err := s.Get(ctx, ref)
	if err != nil {
		return control.Change{}, err
	}
	return s.control.Change(ctx, func(tx *store.Tx) error {
		g, err := tx.Groups().Get(known.ID)
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
		tx.Audit(s.control.Entry(actor, "group.delete", g.ID, g, nil))
		return tx.Groups().Delete(g.ID)
	})
}
