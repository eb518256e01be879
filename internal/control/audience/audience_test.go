package audience_test

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"interdict/internal/bundle"
	"interdict/internal/cloudapp"
	"interdict/internal/control/audience"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func compiler() *audience.Compiler {
	return audience.New(audience.Config{
		Index: cloudapp.NewIndex([]cloudapp.App{
			{ID: "itunes", Name: "iTunes", Domains: []cloudapp.Domain{{Name: "itunes.apple.com"}, {Name: "server.example.net"}}},
			{ID: "apple-dev", Name: "Apple Developer", Domains: []cloudapp.Domain{{Name: "dev.itunes.apple.com"}}},
		}),
		Protected: indicator.NewProtected(indicator.Host{Name: "server.example.net", Reason: "is the server"}),
	})
}

// fleetOf returns a state with devices in two groups by turns, and custom
// indicators for everybody.
func fleetOf(devices, indicators int) *audience.State {
	s := audience.NewState()
	s.Revision = 1
	for _, g := range []string{"g0", "g1"} {
		s.Groups[g] = fleet.Group{ID: g, Name: g}
	}
	for i := range devices {
		id := fleet.DeviceID(fmt.Sprintf("d%05d", i))
		s.Devices[id] = audience.Device{Device: fleet.Device{ID: id}, Static: []string{fmt.Sprintf("g%d", i%2)}}
	}
	for i := range indicators {
		id := fmt.Sprintf("01JNXC8V7Y%016d", i)
		s.Indicators[id] = indicator.Indicator{
			ID: id, Type: indicator.TypeDomain, Value: fmt.Sprintf("host-%d.bad.example", i), Action: indicator.ActionBlock,
			Severity: indicator.SeverityHigh, Source: indicator.SourceCustom, CreatedAt: noon,
		}
	}
	return s
}

func compile(tb testing.TB, c *audience.Compiler, s *audience.State, changed audience.Changed) (*audience.Snapshot, []fleet.DeviceID) {
	tb.Helper()
	snapshot, moved, err := c.Compile(s, changed)
	if err != nil {
		tb.Fatalf("compiling: %v", err)
	}
	return snapshot, moved
}

func everything() audience.Changed { return audience.Changed{Everything: true} }

func tagging(scope ...string) cloudapp.Tagging {
	return cloudapp.Tagging{AppID: "itunes", Tag: cloudapp.TagUnsanctioned, Scope: indicator.Profile{Scope: indicator.Scope{Include: scope}}, At: noon}
}

// keys returns the keys of an audience's records of a kind.
func keys(t *testing.T, a *audience.Audience, kind bundle.Kind) []string {
	t.Helper()
	var all []string
	for _, r := range a.Set.All() {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		if r.Kind == kind {
			all = append(all, r.Key)
		}
	}
	return all
}

func TestDevicesShareAnAudienceUntilAScopeTellsThemApart(t *testing.T) {
	c, s := compiler(), fleetOf(4, 3)
	before, moved := compile(t, c, s, everything())
	if len(moved) != 4 || before.Of("d00000") != before.Of("d00001") {
		t.Errorf("%d devices have something new, in audiences %p and %p: want 4 in one", len(moved), before.Of("d00000"), before.Of("d00001"))
	}
	s.Revision, s.Taggings["itunes"] = 2, tagging("g1")
	after, moved := compile(t, c, s, audience.Changed{Taggings: true})
	slices.Sort(moved)
	if want := []fleet.DeviceID{"d00001", "d00003"}; !slices.Equal(moved, want) {
		t.Errorf("moved %v, want %v", moved, want)
	}
	if got := after.Of("d00000"); got.Digest != before.Of("d00000").Digest {
		t.Error("the devices outside the scope have to enforce something else")
	}
	if got := after.Of("d00001"); got.Version != 2 {
		t.Errorf("version %d, want 2", got.Version)
	}
	if got, want := keys(t, after.Of("d00001"), bundle.KindSpare), []string{"dev.itunes.apple.com"}; !slices.Equal(got, want) {
		t.Errorf("spares %v, want %v", got, want)
	}
}

func TestProtectedNamesStayOutOfBundles(t *testing.T) {
	c, s := compiler(), fleetOf(1, 0)
	s.Taggings["itunes"] = tagging()
	s.Indicators["x"] = indicator.Indicator{ID: "x", Type: indicator.TypeDomain, Value: "example.net", Action: indicator.ActionBlock}
	snapshot, _ := compile(t, c, s, everything())
	got, want := keys(t, snapshot.Of("d00000"), bundle.KindIndicator), []string{"itunes:itunes.apple.com"}
	if !slices.Equal(got, want) {
		t.Errorf("indicators %v, want %v", got, want)
	}
}

func TestFeaturesTurnIndicatorsOff(t *testing.T) {
	c, s := compiler(), fleetOf(1, 2)
	s.Taggings["itunes"] = tagging()
	s.Features[fleet.FeatureAppEnforcement] = false
	snapshot, _ := compile(t, c, s, everything())
	if got := keys(t, snapshot.Of("d00000"), bundle.KindIndicator); len(got) != 2 {
		t.Errorf("without app enforcement: %v, want the two custom indicators", got)
	}
	s.Features[fleet.FeatureAppEnforcement], s.Features[fleet.FeatureCustomIndicators] = true, false
	snapshot, _ = compile(t, c, s, audience.Changed{Features: true})
	if got, want := keys(t, snapshot.Of("d00000"), bundle.KindIndicator), []string{"itunes:itunes.apple.com"}; !slices.Equal(got, want) {
		t.Errorf("without custom indicators: %v, want %v", got, want)
	}
}

func TestFollowingChangesGivesTheSameAsCompilingAfresh(t *testing.T) {
	c, s := compiler(), fleetOf(6, 20)
	compile(t, c, s, everything())
	steps := []func() audience.Changed{
		func() audience.Changed {
			s.Taggings["itunes"] = tagging("g0")
			return audience.Changed{Taggings: true}
		},
		func() audience.Changed {
			i := s.Indicators["01JNXC8V7Y0000000000000003"]
			i.Scope = indicator.Profile{Scope: indicator.Scope{Exclude: []string{"g1"}}}
			s.Indicators[i.ID] = i
			delete(s.Indicators, "01JNXC8V7Y0000000000000005")
			return audience.Changed{Indicators: map[string]bool{i.ID: true, "01JNXC8V7Y0000000000000005": true}}
		},
		func() audience.Changed {
			s.Policies["p"] = fleet.Policy{ID: "p", Assigned: true, Settings: fleet.Settings{NetworkProtection: fleet.ModeBlock}}
			return audience.Changed{Policies: true}
		},
		func() audience.Changed {
			d := s.Devices["d00000"]
			d.Static = []string{"g1"}
			s.Devices["d00000"] = d
			delete(s.Devices, "d00001")
			return audience.Changed{Devices: map[fleet.DeviceID]bool{"d00000": true, "d00001": true}}
		},
	}
	for n, step := range steps {
		s.Revision++
		followed, _ := compile(t, c, s, step())
		afresh, _ := compile(t, compiler(), s, everything())
		for id := range s.Devices {
			if got, want := followed.Of(id).Digest, afresh.Of(id).Digest; got != want {
				t.Errorf("step %d, device %s: digest %s, want %s", n, id, got, want)
			}
		}
		if followed.Of("gone") != nil {
			t.Error("a device that does not exist has an audience")
		}
	}
}

func TestAChangeIsDatedForTheDevicesItConcernsOnly(t *testing.T) {
	c, s := compiler(), fleetOf(4, 3)
	compile(t, c, s, everything())
	s.Revision++
	s.Taggings["itunes"] = tagging("g0")
	compile(t, c, s, audience.Changed{Taggings: true})
	s.Revision++
	// It leaves g1 as it is, though g1 is told apart from others by now.
	s.Groups["g2"] = fleet.Group{ID: "g2", Name: "g2"}
	s.Taggings["apple-dev"] = cloudapp.Tagging{AppID: "apple-dev", Tag: cloudapp.TagUnsanctioned, Scope: indicator.Profile{Scope: indicator.Scope{Include: []string{"g0"}, Exclude: []string{"g1"}}}, At: noon}
	got, _ := compile(t, c, s, audience.Changed{Taggings: true, Groups: true})
	for id, want := range map[fleet.DeviceID]uint64{"d00000": 3, "d00001": 1, "d00002": 3, "d00003": 1, "gone": 0} {
		if since := got.Since(id); since != want {
			t.Errorf("device %s has it since revision %d, want %d", id, since, want)
		}
	}
}

func TestADifferenceOfOneTagIsSmall(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	c, s, p := compiler(), fleetOf(1, 100_000), audience.NewPublisher(private)
	first, _ := compile(t, c, s, everything())
	before := first.Of("d00000")
	p.Remember(first.Audiences())
	s.Revision, s.Taggings["itunes"] = 2, tagging()
	second, _ := compile(t, c, s, audience.Changed{Taggings: true})
	after := second.Of("d00000")

	text, err := p.Envelope(after, after.Version, before.Digest, noon)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) >= 2048 {
		t.Errorf("the difference has %d bytes, want less than 2048", len(text))
	}
	again, err := p.Envelope(after, after.Version, before.Digest, noon.Add(time.Minute))
	if err != nil || &again[0] != &text[0] {
		t.Errorf("the difference was packed twice (%v)", err)
	}
	have := bundle.Current{Version: 1, Digest: before.Digest, Set: before.Set}
	if digest := open(t, public, text, have); digest != after.Digest {
		t.Errorf("the difference leads to %s, want %s", digest, after.Digest)
	}
	whole, err := p.Envelope(after, after.Version, "unknown", noon)
	if err != nil {
		t.Fatal(err)
	}
	if digest := open(t, public, whole, bundle.Current{}); digest != after.Digest {
		t.Errorf("the whole leads to %s, want %s", digest, after.Digest)
	}
}

func TestSetsInForceAreRememberedLongest(t *testing.T) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	p := audience.NewPublisher(private)
	set := func(n int) *audience.Audience {
		s, err := bundle.NewSet(slices.Values([]bundle.Record{bundle.App("app", fmt.Sprint(n))}))
		if err != nil {
			t.Fatal(err)
		}
		return &audience.Audience{Set: s, Digest: s.Digest()}
	}
	standing, old := set(-1), set(0)
	p.Remember([]*audience.Audience{standing, old})
	var newest *audience.Audience
	for n := range 3000 {
		newest = set(n + 1)
		p.Remember([]*audience.Audience{standing, newest})
	}
	for _, test := range []struct {
		name string
		from *audience.Audience
		want string
	}{
		{"a set in force all the time", standing, standing.Digest},
		{"a set outdated long ago", old, ""},
	} {
		text, err := p.Envelope(newest, 1, test.from.Digest, noon)
		if err != nil {
			t.Fatal(err)
		}
		var e bundle.Envelope
		if err := json.Unmarshal(text, &e); err != nil {
			t.Fatal(err)
		}
		if e.Base != test.want {
			t.Errorf("%s: the bundle is a difference from %q, want %q", test.name, e.Base, test.want)
		}
	}
}

func open(t *testing.T, key ed25519.PublicKey, text []byte, have bundle.Current) string {
	t.Helper()
	var e bundle.Envelope
	if err := json.Unmarshal(text, &e); err != nil {
		t.Fatal(err)
	}
	h, _, err := e.Open(key, have, noon)
	if err != nil {
		t.Fatalf("opening the bundle: %v", err)
	}
	return h.Digest
}

// BenchmarkTag compiles the change of one tag for 10,000 devices in two
// audiences with 100,000 indicators.
func TestDifferencesAreMadeFromTheLastSetsOfALargeFleet(t *testing.T) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	const fleets, audiences = 3, 3000
	p := audience.NewPublisher(private)
	var all [fleets][]*audience.Audience
	for generation := range all {
		for i := range audiences {
			record := bundle.Setting("text", fmt.Sprintf("%d %d", generation, i), "")
			set, err := bundle.NewSet(slices.Values([]bundle.Record{record}))
			if err != nil {
				t.Fatal(err)
			}
			all[generation] = append(all[generation], &audience.Audience{Key: fmt.Sprint(i), Set: set, Digest: set.Digest()})
		}
		p.Remember(all[generation])
	}
	for generation, known := range []bool{false, true, true} {
		found := 0
		for i, a := range all[generation] {
			text, err := p.Envelope(all[fleets-1][i], 1, a.Digest, noon)
			var e bundle.Envelope
			if err == nil {
				err = json.Unmarshal(text, &e)
			}
			if err != nil {
				t.Fatal(err)
			}
			if e.Base != "" {
				found++
			}
		}
		if known && found != audiences || !known && found != 0 {
			t.Errorf("sets of change %d: %d of %d are known, want all %v", generation, found, audiences, known)
		}
	}
}

func BenchmarkTag(b *testing.B) {
	c, s := compiler(), fleetOf(10_000, 100_000)
	compile(b, c, s, everything())
	b.ResetTimer()
	for i := range b.N {
		s.Revision++
		s.Taggings["itunes"] = tagging("g1")
		if i%2 == 1 {
			delete(s.Taggings, "itunes")
		}
		if _, moved := compile(b, c, s, audience.Changed{Taggings: true}); len(moved) != 5000 {
			b.Fatalf("%d devices moved, want 5000", len(moved))
		}
	}
}

// BenchmarkIndicator adds one indicator to 100,000.
func BenchmarkIndicator(b *testing.B) {
	c, s := compiler(), fleetOf(10_000, 100_000)
	compile(b, c, s, everything())
	b.ResetTimer()
	for i := range b.N {
		s.Revision++
		id := fmt.Sprintf("01JNXC8V7Z%016d", i)
		s.Indicators[id] = indicator.Indicator{ID: id, Type: indicator.TypeDomain, Value: id + ".example", Action: indicator.ActionBlock}
		compile(b, c, s, audience.Changed{Indicators: map[string]bool{id: true}})
	}
}

// BenchmarkEnroll adds one device to 10,000.
func BenchmarkEnroll(b *testing.B) {
	c, s := compiler(), fleetOf(10_000, 100_000)
	compile(b, c, s, everything())
	b.ResetTimer()
	for i := range b.N {
		s.Revision++
		id := fleet.DeviceID(fmt.Sprintf("e%05d", i))
		s.Devices[id] = audience.Device{Device: fleet.Device{ID: id}, Static: []string{"g1"}}
		compile(b, c, s, audience.Changed{Devices: map[fleet.DeviceID]bool{id: true}})
	}
}
