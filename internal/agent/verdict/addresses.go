package verdict

import (
	"time"

	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// Addresses returns what the kernel has to know of addresses at now: those to
// refuse by itself, and those whose first packet it has to ask about, because
// it is to be reported, or because it depends on who sends it and when. Both
// are sorted and disjoint, also from each other. Addresses that an indicator
// allows everybody are in neither.
func (r *Ruleset) Addresses(now time.Time) (refused, watched []indicator.Range) {
	if r.mode == fleet.ModeDisabled {
		return nil, nil
	}
	var taken []indicator.Range
	for _, l := range r.layers {
		refuse, watch, covered := r.addressesOf(l, now)
		refused = append(refused, indicator.Subtract(refuse, taken)...)
		watched = append(watched, indicator.Subtract(watch, taken)...)
		taken = indicator.Join(append(taken, covered...))
	}
	return indicator.Join(refused), indicator.Join(watched)
}

// addressesOf is Addresses for one layer, with all that it covers. All three
// are sorted and disjoint.
func (r *Ruleset) addressesOf(l *layer, now time.Time) (refused, watched, covered []indicator.Range) {
	var all []indicator.Indicator
	for _, table := range []*prefixTable{&l.v4, &l.v6} {
		for i := range table.entries {
			all = append(all, l.record(table.entries[i].record).Indicator)
		}
	}
	for _, span := range indicator.Flatten(all, now) {
		covered = append(covered, span.Range)
		switch i := &span.Indicator; {
		case !i.Scope.Anyone(), r.bypassed(i, now), r.inMode(i.Action) == indicator.ActionAudit:
			watched = append(watched, span.Range)
		case i.Action.Refuses():
			refused = append(refused, span.Range)
		default: // allowed: the kernel need not know
		}
	}
	return refused, watched, covered
}

// bypassed reports whether somebody has a bypass of a warning.
func (r *Ruleset) bypassed(i *indicator.Indicator, now time.Time) bool {
	return r.bypass(i, &Subject{Lookup: true}, now) != nil
}
