package verdict_test

import (
	"fmt"
	"iter"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"interdict/internal/agent/verdict"
	"interdict/internal/agent/verdict/verdicttest"
	"interdict/internal/bundle"
	"interdict/internal/bypass"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

const benchSize = 100_000

// hundredThousand yields the records of a large bundle: 90,000 domains of
// 1,000 apps, 9,000 addresses and 1,000 urls.
func hundredThousand() iter.Seq[bundle.Record] {
	return func(yield func(bundle.Record) bool) {
		for n := range benchSize {
			if !yield(bundle.Indicator(numbered(n))) {
				return
			}
		}
	}
}

func numbered(n int) indicator.Indicator {
	i := indicator.Indicator{
		Type: indicator.TypeDomain, Value: fmt.Sprintf("name-%x.example.com", n), Action: indicator.ActionBlock,
		Severity: indicator.SeverityMedium, Source: indicator.SourceCatalog, AppID: fmt.Sprintf("app-%d", n%1000), CreatedAt: noon,
	}
	switch n % 100 {
	case 0:
		i.Type, i.Value = indicator.TypeURL, fmt.Sprintf("http://host-%x.example.com/path", n)
	case 1, 2, 3, 4, 5, 6, 7, 8, 9:
		i.Type, i.Value = indicator.TypeIP, netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}).String()
	}
	i.ID = i.AppID + ":" + i.Value
	return i
}

func bigRuleset(tb testing.TB) *verdict.Ruleset {
	tb.Helper()
	set, err := bundle.NewSet(hundredThousand())
	if err != nil {
		tb.Fatal(err)
	}
	r, err := verdict.Compile(in(fleet.ModeBlock), set)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

var benchSubjects = []struct {
	name    string
	subject verdict.Subject
	want    string
}{
	{"miss", verdict.Subject{Host: "www.somewhere.example.org", Addr: netip.MustParseAddr("203.0.113.7")}, "none"},
	{"missbelowlisted", verdict.Subject{Host: "www.other.example.com", Addr: netip.MustParseAddr("203.0.113.7")}, "none"},
	{"missaddress", verdict.Subject{Addr: netip.MustParseAddr("203.0.113.7")}, "none"},
	{"hit", verdict.Subject{Host: "www.name-ff.example.com"}, "block app-255:name-ff.example.com"},
	{"hitaddress", verdict.Subject{Addr: netip.MustParseAddr("10.0.0.5")}, "block app-5:10.0.0.5"},
}

// scopedRuleset is a large one in which some are treated unlike, at some
// times, with a second set and all settings on.
func scopedRuleset(tb testing.TB) *verdict.Ruleset {
	tb.Helper()
	large, err := bundle.NewSet(hundredThousand())
	if err != nil {
		tb.Fatal(err)
	}
	c := in(fleet.ModeBlock)
	c.Settings.BypassProtection = fleet.ProtectionBlock
	c.Bypasses = []bypass.Bypass{{UID: 1, Subject: "box", Since: noon, Until: noon.Add(time.Hour)}}
	scoped := custom(indicator.ActionBlock, indicator.TypeDomain, "scoped.example.net")
	scoped.Indicator.Scope = indicator.Profile{
		People: indicator.People{IncludeUserGroups: []string{"finance"}}, Windows: []indicator.Window{{From: "08:00", To: "18:00"}},
	}
	r, err := verdict.Compile(c, large, setOf(tb, bundle.Indicator(scoped.Indicator)))
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func TestDecidingDoesNotAllocate(t *testing.T) {
	for name, r := range map[string]*verdict.Ruleset{"alike": bigRuleset(t), "scoped": scopedRuleset(t)} {
		for _, s := range benchSubjects {
			if got := verdicttest.Result(r.Decide(s.subject, noon)); got != s.want {
				t.Errorf("%s: Decide(%+v) = %s, want %s", name, s.subject, got, s.want)
			}
			if n := testing.AllocsPerRun(100, func() { r.Decide(s.subject, noon) }); n != 0 {
				t.Errorf("%s: Decide(%+v) allocates %v times", name, s.subject, n)
			}
		}
	}
}

func BenchmarkDecideScoped(b *testing.B) {
	r := scopedRuleset(b)
	anna := &indicator.User{UID: 1000, Name: "anna", Groups: []string{"users", "finance"}}
	for name, s := range map[string]verdict.Subject{
		"miss":   {Host: "www.somewhere.example.org", Addr: netip.MustParseAddr("203.0.113.7"), Port: 443, User: anna},
		"scoped": {Host: "www.scoped.example.net", Addr: netip.MustParseAddr("203.0.113.7"), Port: 443, User: anna},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Decide(s, noon)
			}
		})
	}
}

func BenchmarkDecide(b *testing.B) {
	r := bigRuleset(b)
	for _, s := range benchSubjects {
		b.Run(s.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Decide(s.subject, noon)
			}
		})
	}
}

// BenchmarkCompile reports, beside the time, the memory that stays in use: of
// the bundle's text, which the agent keeps in any case, and of what a Ruleset
// adds to it.
func BenchmarkCompile(b *testing.B) {
	empty := heap()
	set, err := bundle.NewSet(hundredThousand())
	if err != nil {
		b.Fatal(err)
	}
	text := heap()
	var r *verdict.Ruleset
	for b.Loop() {
		if r, err = verdict.Compile(in(fleet.ModeBlock), set); err != nil {
			b.Fatal(err)
		}
	}
	compiled := heap()
	b.ReportMetric(float64(text-empty)/(1<<20), "bundle-MiB")
	b.ReportMetric(float64(compiled-text)/(1<<20), "ruleset-MiB")
	runtime.KeepAlive(set)
	runtime.KeepAlive(r)
}

func BenchmarkAddresses(b *testing.B) {
	r := bigRuleset(b)
	for b.Loop() {
		r.Addresses(noon)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
