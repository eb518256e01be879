package indicator_test

import (
	"strconv"
	"testing"
	"time"

	"interdict/internal/indicator"
)

// inOrder returns indicators of every kind of value, action, source, age and
// id, in the order of precedence: most specific first (longer url path, longer
// domain, longer prefix), then allow over warn over block over audit, then the
// custom indicator over the catalog's, then the older one.
func inOrder() []indicator.Indicator {
	values := []struct {
		typ   indicator.Type
		value string
	}{
		{indicator.TypeURL, "http://b.example/long/path"},
		{indicator.TypeURL, "http://longer.b.example/path"},
		{indicator.TypeURL, "http://b.example/path"},
		{indicator.TypeURL, "http://longer.name.b.example/"},
		{indicator.TypeDomain, "longer.b.example"},
		{indicator.TypeURL, "https://b.example/"},
		{indicator.TypeIP, "2001:db8::1"},
		{indicator.TypeCIDR, "2001:db8::/64"},
		{indicator.TypeIP, "192.0.2.1"},
		{indicator.TypeCIDR, "192.0.2.0/24"},
		{indicator.TypeCIDR, "0.0.0.0/0"},
	}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var out []indicator.Indicator
	for _, v := range values {
		for _, action := range []indicator.Action{"allow", "warn", "block", "audit"} {
			for _, source := range []indicator.Source{"custom", "feed", "catalog"} {
				for age := range 2 {
					for id := range 2 {
						out = append(out, indicator.Indicator{
							ID: strconv.Itoa(id), Type: v.typ, Value: v.value, Action: action, Source: source,
							CreatedAt: start.Add(time.Duration(age) * time.Hour),
						})
					}
				}
			}
		}
	}
	return out
}

func TestCompareFollowsTheOrderOfPrecedence(t *testing.T) {
	list := inOrder()
	for i := range list {
		for j := range list {
			got := indicator.Compare(&list[i], &list[j])
			if (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Fatalf("Compare(%+v, %+v) = %d, though they are %d and %d in order", list[i], list[j], got, i, j)
			}
		}
	}
}

func TestValuesThatMatchTheSameAreEquallySpecific(t *testing.T) {
	for _, tt := range []struct {
		name string
		a, b indicator.Indicator
	}{
		{
			"a domain and a url of the same host without a path",
			indicator.Indicator{Type: indicator.TypeDomain, Value: "b.example"},
			indicator.Indicator{Type: indicator.TypeURL, Value: "http://b.example/"},
		},
		{
			"the two schemes of a url without a path",
			indicator.Indicator{Type: indicator.TypeURL, Value: "https://b.example/"},
			indicator.Indicator{Type: indicator.TypeURL, Value: "http://b.example/"},
		},
		{
			"an address and the prefix of this address",
			indicator.Indicator{Type: indicator.TypeIP, Value: "192.0.2.1"},
			indicator.Indicator{Type: indicator.TypeCIDR, Value: "192.0.2.1/32"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := indicator.Compare(&tt.a, &tt.b); got != 0 {
				t.Errorf("Compare = %d, want 0", got)
			}
			tt.b.Action, tt.a.Action = indicator.ActionAllow, indicator.ActionBlock
			if got := indicator.Compare(&tt.a, &tt.b); got <= 0 {
				t.Errorf("Compare of a block with an allow = %d, want the allow first", got)
			}
		})
	}
}
