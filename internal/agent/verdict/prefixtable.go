package verdict

import (
	"bytes"
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"sort"
)

// prefixTable finds the prefixes of one address family that an address is in.
// Prefixes form a forest: two are disjoint, or one is within the other. In the
// order of their first address, the wider first, the last one that starts at
// or before an address is in it or has all that are as its ancestors.
type prefixTable struct{ entries []prefixEntry }

// prefixEntry is a prefix in 28 bytes without a pointer; netip.Prefix with the
// rest would take 40.
type prefixEntry struct {
	first [16]byte
	// parent is the entry of the nearest prefix around this one, which may
	// be the same prefix again; -1 if there is none.
	parent int32
	record uint32
	// bits counts from the start of first, in which IPv4 addresses are
	// mapped into IPv6.
	bits uint8
}

func (t *prefixTable) add(p netip.Prefix, record uint32) {
	t.entries = append(t.entries, prefixEntry{
		first: p.Addr().As16(), bits: uint8(p.Bits() + 128 - p.Addr().BitLen()), record: record,
	})
}

// finish makes what was added ready for look-ups.
func (t *prefixTable) finish() {
	t.entries = slices.Clip(t.entries)
	slices.SortFunc(t.entries, func(a, b prefixEntry) int {
		return cmp.Or(bytes.Compare(a.first[:], b.first[:]), cmp.Compare(a.bits, b.bits))
	})
	around := int32(-1)
	for i := range t.entries {
		e := &t.entries[i]
		for around >= 0 && !t.entries[around].contains(&e.first) {
			around = t.entries[around].parent
		}
		e.parent, around = around, int32(i)
	}
}

// lookup yields the length and the record of the prefixes that addr is in, the
// longest first. Addr is of the table's family.
func (t *prefixTable) lookup(addr netip.Addr) iter.Seq2[uint8, uint32] {
	return func(yield func(uint8, uint32) bool) { t.walk(addr.As16(), yield) }
}

func (t *prefixTable) walk(addr [16]byte, yield func(uint8, uint32) bool) {
	after := sort.Search(len(t.entries), func(i int) bool {
		return bytes.Compare(t.entries[i].first[:], addr[:]) > 0
	})
	for i := int32(after) - 1; i >= 0; i = t.entries[i].parent {
		e := &t.entries[i]
		if e.contains(&addr) && !yield(e.bits, e.record) {
			return
		}
	}
}

// contains reports whether addr is in the prefix.
func (e *prefixEntry) contains(addr *[16]byte) bool {
	whole, rest := e.bits/8, e.bits%8
	if !bytes.Equal(e.first[:whole], addr[:whole]) {
		return false
	}
	return rest == 0 || (e.first[whole]^addr[whole])>>(8-rest) == 0
}
