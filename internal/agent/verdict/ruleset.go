package verdict

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"interdict/internal/bundle"
	"interdict/internal/domainset"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// Ruleset is a compiled bundle. It is immutable and safe for concurrent use.
type Ruleset struct {
	set      bundle.Set
	mode     fleet.Mode
	failMode fleet.FailMode
	// policyID is where the mode comes from.
	policyID string
	apps     map[string]string
	// names finds the records of domain and url indicators and of spared
	// names.
	names  *domainset.Set
	v4, v6 prefixTable
	// expiries are the times at which indicators cease to exist, in
	// ascending order, in seconds since 1970.
	expiries []int64
}

// Compile makes a Ruleset of a bundle's records. What it does not know (kinds
// of records, settings, types and actions of indicators) comes from a newer
// server and is ignored; so are indicators that say nothing about connections.
// A known record with a value that cannot be understood is an error, since the
// device would not do what its administrator sees.
func Compile(set bundle.Set) (*Ruleset, error) {
	d := fleet.Defaults()
	r := &Ruleset{set: set, mode: d.NetworkProtection, failMode: d.FailMode, apps: make(map[string]string)}
	var named []uint32
	for i, record := range set.All() {
		if record.Err != nil {
			return nil, fmt.Errorf("compiling a bundle: %w", record.Err)
		}
		if err := r.add(uint32(i), &record.Record); err != nil {
			return nil, fmt.Errorf("compiling a bundle: %w", err)
		}
		if nameOf(&record.Record) != "" {
			named = append(named, uint32(i))
		}
	}
	r.names = domainset.New(slices.Values(named), r.name)
	r.v4.finish()
	r.v6.finish()
	slices.Sort(r.expiries)
	r.expiries = slices.Clip(slices.Compact(r.expiries))
	return r, nil
}

func (r *Ruleset) add(index uint32, record *bundle.Record) error {
	switch record.Kind {
	case bundle.KindSetting:
		return r.addSetting(record)
	case bundle.KindApp:
		r.apps[record.Key] = record.Value
	case bundle.KindIndicator:
		return r.addIndicator(index, &record.Indicator)
	default: // spared names are found by nameOf alone
	}
	return nil
}

func (r *Ruleset) addSetting(record *bundle.Record) error {
	switch record.Key {
	case fleet.SettingNetworkProtection:
		r.mode, r.policyID = fleet.Mode(record.Value), record.Origin
		switch r.mode {
		case fleet.ModeDisabled, fleet.ModeAudit, fleet.ModeBlock:
			return nil
		}
	case fleet.SettingFailMode:
		r.failMode = fleet.FailMode(record.Value)
		switch r.failMode {
		case fleet.FailOpen, fleet.FailClosed:
			return nil
		}
	default:
		return nil
	}
	return fmt.Errorf("setting %s has the unknown value %q", record.Key, record.Value)
}

func (r *Ruleset) addIndicator(index uint32, i *indicator.Indicator) error {
	if !i.Type.Network() || !i.Action.Valid() {
		return nil
	}
	if !i.ExpiresAt.IsZero() {
		r.expiries = append(r.expiries, i.ExpiresAt.Unix())
	}
	if i.Type != indicator.TypeIP && i.Type != indicator.TypeCIDR {
		return nil
	}
	p, ok := i.Prefix()
	if !ok {
		return fmt.Errorf("indicator %s has the unreadable %s %q", i.ID, i.Type, i.Value)
	}
	if p.Addr().Is4() {
		r.v4.add(p, index)
	} else {
		r.v6.add(p, index)
	}
	return nil
}

// nameOf returns the name that a record is found by, if it is found by one.
func nameOf(record *bundle.Record) string {
	switch record.Kind {
	case bundle.KindSpare:
		return record.Key
	case bundle.KindIndicator:
		i := &record.Indicator
		switch {
		case !i.Action.Valid():
			return ""
		case i.Type == indicator.TypeDomain:
			return i.Value
		case i.Type == indicator.TypeURL:
			host, _ := indicator.SplitURL(i.Value)
			return host
		}
	default: // the others have no name
	}
	return ""
}

// record decodes a record that Compile has already decoded once, so that it
// cannot fail.
func (r *Ruleset) record(index uint32) bundle.Record {
	record, err := r.set.Record(int(index))
	if err != nil {
		panic(fmt.Sprintf("verdict: record %d cannot be decoded any more: %v", index, err))
	}
	return record
}

func (r *Ruleset) name(index uint32) string {
	record := r.record(index)
	return nameOf(&record)
}

// Mode returns what network protection does.
func (r *Ruleset) Mode() fleet.Mode { return r.mode }

// FailMode returns what happens to connections that cannot be judged.
func (r *Ruleset) FailMode() fleet.FailMode { return r.failMode }

// PolicyID returns the policy that Mode comes from; empty for a default.
func (r *Ruleset) PolicyID() string { return r.policyID }

// Addresses returns what the kernel has to know of addresses at now: those to
// refuse, and those to let pass and report. Both are sorted and disjoint, also
// from each other. Addresses that an indicator allows are in neither.
func (r *Ruleset) Addresses(now time.Time) (refused, watched []indicator.Range) {
	if r.mode == fleet.ModeDisabled {
		return nil, nil
	}
	var all []indicator.Indicator
	for _, table := range []*prefixTable{&r.v4, &r.v6} {
		for i := range table.entries {
			all = append(all, r.record(table.entries[i].record).Indicator)
		}
	}
	for _, span := range indicator.Flatten(all, now) {
		switch r.inMode(span.Indicator.Action) {
		case indicator.ActionBlock, indicator.ActionWarn:
			refused = append(refused, span.Range)
		case indicator.ActionAudit:
			watched = append(watched, span.Range)
		default: // allowed: the kernel need not know
		}
	}
	return indicator.Join(refused), indicator.Join(watched)
}

// NextExpiry returns when the next indicator ceases to exist after now, if one
// does: Addresses may then differ, and open connections be judged otherwise.
func (r *Ruleset) NextExpiry(now time.Time) (time.Time, bool) {
	i, _ := slices.BinarySearchFunc(r.expiries, now, func(at int64, now time.Time) int {
		return cmp.Or(time.Unix(at, 0).Compare(now), -1)
	})
	if i == len(r.expiries) {
		return time.Time{}, false
	}
	return time.Unix(r.expiries[i], 0).UTC(), true
}
