package verdict

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPrefixTableYieldsTheLongestFirst compares with trying all prefixes. That
// every parent contains its child keeps look-ups short: they visit what is around
// the address, and what is around its neighbour.
func TestPrefixTableYieldsTheLongestFirst(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var table prefixTable
		prefixes := make([]netip.Prefix, rng.IntN(40))
		for i := range prefixes {
			a := netip.AddrFrom4([4]byte{10, byte(rng.IntN(2)), byte(rng.IntN(4)), byte(rng.IntN(256))})
			prefixes[i] = netip.PrefixFrom(a, 32-rng.IntN(33)).Masked()
			table.add(prefixes[i], uint32(i))
		}
		table.finish()
		for range 50 {
			a := netip.AddrFrom4([4]byte{10, byte(rng.IntN(2)), byte(rng.IntN(4)), byte(rng.IntN(256))})
			var got, want []string
			for bits, record := range table.lookup(a) {
				got = append(got, fmt.Sprintf("%03d %s", bits, prefixes[record]))
			}
			for _, p := range prefixes {
				if p.Contains(a) {
					want = append(want, fmt.Sprintf("%03d %s", p.Bits()+96, p))
				}
			}
			slices.Sort(want)
			slices.Reverse(want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("lookup(%s) among %v (-want +got):\n%s", a, prefixes, diff)
			}
		}
		for i, e := range table.entries {
			if e.parent >= 0 && !table.entries[e.parent].contains(&e.first) {
				t.Fatalf("entry %d of %v has entry %d around it, which does not contain it", i, prefixes, e.parent)
			}
		}
	}
}
