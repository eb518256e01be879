package nft

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"interdict/internal/agent/netguard"
)

func ranges(pairs ...string) []netguard.Range {
	var out []netguard.Range
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, netguard.Range{From: netip.MustParseAddr(pairs[i]), To: netip.MustParseAddr(pairs[i+1])})
	}
	return out
}

var equal = cmp.Options{cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()}

func TestCheckRanges(t *testing.T) {
	for name, test := range map[string]struct {
		ranges []netguard.Range
		ok     bool
	}{
		"none":                        {nil, true},
		"sorted and disjoint":         {ranges("192.0.2.1", "192.0.2.5", "192.0.2.6", "192.0.2.6", "::1", "::2"), true},
		"overlapping":                 {ranges("192.0.2.1", "192.0.2.5", "192.0.2.5", "192.0.2.6"), false},
		"not sorted":                  {ranges("192.0.2.9", "192.0.2.9", "192.0.2.5", "192.0.2.6"), false},
		"ending before its beginning": {ranges("192.0.2.9", "192.0.2.8"), false},
		"of two families":             {ranges("192.0.2.9", "::1"), false},
		"mapped":                      {ranges("::ffff:192.0.2.9", "::ffff:192.0.2.10"), false},
		"without addresses":           {make([]netguard.Range, 1), false},
	} {
		if err := checkRanges("refused", test.ranges); (err == nil) != test.ok {
			t.Errorf("%s: checkRanges(%v) = %v, want ok %v", name, test.ranges, err, test.ok)
		}
	}
}

func TestSplitFamiliesJoinsNeighbours(t *testing.T) {
	v4, v6 := splitFamilies(ranges(
		"192.0.2.1", "192.0.2.5", "192.0.2.6", "192.0.2.6", "192.0.2.8", "255.255.255.255",
		"::", "::", "::1", "::2"))
	if diff := cmp.Diff(ranges("192.0.2.1", "192.0.2.6", "192.0.2.8", "255.255.255.255"), v4, equal); diff != "" {
		t.Errorf("IPv4 (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(ranges("::", "::2"), v6, equal); diff != "" {
		t.Errorf("IPv6 (-want +got):\n%s", diff)
	}
}

func TestDiffRangesTurnsOneIntoTheOther(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func() []netguard.Range {
		var out []netguard.Range
		for i := byte(0); i < 100; i += 4 {
			if random.IntN(2) == 0 {
				from := netip.AddrFrom4([4]byte{192, 0, 2, i})
				to := netip.AddrFrom4([4]byte{192, 0, 2, i + byte(random.IntN(3))})
				out = append(out, netguard.Range{From: from, To: to})
			}
		}
		return out
	}
	for range 200 {
		before, after := pick(), pick()
		removed, added := diffRanges(before, after)
		set := make(map[netguard.Range]bool)
		for _, r := range before {
			set[r] = true
		}
		for _, r := range removed {
			if !set[r] {
				t.Fatalf("diffRanges(%v, %v) removes %v, which is not there", before, after, r)
			}
			delete(set, r)
		}
		for _, r := range added {
			if set[r] {
				t.Fatalf("diffRanges(%v, %v) adds %v, which is there", before, after, r)
			}
			set[r] = true
		}
		want := make(map[netguard.Range]bool)
		for _, r := range after {
			want[r] = true
		}
		if diff := cmp.Diff(want, set, equal); diff != "" {
			t.Fatalf("diffRanges(%v, %v) (-want +got):\n%s", before, after, diff)
		}
	}
}
