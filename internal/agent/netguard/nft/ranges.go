package nft

import (
	"fmt"
	"net/netip"

	"interdict/internal/agent/netguard"
)

// checkRanges returns an error if ranges are not valid, sorted and disjoint,
// or mix families in a range.
func checkRanges(name string, ranges []netguard.Range) error {
	var last netip.Addr
	for _, r := range ranges {
		switch {
		case !r.From.IsValid() || r.From.Is4() != r.To.Is4() || r.From.Is4In6() || r.To.Is4In6():
			return fmt.Errorf("checking %s range %v-%v: the ends must be plain addresses of one family", name, r.From, r.To)
		case r.To.Less(r.From):
			return fmt.Errorf("checking %s range %v-%v: it ends before it begins", name, r.From, r.To)
		case last.IsValid() && !last.Less(r.From):
			return fmt.Errorf("checking %s range %v-%v: ranges must be sorted and disjoint", name, r.From, r.To)
		}
		last = r.To
	}
	return nil
}

// splitFamilies returns the IPv4 and the IPv6 ranges, each sorted as before,
// with neighbours that touch made one: the kernel's interval sets store an
// end as the start of what follows, so touching ranges would share a key.
func splitFamilies(ranges []netguard.Range) (v4, v6 []netguard.Range) {
	for _, r := range ranges {
		to := &v6
		if r.From.Is4() {
			to = &v4
		}
		if n := len(*to); n > 0 && (*to)[n-1].To.Next() == r.From {
			(*to)[n-1].To = r.To
			continue
		}
		*to = append(*to, r)
	}
	return v4, v6
}

// diffRanges returns what must be removed from and added to a set that holds
// before to make it hold after. Both are sorted and disjoint.
func diffRanges(before, after []netguard.Range) (removed, added []netguard.Range) {
	for len(before) > 0 && len(after) > 0 {
		switch b, a := before[0], after[0]; {
		case b == a:
			before, after = before[1:], after[1:]
		case a.From.Less(b.From):
			added, after = append(added, a), after[1:]
		default:
			removed, before = append(removed, b), before[1:]
		}
	}
	return append(removed, before...), append(added, after...)
}
