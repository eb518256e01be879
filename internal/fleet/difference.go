package fleet

import (
	"slices"
	"strconv"
	"strings"
)

// Difference is one field in which two versions of a policy differ.
type Difference struct {
	// Field is called as in the policy's JSON: "settings.fail_mode".
	Field  string `json:"field"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// Differences returns what was changed between a version of a policy and a
// later one, in the order in which people read it. Groups are in it by id.
func Differences(before, after *Policy) []Difference {
	var all []Difference
	compare := func(field, before, after string) {
		if before != after {
			all = append(all, Difference{Field: field, Before: before, After: after})
		}
	}
	compare("name", before.Name, after.Name)
	compare("description", before.Description, after.Description)
	for _, d := range Definitions() {
		compare("settings."+d.Name, d.Get(&before.Settings), d.Get(&after.Settings))
	}
	compare("assigned", assigned(before), assigned(after))
	compare("assignment.include_groups", list(before.Assignment.Include), list(after.Assignment.Include))
	compare("assignment.exclude_groups", list(before.Assignment.Exclude), list(after.Assignment.Exclude))
	compare("platforms", list(before.Platforms), list(after.Platforms))
	compare("priority", priority(before), priority(after))
	return all
}

func list(names []string) string {
	return strings.Join(slices.Sorted(slices.Values(names)), ", ")
}

func assigned(p *Policy) string {
	if p.Assigned {
		return "yes"
	}
	return ""
}

func priority(p *Policy) string {
	if p.Priority == 0 {
		return ""
	}
	return strconv.Itoa(p.Priority)
}
