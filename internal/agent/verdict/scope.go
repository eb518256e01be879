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
	host, addr := domainset.Normalize(s.Host), s.Addr.Unmap()
	for _, l := range r.layers {
		if len(l.scoped) == 0 {
			continue
		}
		note := func(index uint32) {
			record := l.record(index)
			i := &record.Indicator
			if record.Kind != bundle.KindIndicator || i.Expired(now) || l.counts(index, i, &s, now) || len(ids) == maxOutOfScope {
				return
			}
			if stepOf(i.Type) == StepAddress || coversSubject(i, host, s.Path) {
				ids = append(ids, i.ID)
			}
		}
		if host != "" {
			for _, index := range l.names.Lookup(host) {
				note(index)
			}
		}
		if addr.IsValid() {
			for _, index := range l.table(addr).lookup(addr) {
				note(index)
			}
		}
	}
	return ids
}
