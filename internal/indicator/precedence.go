package indicator

import (
	"cmp"
	"slices"
	"strings"
)

// Compare orders indicators that match the same connection by precedence: it
// is negative if a is the one that applies. In this order,
//
//  1. a name (domain or url) before an address (ip or cidr),
//  2. the longer url path ("/" counts as none),
//  3. the longer host name,
//  4. the longer prefix,
//  5. allow, warn, block, audit,
//  6. custom, feed, catalog,
//  7. the older one,
//  8. the lesser id, so that the order is total.
//
// A name goes before an address because it says more about who is at the
// other end. But an address is judged at a connection's first packet, before a
// name was said: if the first of the address indicators that match is one that
// [Action.Refuses], it decides before any name.
func Compare(a, b *Indicator) int {
	return cmp.Or(
		compareSpecificity(a, b),
		rank(Actions(), a.Action)-rank(Actions(), b.Action),
		rank(Sources(), a.Source)-rank(Sources(), b.Source),
		a.CreatedAt.Compare(b.CreatedAt),
		strings.Compare(a.ID, b.ID),
	)
}

func compareSpecificity(a, b *Indicator) int {
	x, y := specificityOf(a), specificityOf(b)
	return cmp.Or(y.class-x.class, y.path-x.path, y.host-x.host, y.prefix-x.prefix)
}

// specificity says how little an indicator matches: each figure is higher for
// the one that matches less.
type specificity struct{ class, path, host, prefix int }

func specificityOf(i *Indicator) specificity {
	switch i.Type {
	case TypeDomain:
		return specificity{class: 2, host: len(i.Value)}
	case TypeURL:
		host, path := SplitURL(i.Value)
		return specificity{class: 2, path: max(0, len(path)-1), host: len(host)}
	case TypeIP, TypeCIDR:
		p, _ := i.Prefix()
		return specificity{class: 1, prefix: p.Bits()}
	default:
		return specificity{}
	}
}

// rank is the place of v in order; what is not there comes last.
func rank[T comparable](order []T, v T) int {
	if i := slices.Index(order, v); i >= 0 {
		return i
	}
	return len(order)
}
