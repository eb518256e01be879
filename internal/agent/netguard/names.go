package netguard

import (
	"net/netip"
	"slices"
	"time"

	"interdict/internal/agent/verdict"
	"interdict/internal/event"
)

// The bounds of what is learned from answers of name servers. Programs keep
// addresses for longer than their time to live; ten minutes is what browsers
// allow themselves.
const (
	maxAddresses       = 1 << 14
	maxNamesPerAddress = 8
	minLearned         = 10 * time.Minute
	maxLearned         = 24 * time.Hour
	// maxLearnedName is the longest a host name can be. A name with escapes
	// for bytes that no host name has can be four times as long.
	maxLearnedName = 253
)

// learnedName is a name that was resolved to an address, by whom.
type learnedName struct {
	host string
	// pid is the process that asked, 0 where it is not known.
	pid     int
	expires time.Time
}

// learnedNames remembers the names of addresses, newest last, within bounds.
type learnedNames struct {
	byAddr map[netip.Addr][]learnedName
}

func newLearnedNames() *learnedNames {
	return &learnedNames{byAddr: make(map[netip.Addr][]learnedName)}
}

func (n *learnedNames) learn(addr netip.Addr, host string, pid int, ttl time.Duration, now time.Time) {
	addr = addr.Unmap()
	names, known := n.byAddr[addr]
	if !known && len(n.byAddr) >= maxAddresses {
		for a := range n.byAddr {
			delete(n.byAddr, a)
			break
		}
	}
	names = slices.DeleteFunc(names, func(l learnedName) bool {
		return l.host == host && (l.pid == pid || l.pid == 0) || now.After(l.expires)
	})
	if len(names) >= maxNamesPerAddress {
		names = slices.Delete(names, 0, 1)
	}
	ttl = min(max(ttl, minLearned), maxLearned)
	n.byAddr[addr] = append(names, learnedName{host: host, pid: pid, expires: now.Add(ttl)})
}

// at returns the names of an address, newest last. The slice is a copy.
func (n *learnedNames) at(addr netip.Addr, now time.Time) []learnedName {
	var live []learnedName
	for _, l := range n.byAddr[addr.Unmap()] {
		if !now.After(l.expires) {
			live = append(live, l)
		}
	}
	return live
}

// nameFor chooses the name of a connection that says none: the last one that
// its own process resolved to the address. Where that process resolved none,
// as behind a resolver service, the names count only if all agree.
func nameFor(pid int, names []learnedName) (string, bool) {
	for _, l := range slices.Backward(names) {
		if pid != 0 && l.pid == pid {
			return l.host, true
		}
	}
	if len(names) == 0 {
		return "", false
	}
	for _, l := range names[1:] {
		if l.host != names[0].host {
			return "", false
		}
	}
	return names[0].host, true
}

// nameFromLookups gives a connection that says no name the one that its
// address was resolved from; or, where that depends on who connects, the
// names to choose from. The caller holds mu.
func (in *Inspector) nameFromLookups(q *question, now time.Time) {
	q.subject.Host, q.subject.Path, q.subject.Evidence = "", "", event.EvidenceIP
	names := in.names.at(q.subject.Addr, now)
	if in.anyMatters(names, q.subject, now) {
		q.names = names
		return
	}
	q.choose(0, names)
}

// anyMatters tells whether one of the names would lead to an event, or might
// for some user. The caller holds mu.
func (in *Inspector) anyMatters(names []learnedName, s verdict.Subject, now time.Time) bool {
	for _, l := range names {
		s.Host, s.Evidence = l.host, event.EvidenceDNS
		if d := in.rules.Decide(s, now); d.Reports() || in.rules.AsksWho(s) {
			return true
		}
	}
	return false
}
