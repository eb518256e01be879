package indicator

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Span is a range of addresses and the indicator that applies to them.
type Span struct {
	Range
	Indicator Indicator
}

// Flatten returns which indicator applies to which addresses: disjoint spans,
// IPv4 before IPv6, in ascending order. The longest prefix that covers an
// address applies to it, and of several such indicators the one that comes
// first by [Compare]. Indicators of other types, expired ones and those that
// are not canonical are left out.
func Flatten(indicators []Indicator, now time.Time) []Span {
	var entries []entry
	for i := range indicators {
		p, ok := indicators[i].Prefix()
		if ok && !indicators[i].Expired(now) {
			entries = append(entries, entry{Range: RangeOf(p), bits: p.Bits(), indicator: &indicators[i]})
		}
	}
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(a.From.Compare(b.From), a.bits-b.bits, Compare(a.indicator, b.indicator))
	})
	var f flattener
	for i, e := range entries {
		if i == 0 || entries[i-1].Range != e.Range {
			f.add(e)
		}
	}
	f.closeBefore(netip.Addr{})
	return f.out
}

// entry is the range of one prefix. Two of them are disjoint, or one is
// within the other.
type entry struct {
	Range
	bits      int
	indicator *Indicator
}

// flattener takes in entries in the order of their first address, the wider
// first.
type flattener struct {
	out []Span
	// open are the entries whose end was not reached, each within the one
	// before it.
	open []entry
	// from is the first address of which nothing was put out.
	from netip.Addr
}

func (f *flattener) add(e entry) {
	f.closeBefore(e.From)
	if len(f.open) > 0 && f.from.Less(e.From) {
		f.put(e.From.Prev())
	}
	f.open = append(f.open, e)
	f.from = e.From
}

// closeBefore puts out the open entries that end before addr, or all of them
// if addr is the zero Addr.
func (f *flattener) closeBefore(addr netip.Addr) {
	for n := len(f.open); n > 0; n = len(f.open) {
		last := f.open[n-1]
		if addr.IsValid() && !last.To.Less(addr) {
			return
		}
		// From is invalid once the last address of all was put out.
		if f.from.IsValid() && !last.To.Less(f.from) {
			f.put(last.To)
			f.from = last.To.Next()
		}
		f.open = f.open[:n-1]
	}
}

// put puts out what is left of the innermost open entry up to an address.
func (f *flattener) put(to netip.Addr) {
	e := f.open[len(f.open)-1]
	f.out = append(f.out, Span{Range: Range{From: f.from, To: to}, Indicator: *e.indicator})
}

// RangeOf returns the addresses of a prefix.
func RangeOf(p netip.Prefix) Range {
	p = p.Masked()
	last := p.Addr().AsSlice()
	for i := p.Bits(); i < len(last)*8; i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	to, _ := netip.AddrFromSlice(last)
	return Range{From: p.Addr(), To: to}
}

// Join returns the addresses of ranges as few disjoint ranges in ascending
// order. Ranges of one family each, in any order; they are sorted in place.
func Join(ranges []Range) []Range {
	slices.SortFunc(ranges, func(a, b Range) int { return a.From.Compare(b.From) })
	out := ranges[:0]
	for _, r := range ranges {
		if n := len(out); n > 0 && touches(out[n-1], r) {
			if out[n-1].To.Less(r.To) {
				out[n-1].To = r.To
			}
			continue
		}
		out = append(out, r)
	}
	return out
}

// touches reports whether b, which does not start before a, overlaps it or
// follows it at once. All of IPv4 is less than all of IPv6, and nothing is next
// to the last address of a family.
func touches(a, b Range) bool {
	return !a.To.Less(b.From) || a.To.Next() == b.From
}

// Subtract returns the addresses of ranges that are not in others. Both are in
// ascending order and disjoint, and so is the result.
func Subtract(ranges, others []Range) []Range {
	var out []Range
	for _, r := range ranges {
		for len(others) > 0 && others[0].To.Less(r.From) {
			others = others[1:]
		}
		out = r.without(out, others)
	}
	return out
}

// without appends to out what is left of a range. Others end where the range
// starts or later.
func (r Range) without(out, others []Range) []Range {
	for _, o := range others {
		if r.To.Less(o.From) {
			break
		}
		if r.From.Less(o.From) {
			out = append(out, Range{From: r.From, To: o.From.Prev()})
		}
		if !o.To.Less(r.To) {
			return out
		}
		r.From = o.To.Next()
	}
	return append(out, r)
}
