// Package verdict decides what becomes of a connection: it compiles a bundle
// into a Ruleset and judges by it what is known of the other end.
//
// It is pure and holds no state: the same bundle, subject and time give the
// same decision on every device, and in the server's explanations. The order
// of precedence is that of [indicator.Compare]; what this package adds is how
// names and addresses are found among a hundred thousand indicators, the names
// that are spared, and the mode.
//
// A Ruleset keeps the bundle's text and, for each name, only the number of its
// record, which is decoded when a connection comes near it. Deciding about a
// connection that no indicator is for does not allocate.
package verdict

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"interdict/internal/bundle"
	"interdict/internal/domainset"
	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// Subject is what is known of a connection's other end. What is not known is
// left zero.
type Subject struct {
	// Host is the name that was said or looked up, in any case, with or
	// without a trailing dot, internationalised labels as A-labels.
	Host string
	// Path is the path of a plain HTTP request, as sent. It only counts
	// together with Host.
	Path string
	Addr netip.Addr
	// Port and Evidence are for the event; no decision depends on them.
	Port     uint16
	Evidence event.Evidence
}

// Step says which step of the judgement decided.
type Step string

// The steps, in the order they are taken.
const (
	// StepDisabled: network protection is off, nothing was looked at.
	StepDisabled Step = "disabled"
	// StepURL, StepDomain and StepAddress: an indicator of this kind
	// applies.
	StepURL     Step = "url"
	StepDomain  Step = "domain"
	StepAddress Step = "address"
	// StepSpared: an indicator of the catalog would apply, but the name
	// belongs to another app that is left alone.
	StepSpared Step = "spared"
	// StepNone: no indicator is for it.
	StepNone Step = "none"
)

// Decision is the verdict on a subject, and why.
type Decision struct {
	// Action is what to do, with the mode already reckoned in: in audit
	// mode never warn nor block. It is empty when no indicator applies.
	Action indicator.Action
	// Indicator is the one that applies; it is zero when none does.
	Indicator indicator.Indicator
	// AppID and AppName are of the indicator's app, or after StepSpared of
	// the app that the name belongs to. Either may be empty.
	AppID, AppName string
	Mode           fleet.Mode
	// PolicyID is the policy that the mode comes from; empty for a default.
	PolicyID string
	Step     Step
}

// Refuses reports whether the connection is to be refused.
func (d *Decision) Refuses() bool {
	return d.Action == indicator.ActionBlock || d.Action == indicator.ActionWarn
}

// Reports reports whether the connection is worth an event: it is refused, or
// it would have been. What is allowed leaves no trace.
func (d *Decision) Reports() bool {
	return d.Refuses() || d.Action == indicator.ActionAudit
}

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
	}
	return nil
}

func (r *Ruleset) addSetting(record *bundle.Record) error {
	switch record.Key {
	case bundle.SettingNetworkProtection:
		r.mode, r.policyID = fleet.Mode(record.Value), record.Origin
		switch r.mode {
		case fleet.ModeDisabled, fleet.ModeAudit, fleet.ModeBlock:
			return nil
		}
	case bundle.SettingFailMode:
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

// Decide judges a subject. An indicator for the name decides before one for
// the address; of several the first by [indicator.Compare].
func (r *Ruleset) Decide(s Subject, now time.Time) Decision {
	d := Decision{Mode: r.mode, PolicyID: r.policyID, Step: StepNone}
	if r.mode == fleet.ModeDisabled {
		d.Step = StepDisabled
		return d
	}
	best, sparedFor := r.matchName(s, now)
	if best.ID == "" {
		best = r.matchAddress(s.Addr, now)
	}
	switch {
	case best.ID != "":
		d.Action, d.Step, d.AppID = r.inMode(best.Action), stepOf(best.Type), best.AppID
		d.Indicator = best
	case sparedFor != "":
		d.Step, d.AppID = StepSpared, sparedFor
	}
	d.AppName = r.apps[d.AppID]
	return d
}

// matchName returns the indicator that applies to the subject's name, or a
// zero one; and, if one of the catalog would apply but for a spared name, the
// app that this name belongs to.
func (r *Ruleset) matchName(s Subject, now time.Time) (best indicator.Indicator, sparedFor string) {
	host := domainset.Normalize(s.Host)
	var bestName, spareName, spareApp string
	for name, index := range r.names.Lookup(host) {
		if best.ID != "" && len(name) < len(bestName) {
			break
		}
		record := r.record(index)
		i := &record.Indicator
		switch {
		case record.Kind == bundle.KindSpare:
			if spareName == "" {
				spareName, spareApp = name, record.Value
			}
		case i.Expired(now) || !coversSubject(i, host, s.Path):
		case i.Source == indicator.SourceCatalog && len(name) < len(spareName):
			sparedFor = spareApp
		case best.ID == "" || indicator.Compare(i, &best) < 0:
			best, bestName = *i, name
		}
	}
	return best, sparedFor
}

// coversSubject reports whether an indicator that was found by host or a name
// above it covers host and path: a domain always does.
func coversSubject(i *indicator.Indicator, host, path string) bool {
	if i.Type == indicator.TypeDomain {
		return true
	}
	ruleHost, rulePath := indicator.SplitURL(i.Value)
	if ruleHost != host || rulePath == "/" {
		return ruleHost == host
	}
	return path != "" && indicator.PathCovers(rulePath, indicator.CanonicalPath(path))
}

// matchAddress returns the indicator that applies to an address, or a zero
// one.
func (r *Ruleset) matchAddress(addr netip.Addr, now time.Time) (best indicator.Indicator) {
	addr = addr.Unmap()
	if !addr.IsValid() {
		return best
	}
	bestBits := uint8(0)
	for bits, index := range r.table(addr).lookup(addr) {
		if best.ID != "" && bits < bestBits {
			break
		}
		record := r.record(index)
		i := &record.Indicator
		if !i.Expired(now) && (best.ID == "" || indicator.Compare(i, &best) < 0) {
			best, bestBits = *i, bits
		}
	}
	return best
}

func (r *Ruleset) table(addr netip.Addr) *prefixTable {
	if addr.Is4() {
		return &r.v4
	}
	return &r.v6
}

func (r *Ruleset) inMode(a indicator.Action) indicator.Action {
	if r.mode == fleet.ModeAudit && (a == indicator.ActionWarn || a == indicator.ActionBlock) {
		return indicator.ActionAudit
	}
	return a
}

func stepOf(t indicator.Type) Step {
	switch t {
	case indicator.TypeDomain:
		return StepDomain
	case indicator.TypeURL:
		return StepURL
	default:
		return StepAddress
	}
}

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
