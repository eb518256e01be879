// Package find decides what people mean when they name a device, a group or a
// policy, alone or in a scope: its id, or its name if nothing else has that. Everything else is a
// fault that says so, and what may have been meant.
//
// The package is pure: it looks into a configuration that its caller keeps
// from changing.
package find

import (
	"cmp"
	"slices"
	"strings"

	"interdict/internal/control/audience"
	"interdict/internal/control/input"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// maxNear bounds how many names are suggested in place of one that is not
// known.
const maxNear = 3

// Device returns the id of the device with an id or a name.
func Device(state *audience.State, ref string) (fleet.DeviceID, error) {
	return one(state.Devices, ref, "device", func(d *audience.Device) string { return d.Name })
}

// Group returns the id of the group with an id or a name.
func Group(state *audience.State, ref string) (string, error) {
	return one(state.Groups, ref, "group", func(g *fleet.Group) string { return g.Name })
}

// Policy returns the id of the policy with an id or a name.
func Policy(state *audience.State, ref string) (string, error) {
	return one(state.Policies, ref, "policy", func(p *fleet.Policy) string { return p.Name })
}

// one returns what has ref as its id or its name.
func one[K ~string, T any](all map[K]T, ref, what string, name func(*T) string) (K, error) {
	if _, ok := all[K(ref)]; ok {
		return K(ref), nil
	}
	var found []K
	var near []string
	for id, v := range all {
		switch have := name(&v); {
		case have == ref:
			found = append(found, id)
		case len(near) < maxNear && input.Contains(ref, have):
			near = append(near, have)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		e := fault.New(fault.NotFound, "there is no %s %q", what, ref)
		if len(near) > 0 {
			return "", e.WithHint("did you mean %s?", input.OrList(near))
		}
		return "", e
	default:
		return "", fault.New(fault.Conflict, "%d %ss are called %q", len(found), what, ref).WithHint("use the id")
	}
}

// deviceWord begins, in a scope, what names a single device.
const deviceWord = "device:"

// Audience returns what a scope has for a group, which may be its id or its
// name, or for a single device: "device:" and its id or its name.
func Audience(state *audience.State, ref string) (string, error) {
	device, ok := strings.CutPrefix(ref, deviceWord)
	if !ok {
		return Group(state, ref)
	}
	id, err := Device(state, device)
	if err != nil {
		return "", err
	}
	return fleet.DeviceGroup(id), nil
}

// Name is what people call what a scope has: the name of a group, or of a
// device after "device:". What is gone keeps its id.
func Name(state *audience.State, id string) string {
	if device, ok := fleet.DeviceOf(id); ok {
		return deviceWord + cmp.Or(state.Devices[device].Name, string(device))
	}
	return cmp.Or(state.Groups[id].Name, id)
}

// Profile returns a profile with its scope as Scope has it, and its names and
// windows each once. What is wrong is added to faults; the names of the fields
// begin with "scope.".
func Profile(state *audience.State, in indicator.Profile, faults *fault.Fields) indicator.Profile {
	out := in
	out.Scope = Scope(state, in.Scope, "scope.", faults)
	for _, names := range []*[]string{&out.IncludeUsers, &out.ExcludeUsers, &out.IncludeUserGroups, &out.ExcludeUserGroups} {
		*names = slices.Compact(slices.Sorted(slices.Values(*names)))
	}
	// What is wrong with the groups is told already, in people's words.
	rest := indicator.Profile{People: out.People, Windows: out.Windows}
	*faults = append(*faults, indicator.CheckProfile(&rest)...)
	return out
}

// Scope returns a scope with the ids of its groups and devices, sorted, each
// once. What is wrong is added to faults; the names of the fields begin with
// field.
func Scope(state *audience.State, in indicator.Scope, field string, faults *fault.Fields) indicator.Scope {
	out := indicator.Scope{
		Include: several(state, Audience, in.Include, field+"include_groups", faults),
		Exclude: several(state, Audience, in.Exclude, field+"exclude_groups", faults),
	}
	for _, g := range out.Include {
		if slices.Contains(out.Exclude, g) {
			faults.Add(field+"exclude_groups", "must not have group %q, which is also included", Name(state, g))
		}
	}
	return out
}

// maxScope bounds the groups of one list.
const maxScope = 1000

// Groups returns the ids of groups, sorted, each once. What is wrong with them
// is added to faults, for the field.
func Groups(state *audience.State, refs []string, field string, faults *fault.Fields) []string {
	return several(state, Group, refs, field, faults)
}

func several(state *audience.State, one func(*audience.State, string) (string, error), refs []string, field string, faults *fault.Fields) []string {
	if len(refs) > maxScope {
		faults.Add(field, "must not have more than %d groups", maxScope)
		return nil
	}
	var ids []string
	for _, ref := range refs {
		id, err := one(state, ref)
		if err != nil {
			faults.Add(field, "must have known groups only: %s", err)
			continue
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
