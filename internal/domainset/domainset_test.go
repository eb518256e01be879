package domainset_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/domainset"
)

// match is one result of a look-up.
type match struct {
	Name  string
	Value uint32
}

// newSet makes a set of names whose values are their indices.
func newSet(names []string) *domainset.Set {
	return domainset.New(indices(len(names)), func(v uint32) string { return names[v] })
}

func indices(n int) func(yield func(uint32) bool) {
	return func(yield func(uint32) bool) {
		for i := range uint32(n) {
			if !yield(i) {
				return
			}
		}
	}
}

// lookup returns all matches, those of one name in ascending order.
func lookup(s *domainset.Set, host string) []match {
	var out []match
	for name, v := range s.Lookup(host) {
		out = append(out, match{name, v})
	}
	slices.SortStableFunc(out, func(a, b match) int {
		if a.Name != b.Name {
			return 0
		}
		return int(a.Value) - int(b.Value)
	})
	return out
}

// reference is what lookup has to return, from a plain map.
func reference(names []string, host string) []match {
	index := make(map[string][]uint32)
	for i, n := range names {
		index[n] = append(index[n], uint32(i))
	}
	var out []match
	for {
		for _, v := range index[host] {
			out = append(out, match{host, v})
		}
		_, above, found := strings.Cut(host, ".")
		if !found {
			return out
		}
		host = above
	}
}

func TestLookup(t *testing.T) {
	names := []string{"example.com", "a.example.com", "example.org", "com", "example.com", "x.y.z.example.net", strings.Repeat("a.", 70) + "example.org"}
	for _, tt := range []struct {
		name, host string
		want       []match
	}{
		{"the name itself, each of its values", "example.com", []match{{"example.com", 0}, {"example.com", 4}, {"com", 3}}},
		{"a subdomain, longest first", "b.a.example.com", []match{{"a.example.com", 1}, {"example.com", 0}, {"example.com", 4}, {"com", 3}}},
		{"a name that ends the same but is not below", "badexample.org", nil},
		{"a name above", "org", nil},
		{"a sibling", "y.z.example.net", nil},
		{"the empty host", "", nil},
		{"dots alone", "...", nil},
		{"a deep subdomain", strings.Repeat("b.", 120) + "example.org", []match{{"example.org", 2}}},
		{"a host without end", strings.Repeat("b.", 1<<20) + "example.org", []match{{"example.org", 2}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, lookup(newSet(names), tt.host)); diff != "" {
				t.Errorf("Lookup(%.99q) (-want +got):\n%s", tt.host, diff)
			}
		})
	}
}

func TestLookupStopsWhenToldTo(t *testing.T) {
	s := newSet([]string{"example.com", "com", "example.com"})
	n := 0
	for range s.Lookup("example.com") {
		n++
		break
	}
	if n != 1 {
		t.Errorf("the loop ran %d times after a break, want 1", n)
	}
}

func TestEmptySetsHaveNoNames(t *testing.T) {
	for _, s := range []*domainset.Set{{}, newSet(nil)} {
		if got := lookup(s, "www.example.com"); got != nil {
			t.Errorf("Lookup in an empty set = %v", got)
		}
	}
}

// TestLookupAgreesWithAMap tries random sets in which names are dense: most
// hosts have several matches, and many names several values.
func TestLookupAgreesWithAMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	randomName := func() string {
		labels := make([]string, 1+rng.IntN(5))
		for i := range labels {
			labels[i] = string(rune('a' + rng.IntN(4)))
		}
		return strings.Join(labels, ".")
	}
	for range 300 {
		names := make([]string, rng.IntN(200))
		for i := range names {
			names[i] = randomName()
		}
		s := newSet(names)
		for range 100 {
			host := randomName()
			if diff := cmp.Diff(reference(names, host), lookup(s, host)); diff != "" {
				t.Fatalf("Lookup(%q) among %q (-want +got):\n%s", host, names, diff)
			}
		}
	}
}

// TestAThousandValuesOfOneName fills far more slots than a bucket has.
func TestAThousandValuesOfOneName(t *testing.T) {
	names := slices.Repeat([]string{"example.com"}, 1000)
	names = append(names, generate(1000)...)
	s := newSet(names)
	for _, host := range []string{"example.com", names[1000], names[1999], "other.example"} {
		if diff := cmp.Diff(reference(names, host), lookup(s, host)); diff != "" {
			t.Errorf("Lookup(%q) (-want +got):\n%s", host, diff)
		}
	}
}

func FuzzLookup(f *testing.F) {
	f.Add("example.com a.example.com com", "b.a.example.com")
	f.Add("a.b..c . .. a", "..a")
	f.Add("", "")
	f.Add(strings.Repeat("a.", 70)+"a a.a", strings.Repeat("a.", 90)+"a")
	f.Fuzz(func(t *testing.T, text, host string) {
		names := strings.Split(text, " ")
		s := newSet(names)
		for _, h := range append(names, host) {
			h = domainset.Normalize(h)
			if diff := cmp.Diff(reference(names, h), lookup(s, h)); diff != "" {
				t.Errorf("Lookup(%q) among %q (-want +got):\n%s", h, names, diff)
			}
		}
	})
}

func TestNormalize(t *testing.T) {
	for _, tt := range []struct{ name, host, want string }{
		{"lower case stays", "www.example.com", "www.example.com"},
		{"upper case goes down", "WWW.Example.COM", "www.example.com"},
		{"one trailing dot goes", "example.com.", "example.com"},
		{"both", "Example.com.", "example.com"},
		{"other bytes stay", "ÄÖ_-\x00[`{@", "ÄÖ_-\x00[`{@"},
		{"nothing", "", ""},
		{"the root", ".", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := domainset.Normalize(tt.host); got != tt.want {
				t.Errorf("Normalize(%q) = %q, want %q", tt.host, got, tt.want)
			}
		})
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	names := generate(1000)
	s := newSet(names)
	for _, host := range []string{names[0], "deep.below." + names[1] + ".", "www.not-there.example"} {
		n := testing.AllocsPerRun(100, func() {
			for range s.Lookup(domainset.Normalize(host)) {
				continue
			}
		})
		if n != 0 {
			t.Errorf("Lookup(%q) allocates %v times", host, n)
		}
	}
}

// generate returns n different names shaped like those of real lists: two to
// four labels, 17 bytes on average.
func generate(n int) []string {
	rng := rand.New(rand.NewPCG(3, 4))
	tlds := []string{"com", "com", "com", "net", "org", "io", "de", "co.uk", "app"}
	names := make([]string, n)
	for i := range names {
		prefix := ""
		if rng.IntN(4) == 0 {
			prefix = []string{"www.", "api.", "cdn.", "login."}[rng.IntN(4)]
		}
		word := strings.ToLower(string(rune('A'+rng.IntN(26)))) + fmt.Sprintf("%0*x", 3+rng.IntN(6), rng.IntN(4096))
		names[i] = fmt.Sprintf("%s%s-%x.%s", prefix, word, i, tlds[rng.IntN(len(tlds))])
	}
	return names
}

var sizes = []int{100_000, 1_000_000}

// BenchmarkLookup goes through 1,024 hosts, what a device talks to in an hour,
// and through 131,072, so many that hardly any look-up finds in the processor's
// cache what it needs.
func BenchmarkLookup(b *testing.B) {
	for _, n := range sizes {
		names := generate(n)
		s := newSet(names)
		for _, hosts := range []int{1 << 10, 1 << 17} {
			for _, c := range []struct{ name, prefix string }{
				{"hit", ""},
				{"subdomain", "r4.sn-abc.edge.eu-central."},
				{"miss", "www.x"},
				{"deepmiss", "r4.sn-abc.edge.eu-central.x"},
			} {
				list := make([]string, min(n, hosts))
				for i, at := range rand.New(rand.NewPCG(5, 6)).Perm(n)[:len(list)] {
					list[i] = c.prefix + names[at]
				}
				b.Run(fmt.Sprintf("names=%d/hosts=%d/%s", n, hosts, c.name), func(b *testing.B) {
					benchmarkLookup(b, s, inOrder(list))
				})
			}
		}
	}
}

func benchmarkLookup(b *testing.B, s *domainset.Set, hosts []string) {
	b.Helper()
	b.ReportAllocs()
	next := 0
	for b.Loop() {
		for range s.Lookup(hosts[next]) {
			continue
		}
		if next++; next == len(hosts) {
			next = 0
		}
	}
}

// inOrder returns the strings with their text in one piece, so that a benchmark
// that goes through them does not measure how far apart they lie: a host that
// is looked up was just read from a packet.
func inOrder(list []string) []string {
	text := strings.Join(list, "")
	out := make([]string, len(list))
	for i, s := range list {
		out[i], text = text[:len(s)], text[len(s):]
	}
	return out
}

func BenchmarkNormalize(b *testing.B) {
	for _, host := range []string{"r4.sn-abc.edge.example.com", "R4.sn-abc.edge.Example.com."} {
		b.Run(host, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				domainset.Normalize(host)
			}
		})
	}
}

// BenchmarkNew reports, beside the time, what a set itself takes for each
// name. The text of the names is the caller's; it is reported separately, as
// the bytes of the strings without their headers.
func BenchmarkNew(b *testing.B) {
	for _, n := range sizes {
		names := generate(n)
		text := 0
		for _, name := range names {
			text += len(name)
		}
		b.Run(fmt.Sprintf("names=%d", n), func(b *testing.B) {
			without := heap()
			var s *domainset.Set
			for b.Loop() {
				s = newSet(names)
			}
			b.ReportMetric(float64(heap()-without)/float64(n), "B/name")
			runtime.KeepAlive(s)
			b.ReportMetric(float64(text)/float64(n), "text-B/name")
		})
		runtime.KeepAlive(names)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
