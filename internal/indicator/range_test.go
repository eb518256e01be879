package indicator_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/indicator"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// address makes an indicator from "ACTION VALUE".
func address(text string) indicator.Indicator {
	action, value, _ := strings.Cut(text, " ")
	i := indicator.Indicator{ID: text, Type: indicator.TypeIP, Value: value, Action: indicator.Action(action), Source: indicator.SourceCustom}
	if strings.Contains(value, "/") {
		i.Type = indicator.TypeCIDR
	}
	return i
}

func TestFlatten(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   []string
		want []string
	}{
		{"nothing", nil, nil},
		{"one address", []string{"block 192.0.2.1"}, []string{"192.0.2.1-192.0.2.1 block"}},
		{
			"an allowed address in a blocked prefix leaves both sides",
			[]string{"block 192.0.2.0/24", "allow 192.0.2.7"},
			[]string{"192.0.2.0-192.0.2.6 block", "192.0.2.7-192.0.2.7 allow", "192.0.2.8-192.0.2.255 block"},
		},
		{
			"a blocked address in an allowed prefix is blocked: the longer prefix wins",
			[]string{"allow 192.0.2.0/31", "block 192.0.2.0"},
			[]string{"192.0.2.0-192.0.2.0 block", "192.0.2.1-192.0.2.1 allow"},
		},
		{
			"an address at the end of a prefix leaves one side",
			[]string{"block 192.0.2.0/30", "audit 192.0.2.3"},
			[]string{"192.0.2.0-192.0.2.2 block", "192.0.2.3-192.0.2.3 audit"},
		},
		{
			"of the same addresses the allow wins",
			[]string{"block 192.0.2.1", "audit 192.0.2.1/32", "allow 192.0.2.1"},
			[]string{"192.0.2.1-192.0.2.1 allow"},
		},
		{
			"prefixes within prefixes within prefixes",
			[]string{"block 192.0.2.0/24", "audit 192.0.2.64/26", "warn 192.0.2.64/27", "allow 192.0.2.80/28"},
			[]string{
				"192.0.2.0-192.0.2.63 block", "192.0.2.64-192.0.2.79 warn", "192.0.2.80-192.0.2.95 allow",
				"192.0.2.96-192.0.2.127 audit", "192.0.2.128-192.0.2.255 block",
			},
		},
		{
			"everything, up to the last address of each family",
			[]string{"block ::/0", "block 0.0.0.0/0", "allow 255.255.255.255", "allow ffff::/16"},
			[]string{
				"0.0.0.0-255.255.255.254 block", "255.255.255.255-255.255.255.255 allow",
				":: - fffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff block",
				"ffff:: - ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff allow",
			},
		},
		{"what is not an address is left out", []string{"block example.com", "block 192.0.2.1/33"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var in []indicator.Indicator
			for _, text := range tt.in {
				in = append(in, address(text))
			}
			var got []string
			for _, s := range indicator.Flatten(in, noon) {
				got = append(got, fmt.Sprintf("%s-%s %s", s.From, s.To, s.Indicator.Action))
			}
			for i := range tt.want {
				tt.want[i] = strings.ReplaceAll(tt.want[i], " - ", "-")
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Flatten(%q) (-want +got):\n%s", tt.in, diff)
			}
		})
	}
}

func TestFlattenLeavesExpiredIndicatorsOut(t *testing.T) {
	block, allow := address("block 192.0.2.0/24"), address("allow 192.0.2.0/25")
	allow.ExpiresAt = noon
	got := indicator.Flatten([]indicator.Indicator{block, allow}, noon)
	if len(got) != 1 || got[0].Indicator.ID != block.ID {
		t.Errorf("Flatten = %v, want the whole prefix blocked once the allow has expired", got)
	}
	if got := indicator.Flatten([]indicator.Indicator{block, allow}, noon.Add(-1)); len(got) != 2 {
		t.Errorf("Flatten = %v, want two spans just before the allow expires", got)
	}
}

// TestFlattenAgreesWithTryingEachAddress compares the spans with the first
// indicator by precedence for each of the addresses that they are about.
func TestFlattenAgreesWithTryingEachAddress(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, base := range []string{"192.0.2.0", "255.255.255.192", "2001:db8::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffc0"} {
		first := netip.MustParseAddr(base)
		for range 200 {
			var in []indicator.Indicator
			for n := range rng.IntN(12) {
				p := netip.PrefixFrom(nth(first, rng.IntN(64)), first.BitLen()-rng.IntN(7)).Masked()
				i := address(string(indicator.Actions()[rng.IntN(4)]) + " " + p.String())
				i.ID = fmt.Sprint(n)
				in = append(in, i)
			}
			spans := indicator.Flatten(in, noon)
			checkDisjoint(t, spans)
			for n := range 64 {
				a := nth(first, n)
				if got, want := bySpan(spans, a), byTrying(in, a); got != want {
					t.Fatalf("%s is decided by indicator %q, want %q, among %v", a, got, want, in)
				}
			}
		}
	}
}

func nth(a netip.Addr, n int) netip.Addr {
	for range n {
		a = a.Next()
	}
	return a
}

func checkDisjoint(t *testing.T, spans []indicator.Span) {
	t.Helper()
	for i, s := range spans {
		if s.To.Less(s.From) || i > 0 && !spans[i-1].To.Less(s.From) {
			t.Fatalf("spans are not disjoint and ascending: %v", spans)
		}
	}
}

func bySpan(spans []indicator.Span, a netip.Addr) string {
	for _, s := range spans {
		if !a.Less(s.From) && !s.To.Less(a) {
			return s.Indicator.ID
		}
	}
	return ""
}

func byTrying(in []indicator.Indicator, a netip.Addr) string {
	var best *indicator.Indicator
	for i := range in {
		p, _ := in[i].Prefix()
		if p.Contains(a) && (best == nil || indicator.Compare(&in[i], best) < 0) {
			best = &in[i]
		}
	}
	if best == nil {
		return ""
	}
	return best.ID
}

func TestJoin(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"nothing", "", ""},
		{"neighbours become one", "192.0.2.8-192.0.2.9 192.0.2.0-192.0.2.7", "192.0.2.0-192.0.2.9"},
		{"ranges that overlap become one", "192.0.2.0-192.0.2.7 192.0.2.4-192.0.2.9", "192.0.2.0-192.0.2.9"},
		{"one within another goes", "192.0.2.0-192.0.2.9 192.0.2.4-192.0.2.5", "192.0.2.0-192.0.2.9"},
		{"a gap stays", "192.0.2.0-192.0.2.1 192.0.2.3-192.0.2.3", "192.0.2.0-192.0.2.1 192.0.2.3-192.0.2.3"},
		{"families stay apart", "255.255.255.255-255.255.255.255 ::-::1", "255.255.255.255-255.255.255.255 ::-::1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var in []indicator.Range
			for text := range strings.FieldsSeq(tt.in) {
				from, to, _ := strings.Cut(text, "-")
				in = append(in, indicator.Range{From: netip.MustParseAddr(from), To: netip.MustParseAddr(to)})
			}
			var got []string
			for _, r := range indicator.Join(in) {
				got = append(got, r.From.String()+"-"+r.To.String())
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("Join(%s) = %s, want %s", tt.in, got, tt.want)
			}
		})
	}
}

func TestSubtract(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	// Both families, and the last address of all.
	at := func(n int) netip.Addr {
		if n < 20 {
			return netip.AddrFrom4([4]byte{192, 0, 2, byte(n)})
		}
		a := [16]byte{0: 0xff, 15: byte(216 + n)}
		for i := 1; i < 15; i++ {
			a[i] = 0xff
		}
		return netip.AddrFrom16(a)
	}
	random := func() (ranges []indicator.Range) {
		for range rng.IntN(6) {
			family := rng.IntN(2) * 20
			from := family + rng.IntN(20)
			ranges = append(ranges, indicator.Range{From: at(from), To: at(from + rng.IntN(family+20-from))})
		}
		return indicator.Join(ranges)
	}
	has := func(ranges []indicator.Range, a netip.Addr) bool {
		return slices.ContainsFunc(ranges, func(r indicator.Range) bool { return !a.Less(r.From) && !r.To.Less(a) })
	}
	for range 5000 {
		a, b := random(), random()
		got := indicator.Subtract(a, b)
		for n := range 40 {
			if addr := at(n); has(got, addr) != (has(a, addr) && !has(b, addr)) {
				t.Fatalf("Subtract(%v, %v) = %v, wrong about %v", a, b, got, addr)
			}
		}
		if !slices.IsSortedFunc(got, func(x, y indicator.Range) int { return x.To.Compare(y.From) }) {
			t.Fatalf("Subtract(%v, %v) = %v, which is out of order", a, b, got)
		}
	}
}
