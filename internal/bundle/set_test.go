package bundle_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/bundle"
	"interdict/internal/bypass"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

func TestARecordSurvivesItsLine(t *testing.T) {
	at := time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC)
	want := []bundle.Record{
		bundle.App("itunes", "iTunes"),
		bundle.Indicator(indicator.Indicator{
			ID: "itunes:itunes.apple.com", Type: indicator.TypeDomain, Value: "itunes.apple.com",
			Action: indicator.ActionBlock, Severity: indicator.SeverityMedium, Source: indicator.SourceCatalog,
			AppID: "itunes", ExpiresAt: at, GenerateAlert: true, CreatedAt: at.Add(-time.Hour),
		}),
		bundle.Indicator(indicator.Indicator{ID: "x", Type: indicator.TypeIP, Value: "192.0.2.1", Action: indicator.ActionAllow}),
		bundle.Indicator(indicator.Indicator{
			ID: "y", Type: indicator.TypeIP, Value: "192.0.2.2", Action: indicator.ActionBlock,
			ExpiresAt: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), CreatedAt: at,
		}),
		bundle.Setting(fleet.SettingNetworkProtection, "audit", "policy-1"),
		bundle.Spare("aws.amazon.com", "aws"),
	}
	set := mustSet(t, want...)
	var got []bundle.Record
	for _, r := range set.All() {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		got = append(got, r.Record)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records differ (-want +got):\n%s", diff)
	}
}

func TestTheDigestDoesNotDependOnTheOrder(t *testing.T) {
	records := someRecords(200)
	want := mustSet(t, records...).Digest()
	for range 5 {
		rand.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
		if got := mustSet(t, records...).Digest(); got != want {
			t.Fatalf("got digest %s after shuffling, want %s", got, want)
		}
	}
	if other := mustSet(t, records[1:]...).Digest(); other == want {
		t.Error("a set without one record has the same digest")
	}
}

func TestRecordsThatCannotBeWrittenAreRefused(t *testing.T) {
	for name, records := range map[string][]bundle.Record{
		"a tab in a value":       {bundle.App("a", "b\tc")},
		"a line break in a key":  {bundle.App("a\nb", "c")},
		"an empty key":           {bundle.App("", "c")},
		"an unknown kind":        {{Kind: "what", Key: "x"}},
		"the same key twice":     {bundle.App("a", "b"), bundle.App("a", "c")},
		"a record beyond bounds": {bundle.App("a", strings.Repeat("x", bundle.MaxLine))},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := bundle.NewSet(slices.Values(records)); err == nil {
				t.Error("got no error")
			}
		})
	}
}

func TestADifferenceLeadsFromAnySetToAnyOther(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	all := someRecords(60)
	for round := range 200 {
		from, to := mustSet(t, pick(rng, all)...), mustSet(t, pick(rng, all)...)
		changes := bundle.Diff(from, to)
		got, err := from.Apply(bytes.NewReader(changes))
		if err != nil {
			t.Fatalf("round %d: %v\n%s", round, err, changes)
		}
		if got.Digest() != to.Digest() {
			t.Fatalf("round %d: the changes do not lead to the set:\n%s", round, changes)
		}
		if from.Digest() == to.Digest() && len(changes) > 0 {
			t.Fatalf("round %d: equal sets differ by\n%s", round, changes)
		}
	}
}

func TestARecordOfANewerServerCountsButIsIgnored(t *testing.T) {
	set, err := bundle.Set{}.Apply(strings.NewReader("+future\tkey\tvalue\twhatever\n+app\ta\tA\tmore\n"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := set.Record(1)
	if err != nil || r.Kind != "future" || r.Key != "key" {
		t.Errorf("got %+v, %v", r, err)
	}
	if r, err := set.Record(0); err != nil || r.Value != "A" {
		t.Errorf("got %+v, %v for a record with a field more", r, err)
	}
}

func TestDamagedChangesAreRefused(t *testing.T) {
	base := mustSet(t, bundle.App("a", "A"))
	for _, changes := range []string{
		"app\ta\tA\n", "+\n", "x\n", "+app\n", "+app\tb\tB\n+app\tb\tC\n",
		"+ind\ti\tdomain\tx\tblock\tlow\tcustom\t\tnever\t0\t\n",
		"+app\tb\t" + strings.Repeat("x", bundle.MaxLine+1) + "\n",
		"+" + strings.Repeat("x", bundle.MaxLine-1) + "\n", strings.Repeat("x", bundle.MaxLine) + "\n",
	} {
		_, err := base.Apply(strings.NewReader(changes))
		if err == nil {
			t.Errorf("got no error for %.60q", changes)
			continue
		}
		// It goes into event 5900 as its reason, which is bounded.
		if n := len(err.Error()); n > 500 {
			t.Errorf("the error for %.60q has %d bytes", changes, n)
		}
	}
}

func mustSet(tb testing.TB, records ...bundle.Record) bundle.Set {
	tb.Helper()
	set, err := bundle.NewSet(slices.Values(records))
	if err != nil {
		tb.Fatal(err)
	}
	return set
}

func someRecords(n int) []bundle.Record {
	records := make([]bundle.Record, 0, n)
	for i := range n {
		switch i % 4 {
		case 0:
			records = append(records, bundle.App(fmt.Sprintf("app-%d", i), "App"))
		case 1:
			records = append(records, bundle.Spare(fmt.Sprintf("n%d.example", i), "app-0"))
		default:
			records = append(records, bundle.Indicator(indicator.Indicator{
				ID: fmt.Sprintf("app-0:n%d.example", i), Type: indicator.TypeDomain, Value: fmt.Sprintf("n%d.example", i),
				Action: indicator.ActionBlock, Source: indicator.SourceCatalog, AppID: "app-0",
			}))
		}
	}
	return records
}

// pick returns a random part of records, some of them changed.
func pick(rng *rand.Rand, records []bundle.Record) []bundle.Record {
	var out []bundle.Record
	for _, r := range records {
		if rng.IntN(3) == 0 {
			continue
		}
		if r.Kind == bundle.KindApp && rng.IntN(4) == 0 {
			r.Value = "Renamed"
		}
		out = append(out, r)
	}
	return out
}

func TestARecordKeepsForWhomAndWhenItCounts(t *testing.T) {
	for _, r := range []bundle.Record{
		bundle.Indicator(indicator.Indicator{
			ID: "i", Type: indicator.TypeDomain, Value: "example.com", Action: indicator.ActionBlock, Source: indicator.SourceCustom,
			Scope: indicator.Profile{
				People:  indicator.People{IncludeUsers: []string{"anna"}, ExcludeUserGroups: []string{"vip\tuser"}},
				Windows: []indicator.Window{{Days: []indicator.Day{indicator.Friday}, From: "08:00", To: "17:00"}},
			},
		}),
		bundle.Revocation(bypass.Revocation{ID: "r", Subject: "dropbox", User: "anna", Before: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}),
	} {
		set, err := bundle.NewSet(slices.Values([]bundle.Record{r}))
		if err != nil {
			t.Fatal(err)
		}
		got, err := set.Record(0)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", r.Kind, diff)
		}
	}
}

func TestTheRecordsOfOneKind(t *testing.T) {
	set := mustSet(t, bundle.Spare("aws.amazon.com", "aws"), bundle.App("b", "B"), bundle.Setting("fail_mode", "open", ""), bundle.App("a", "A"))
	for kind, want := range map[bundle.Kind][]string{
		bundle.KindApp: {"a", "b"}, bundle.KindSetting: {"fail_mode"}, bundle.KindSpare: {"aws.amazon.com"}, bundle.KindIndicator: nil, "s": nil,
	} {
		var got []string
		for r := range set.OfKind(kind) {
			got = append(got, r.Key)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", kind, diff)
		}
	}
}
