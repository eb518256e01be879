package audience

import (
	"slices"

	"interdict/internal/fleet"
	"interdict/internal/fleet/grouprule"
)

// members know which groups each device is in.
type members struct {
	// rules are the compiled rules by their text, nil for one that does not
	// compile; why is in faults.
	rules  map[string]*grouprule.Rule
	faults map[string]error
	// groups are the rules by group; empty for a group without one.
	groups  map[string]string
	devices map[fleet.DeviceID]*member
}

type member struct {
	// device is as it was when the rules were asked.
	device fleet.Device
	static []string
	// matched are the groups whose rules are true, all has the static ones
	// too. Both are sorted; what all was is never altered.
	matched, all []string
}

func newMembers() *members {
	return &members{
		rules: make(map[string]*grouprule.Rule), faults: make(map[string]error),
		groups: make(map[string]string), devices: make(map[fleet.DeviceID]*member),
	}
}

// update brings the members to the state, and returns the devices that are in
// other groups than before, are new, or are gone.
func (m *members) update(state *State, changed Changed) map[fleet.DeviceID]bool {
	regrouped := make(map[fleet.DeviceID]bool)
	if changed.Everything || changed.Groups {
		for _, group := range m.readGroups(state) {
			m.ask(group, regrouped)
		}
	}
	if !changed.Everything {
		for id := range changed.Devices {
			m.place(state, id, regrouped)
		}
		return regrouped
	}
	for id := range m.devices {
		if _, ok := state.Devices[id]; !ok {
			m.place(state, id, regrouped)
		}
	}
	for id := range state.Devices {
		m.place(state, id, regrouped)
	}
	return regrouped
}

// readGroups takes the groups and their rules in, and returns those that are
// new, gone, or have another rule.
func (m *members) readGroups(state *State) []string {
	var altered []string
	for id := range m.groups {
		if _, ok := state.Groups[id]; !ok {
			altered = append(altered, id)
			delete(m.groups, id)
		}
	}
	used := make(map[string]bool)
	for id, g := range state.Groups {
		used[g.Rule] = true
		if before, known := m.groups[id]; !known || before != g.Rule {
			altered = append(altered, id)
			m.groups[id] = g.Rule
			m.compile(g.Rule)
		}
	}
	for text := range m.rules {
		if !used[text] {
			delete(m.rules, text)
			delete(m.faults, text)
		}
	}
	return altered
}

func (m *members) compile(text string) {
	if _, known := m.rules[text]; known || text == "" {
		return
	}
	rule, err := grouprule.Compile(text)
	m.rules[text] = rule
	if err != nil {
		m.faults[text] = err
	}
}

// matches reports whether a group's rule is true for a device. One that does
// not compile, or has no answer, is not.
func (m *members) matches(group string, d *fleet.Device) bool {
	rule := m.rules[m.groups[group]]
	if rule == nil {
		return false
	}
	// Who asks for a preview is told why a rule has no answer.
	in, err := rule.Match(d)
	return in && err == nil
}

// ask asks a group's rule about every device.
func (m *members) ask(group string, regrouped map[fleet.DeviceID]bool) {
	for id, d := range m.devices {
		at, was := slices.BinarySearch(d.matched, group)
		is := m.matches(group, &d.device)
		switch {
		case is && !was:
			d.matched = slices.Insert(d.matched, at, group)
		case was && !is:
			d.matched = slices.Delete(d.matched, at, at+1)
		case !slices.Contains(d.static, group):
			continue
		}
		if m.unite(d) {
			regrouped[id] = true
		}
	}
}

// place finds the groups of one device.
func (m *members) place(state *State, id fleet.DeviceID, regrouped map[fleet.DeviceID]bool) {
	now, ok := state.Devices[id]
	if !ok {
		delete(m.devices, id)
		regrouped[id] = true
		return
	}
	d := m.devices[id]
	known := d != nil
	if !known {
		d = &member{}
		m.devices[id] = d
	}
	if !known || !grouprule.Same(&d.device, &now.Device) {
		d.matched = d.matched[:0]
		for group := range m.groups {
			if m.matches(group, &now.Device) {
				d.matched = append(d.matched, group)
			}
		}
		slices.Sort(d.matched)
	}
	d.device, d.static = now.Device, now.Static
	if m.unite(d) || !known {
		regrouped[id] = true
	}
}

// unite unites the groups a device is a static member of with those whose
// rules are true, and reports whether that changed anything.
func (m *members) unite(d *member) bool {
	all := slices.Clone(d.matched)
	for _, group := range d.static {
		if _, exists := m.groups[group]; exists {
			all = append(all, group)
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	if slices.Equal(all, d.all) {
		return false
	}
	d.all = all
	return true
}

// broken are the groups whose rules do not compile.
func (m *members) broken() map[string]error {
	all := make(map[string]error)
	if len(m.faults) == 0 {
		return all
	}
	for group, text := range m.groups {
		if err := m.faults[text]; err != nil {
			all[group] = err
		}
	}
	return all
}

// Preview says who would be in a group.
type Preview struct {
	// Devices are its members, sorted by id.
	Devices []fleet.DeviceID
	// Failed counts the devices for which the rule has no answer, Failure
	// says why for one of them. They are members only if they are static ones.
	Failed  int
	Failure error
}

// Members returns who would be in a group with a rule, nil for none, and static
// members.
func Members(state *State, rule *grouprule.Rule, static []fleet.DeviceID) Preview {
	var p Preview
	for _, id := range static {
		if _, ok := state.Devices[id]; ok {
			p.Devices = append(p.Devices, id)
		}
	}
	if rule != nil {
		for id := range state.Devices {
			p.ask(rule, id, state)
		}
	}
	slices.Sort(p.Devices)
	p.Devices = slices.Compact(p.Devices)
	return p
}

func (p *Preview) ask(rule *grouprule.Rule, id fleet.DeviceID, state *State) {
	d := state.Devices[id]
	in, err := rule.Match(&d.Device)
	switch {
	case err != nil:
		p.Failed, p.Failure = p.Failed+1, err
	case in:
		p.Devices = append(p.Devices, id)
	}
}
