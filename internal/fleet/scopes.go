package fleet

import (
	"slices"

	"interdict/internal/indicator"
)

// Scopes finds out which of many scopes cover a device, in a time that depends
// on the scopes that mention its groups, not on how many there are. It is
// immutable.
type Scopes struct {
	// everybody are those without an include, by their place.
	everybody []int
	// include and exclude are by group.
	include, exclude map[string][]int
}

// NewScopes returns the index of scopes.
func NewScopes(scopes []indicator.Scope) *Scopes {
	x := &Scopes{include: make(map[string][]int), exclude: make(map[string][]int)}
	for i, s := range scopes {
		if len(s.Include) == 0 {
			x.everybody = append(x.everybody, i)
		}
		for _, g := range s.Include {
			x.include[g] = append(x.include[g], i)
		}
		for _, g := range s.Exclude {
			x.exclude[g] = append(x.exclude[g], i)
		}
	}
	return x
}

// Covering returns the places of the scopes that cover a device in these
// groups, in order.
func (x *Scopes) Covering(groups []string) []int {
	covering := slices.Clone(x.everybody)
	var excluded []int
	for _, g := range groups {
		covering = append(covering, x.include[g]...)
		excluded = append(excluded, x.exclude[g]...)
	}
	slices.Sort(covering)
	covering = slices.Compact(covering)
	if len(excluded) == 0 {
		return covering
	}
	slices.Sort(excluded)
	return slices.DeleteFunc(covering, func(i int) bool {
		_, found := slices.BinarySearch(excluded, i)
		return found
	})
}

// Mentions returns every group that a scope mentions, in no order, possibly
// more than once.
func (x *Scopes) Mentions() []string {
	groups := make([]string, 0, len(x.include)+len(x.exclude))
	for _, index := range []map[string][]int{x.include, x.exclude} {
		for g := range index {
			groups = append(groups, g)
		}
	}
	return groups
}
