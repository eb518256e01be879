package verdict

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"interdict/internal/bundle"
	"interdict/internal/domainset"
	"interdict/internal/indicator"
)

// layer is one compiled set.
type layer struct {
	set bundle.Set
	// names finds the records of domain and url indicators and of spared
	// names.
	names  *domainset.Set
	v4, v6 prefixTable
	// profiles are the different ones there are, and scoped the indices of
	// those of the records that are not for everybody at all times.
	profiles []*profile
	scoped   map[uint32]uint32
	// people is true if one of the profiles treats users unlike.
	people bool
}

// profile is for whom and when an indicator counts.
type profile struct {
	people   indicator.People
	schedule indicator.Schedule
}

func (all *records) compile(set bundle.Set) (*layer, error) {
	c := compiler{records: all, layer: &layer{set: set, scoped: make(map[uint32]uint32)}, known: make(map[string]uint32)}
	for i, record := range set.All() {
		if record.Err != nil {
			return nil, record.Err
		}
		if err := c.add(uint32(i), &record.Record); err != nil {
			return nil, err
		}
	}
	l := c.layer
	l.names = domainset.New(slices.Values(c.named), l.name)
	l.v4.finish()
	l.v6.finish()
	return l, nil
}

// compiler makes a layer of a set's records.
type compiler struct {
	*records
	layer *layer
	// named are the records that are found by a name.
	named []uint32
	// known are the indices of the layer's profiles, by what they say.
	known map[string]uint32
}

func (c *compiler) add(index uint32, record *bundle.Record) error {
	if nameOf(record) != "" {
		c.named = append(c.named, index)
	}
	switch record.Kind {
	case bundle.KindApp:
		if _, ok := c.apps[record.Key]; !ok {
			c.apps[record.Key] = record.Value
		}
	case bundle.KindRevocation:
		c.revocations = append(c.revocations, record.Revocation)
	case bundle.KindIndicator:
		return c.addIndicator(index, &record.Indicator)
	default: // settings do not count; spared names are found by nameOf alone
	}
	return nil
}

func (c *compiler) addIndicator(index uint32, i *indicator.Indicator) error {
	if !i.Type.Network() || !i.Action.Valid() {
		return nil
	}
	if !i.ExpiresAt.IsZero() {
		c.expiries = append(c.expiries, i.ExpiresAt.Unix())
	}
	if err := c.addProfile(index, i); err != nil {
		return err
	}
	if i.Type != indicator.TypeIP && i.Type != indicator.TypeCIDR {
		return nil
	}
	p, ok := i.Prefix()
	if !ok {
		return fmt.Errorf("indicator %s has the unreadable %s %q", i.ID, i.Type, i.Value)
	}
	if p.Addr().Is4() {
		c.layer.v4.add(p, index)
	} else {
		c.layer.v6.add(p, index)
	}
	return nil
}

// addProfile notes for whom and when an indicator counts. Most share a few
// profiles: those of the apps they belong to.
func (c *compiler) addProfile(index uint32, i *indicator.Indicator) error {
	if i.Scope.Anyone() {
		return nil
	}
	text, err := json.Marshal(i.Scope)
	if err != nil {
		return fmt.Errorf("reading for whom indicator %s counts: %w", i.ID, err)
	}
	n, ok := c.known[string(text)]
	if !ok {
		schedule, err := indicator.NewSchedule(i.Scope.Windows)
		if err != nil {
			return fmt.Errorf("reading when indicator %s counts: %w", i.ID, err)
		}
		n = uint32(len(c.layer.profiles))
		c.known[string(text)] = n
		c.layer.profiles = append(c.layer.profiles, &profile{people: i.Scope.People, schedule: schedule})
		c.layer.people = c.layer.people || !i.Scope.Everybody()
	}
	c.layer.scoped[index] = n
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
func (l *layer) record(index uint32) bundle.Record {
	record, err := l.set.Record(int(index))
	if err != nil {
		panic(fmt.Sprintf("verdict: record %d cannot be decoded any more: %v", index, err))
	}
	return record
}

func (l *layer) name(index uint32) string {
	record := l.record(index)
	return nameOf(&record)
}

// profile returns for whom and when a record counts; nil for everybody at all
// times.
func (l *layer) profile(index uint32) *profile {
	if len(l.scoped) == 0 {
		return nil
	}
	n, ok := l.scoped[index]
	if !ok {
		return nil
	}
	return l.profiles[n]
}

// counts reports whether an indicator counts for a subject, apart from its
// value.
func (l *layer) counts(index uint32, i *indicator.Indicator, s *Subject, now time.Time) bool {
	if i.Expired(now) {
		return false
	}
	p := l.profile(index)
	return p == nil || p.covers(i.Action, s) && p.schedule.Open(now)
}

// covers reports whether a profile's people include who is behind a subject.
// A look-up on anybody's behalf is refused only if it would be whoever asked:
// what refuses some does not count, what lets some pass does.
func (p *profile) covers(a indicator.Action, s *Subject) bool {
	if s.anybody() {
		return p.people.Everybody() || !a.Refuses()
	}
	return p.people.CoversUser(s.User)
}

// matchName returns the indicator that applies to the subject's name, or a
// zero one; and, if one of the catalog would apply but for a spared name, the
// app that this name belongs to.
func (l *layer) matchName(s *Subject, host string, now time.Time) (best indicator.Indicator, sparedFor string) {
	var bestName, spareName, spareApp string
	for name, index := range l.names.Lookup(host) {
		if best.ID != "" && len(name) < len(bestName) {
			break
		}
		record := l.record(index)
		i := &record.Indicator
		switch {
		case record.Kind == bundle.KindSpare:
			if spareName == "" {
				spareName, spareApp = name, record.Value
			}
		case !coversSubject(i, host, s.Path) || !l.counts(index, i, s, now):
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

// matchAddress returns the indicator that applies to the subject's address, or
// a zero one.
func (l *layer) matchAddress(s *Subject, now time.Time) (best indicator.Indicator) {
	addr := s.Addr.Unmap()
	if !addr.IsValid() {
		return best
	}
	bestBits := uint8(0)
	for bits, index := range l.table(addr).lookup(addr) {
		if best.ID != "" && bits < bestBits {
			break
		}
		record := l.record(index)
		i := &record.Indicator
		if (best.ID == "" || indicator.Compare(i, &best) < 0) && l.counts(index, i, s, now) {
			best, bestBits = *i, bits
		}
	}
	return best
}

func (l *layer) table(addr netip.Addr) *prefixTable {
	if addr.Is4() {
		return &l.v4
	}
	return &l.v6
}

// asksWho reports whether an indicator that treats users unlike is for the
// subject.
func (l *layer) asksWho(s *Subject, host string) bool {
	if !l.people {
		return false
	}
	for _, index := range l.names.Lookup(host) {
		if p := l.profile(index); p != nil && !p.people.Everybody() {
			return true
		}
	}
	addr := s.Addr.Unmap()
	if !addr.IsValid() {
		return false
	}
	for _, index := range l.table(addr).lookup(addr) {
		if p := l.profile(index); p != nil && !p.people.Everybody() {
			return true
		}
	}
	return false
}
