// Package find decides what people mean when they name a device, a group or a
// policy: its id, or its name if nothing else has that. Everything else is a
// fault that says so, and what may have been meant.
//
// The package is pure: it looks into a configuration that its caller keeps
// from changing.
package find

import (
	"slices"

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

// Scope returns a scope with the ids of its groups, sorted, each once. What is
// wrong is added to faults; the names of the fields begin with field.
func Scope(state *audience.State, in indicator.Scope, field string, faults *fault.Fields) indicator.Scope {
	out := indicator.Scope{
		Include: Groups(state, in.Include, field+"include_groups", faults),
		Exclude: Groups(state, in.Exclude, field+"exclude_groups", faults),
	}
	for _, g := range out.Include {
		if slices.Contains(out.Exclude, g) {
			faults.Add(field+"exclude_groups", "must not have group %q, which is also included", state.Groups[g].Name)
		}
	}
	return out
}

// Groups returns the ids of groups, sorted, each once. What is wrong with them
// is added to faults, for the field.
func Groups(state *audience.State, refs []string, field string, faults *fault.Fields) []string {
	var ids []string
	for _, ref := range refs {
		id, err := Group(state, ref)
		if err != nil {
			faults.Add(field, "must have known groups only: %s", err)
			continue
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
