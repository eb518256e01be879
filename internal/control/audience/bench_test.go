package audience_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"interdict/internal/cloudapp"
	"interdict/internal/control/audience"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// large returns 10,000 devices in 500 overlapping groups, nine in ten of them
// by rules, so that a device is in about 60, and 200 policies, 20 tags and 100
// indicators that include and exclude such groups.
func large() (*audience.State, *cloudapp.Index) {
	r := rand.New(rand.NewPCG(1, 1))
	s := audience.NewState()
	s.Revision = 1
	group := func(i int) string { return fmt.Sprintf("01JNXC8V7Y%016d", i) }
	some := func(most int) []string {
		var all []string
		for range r.IntN(most + 1) {
			all = append(all, group(r.IntN(500)))
		}
		return all
	}
	scope := func() indicator.Scope {
		return indicator.Scope{Include: append(some(3), group(r.IntN(500))), Exclude: some(2)}
	}
	for i := range 500 {
		g := fleet.Group{ID: group(i)}
		switch {
		case i%10 == 0: // Static members only.
		case i%3 == 0:
			g.Rule = fmt.Sprintf(`os == "linux" && labels.site == "s%d" && version < "1.%d"`, i%20, i%15)
		case i%3 == 1:
			g.Rule = fmt.Sprintf(`"l%d" in labels || name.startsWith("d%02d")`, i%40, i%100)
		default:
			g.Rule = fmt.Sprintf(`labels.ring in ["%d", "%d"] && os_version >= "%d.04"`, i%10, i%7, 18+i%8)
		}
		s.Groups[g.ID] = g
	}
	for i := range 10_000 {
		id := fleet.DeviceID(fmt.Sprintf("01JNXC8V8Z%016d", i))
		s.Devices[id] = audience.Device{
			Device: fleet.Device{
				ID: id, Name: fmt.Sprintf("d%05d", i), OS: []string{"linux", "linux", "windows"}[r.IntN(3)], OSVersion: fmt.Sprintf("Ubuntu %d.04", 18+r.IntN(8)),
				AgentVersion: fmt.Sprintf("1.%d.%d", r.IntN(15), r.IntN(5)),
				Labels:       map[string]string{"site": fmt.Sprintf("s%d", r.IntN(20)), "ring": fmt.Sprint(r.IntN(10)), fmt.Sprintf("l%d", r.IntN(40)): ""},
			},
			Static: []string{group(10 * r.IntN(50)), group(10 * r.IntN(50))},
		}
	}
	for i := range 200 {
		p := fleet.Policy{ID: fmt.Sprintf("01JNXC8VAA%016d", i), Assigned: true, Priority: r.IntN(20), Assignment: scope()}
		p.Settings.NetworkProtection = fleet.Modes()[r.IntN(3)]
		p.Settings.Notifications = []fleet.Switch{"", fleet.Off, fleet.On}[r.IntN(3)]
		p.Settings.WarnBypassDuration = []fleet.Span{"", "", "1h", "8h"}[r.IntN(4)]
		if i%10 == 0 {
			p.Platforms = []string{"linux"}
		}
		s.Policies[p.ID] = p
	}
	var apps []cloudapp.App
	for i := range 20 {
		id := fmt.Sprintf("app-%d", i)
		apps = append(apps, cloudapp.App{ID: id, Name: id, Domains: []cloudapp.Domain{{Name: id + ".example"}, {Name: id + ".example.net"}}})
		s.Taggings[id] = cloudapp.Tagging{AppID: id, Tag: cloudapp.TagUnsanctioned, Scope: indicator.Profile{Scope: scope()}, At: noon}
	}
	for i := range 100 {
		id := fmt.Sprintf("01JNXC8VBB%016d", i)
		s.Indicators[id] = indicator.Indicator{
			ID: id, Type: indicator.TypeDomain, Value: fmt.Sprintf("host-%d.bad.example", i), Action: indicator.ActionBlock,
			Source: indicator.SourceCustom, Scope: indicator.Profile{Scope: scope()}, CreatedAt: noon,
		}
	}
	return s, cloudapp.NewIndex(apps)
}

func largeCompiler(b *testing.B) (*audience.Compiler, *audience.State, *audience.Snapshot) {
	b.Helper()
	s, index := large()
	c := audience.New(audience.Config{Index: index, Protected: indicator.NewProtected()})
	snapshot, _ := compile(b, c, s, everything())
	return c, s, snapshot
}

// BenchmarkOneRuleChanges changes the rule of one group of the large fleet, so
// that about a third of the devices join or leave it, until the bundles can be
// handed out.
func BenchmarkOneRuleChanges(b *testing.B) {
	c, s, snapshot := largeCompiler(b)
	total := 0
	for id := range s.Devices {
		total += len(snapshot.Groups(id))
	}

	// A group that a policy, a tag and an indicator mention.
	id := s.Policies["01JNXC8VAA0000000000000007"].Assignment.Include[0]
	tag := s.Taggings["app-3"]
	tag.Scope.Include = append(tag.Scope.Include, id)
	s.Taggings["app-3"] = tag
	compile(b, c, s, audience.Changed{Taggings: true})
	moved := 0
	publisher := audience.NewPublisher(nil)
	publisher.Remember(snapshot.Audiences())
	b.ResetTimer()
	for i := range b.N {
		s.Revision++
		s.Groups[id] = fleet.Group{ID: id, Rule: []string{`os == "windows"`, `os == "linux" && version < "1.10"`}[i%2]}
		now, devices := compile(b, c, s, audience.Changed{Groups: true})
		publisher.Remember(now.Audiences())
		moved += len(devices)
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/op")
	b.ReportMetric(float64(moved)/float64(b.N), "moved/op")
	b.ReportMetric(float64(total)/float64(len(s.Devices)), "groups/device")
	b.ReportMetric(float64(len(snapshot.Audiences())), "audiences")
}

// BenchmarkOneDeviceChanges changes what one device of the large fleet says of
// itself.
func BenchmarkOneDeviceChanges(b *testing.B) {
	c, s, _ := largeCompiler(b)
	b.ResetTimer()
	for i := range b.N {
		s.Revision++
		compile(b, c, s, put(s, "01JNXC8V8Z0000000000000042", func(d *audience.Device) { d.AgentVersion = fmt.Sprintf("1.%d", i%15) }))
	}
}

// BenchmarkOnePolicyChanges changes a policy of the large fleet.
func BenchmarkOnePolicyChanges(b *testing.B) {
	c, s, _ := largeCompiler(b)
	b.ResetTimer()
	for i := range b.N {
		s.Revision++
		p := s.Policies["01JNXC8VAA0000000000000007"]
		p.Settings.NetworkProtection = fleet.Modes()[i%3]
		s.Policies[p.ID] = p
		compile(b, c, s, audience.Changed{Policies: true})
	}
}

// BenchmarkLargeFleet compiles the large fleet for the first time.
func BenchmarkLargeFleet(b *testing.B) {
	for b.Loop() {
		largeCompiler(b)
	}
}
