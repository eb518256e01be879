package verdict

import (
	"time"

	"interdict/internal/bundle"
	"interdict/internal/domainset"
)

// maxOutOfScope bounds what OutOfScope returns.
const maxOutOfScope = 20

// OutOfScope returns the ids of indicators that are for the subject's name or
// address and would count for somebody else, or at another time, at most
// twenty. It is for whoever asks why nothing applies; no decision needs it.
func (r *Ruleset) OutOfScope(s Subject, now time.Time) []string {
	var ids []string
	host := domainset.Normalize(s.Host)
	for _, l := range r.layers {
		if len(l.scoped) == 0 {
			continue
		}
		for _, index := range l.near(&s, host) {
			if id := l.outOfScope(index, &s, host, now); id != "" && len(ids) < maxOutOfScope {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// near returns the records that are for the subject's name or address as far
// as that can be told without decoding them.
func (l *layer) near(s *Subject, host string) []uint32 {
	var found []uint32
	if host != "" {
		for _, index := range l.names.Lookup(host) {
			found = append(found, index)
		}
	}
	if addr := s.Addr.Unmap(); addr.IsValid() {
		for _, index := range l.table(addr).lookup(addr) {
			found = append(found, index)
		}
	}
	return found
}

// outOfScope returns the id of an indicator that is for the subject and does
// not count for it, and otherwise nothing.
func (l *layer) outOfScope(index uint32, s *Subject, host string, now time.Time) string {
	record := l.record(index)
	i := &record.Indicator
	if record.Kind != bundle.KindIndicator || i.Expired(now) || l.counts(index, i, s, now) {
		return ""
	}
	if stepOf(i.Type) != StepAddress && !coversSubject(i, host, s.Path) {
		return ""
	}
	return i.ID
}
