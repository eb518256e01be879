package audience_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/bundle"
	"interdict/internal/bypass"
	"interdict/internal/cloudapp"
	"interdict/internal/control/audience"
	"interdict/internal/fleet"
	"interdict/internal/fleet/grouprule"
	"interdict/internal/indicator"
	"interdict/internal/staging"
)

// put puts a device into a state, or alters it.
func put(s *audience.State, id fleet.DeviceID, alter func(*audience.Device)) audience.Changed {
	d := s.Devices[id]
	d.ID = id
	alter(&d)
	s.Devices[id] = d
	return audience.Changed{Devices: map[fleet.DeviceID]bool{id: true}}
}

// setting returns the value and the origin of a setting in a bundle.
func setting(t *testing.T, a *audience.Audience, name string) string {
	t.Helper()
	for _, r := range a.Set.All() {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		if r.Kind == bundle.KindSetting && r.Key == name {
			return strings.TrimSpace(r.Value + " " + r.Origin)
		}
	}
	return ""
}

func TestGroupsFollowRulesAndProperties(t *testing.T) {
	c, s := compiler(), audience.NewState()
	put(s, "a", func(d *audience.Device) { d.OS, d.AgentVersion = "linux", "1.9" })
	put(s, "b", func(d *audience.Device) {
		d.OS, d.AgentVersion, d.Static = "windows", "1.10", []string{"static", "gone"}
	})
	s.Groups["static"] = fleet.Group{ID: "static"}
	s.Groups["linux"] = fleet.Group{ID: "linux", Rule: `os == "linux"`}
	s.Groups["old"] = fleet.Group{ID: "old", Rule: `version < "1.10"`}
	for _, step := range []struct {
		name   string
		change func() audience.Changed
		a, b   string
	}{
		{"at first", everything, "linux old", "static"},
		{"the agent of one is updated", func() audience.Changed {
			return put(s, "a", func(d *audience.Device) { d.AgentVersion = "1.10" })
		}, "linux", "static"},
		{"a rule changes", func() audience.Changed {
			s.Groups["old"] = fleet.Group{ID: "old", Rule: `version < "2"`}
			return audience.Changed{Groups: true}
		}, "linux old", "old static"},
		{"a rule and a device change at once", func() audience.Changed {
			s.Groups["linux"] = fleet.Group{ID: "linux", Rule: `"tux" in labels`}
			changed := put(s, "b", func(d *audience.Device) { d.Labels, d.Static = map[string]string{"tux": ""}, nil })
			changed.Groups = true
			return changed
		}, "old", "linux old"},
		{"a group comes that had a static member before", func() audience.Changed {
			changed := put(s, "b", func(d *audience.Device) { d.Static = []string{"gone"} })
			s.Groups["gone"] = fleet.Group{ID: "gone"}
			changed.Groups = true
			return changed
		}, "old", "gone linux old"},
		{"groups go", func() audience.Changed {
			delete(s.Groups, "gone")
			delete(s.Groups, "old")
			return audience.Changed{Groups: true}
		}, "", "linux"},
		{"a rule goes", func() audience.Changed {
			s.Groups["linux"] = fleet.Group{ID: "linux"}
			return audience.Changed{Groups: true}
		}, "", ""},
	} {
		s.Revision++
		got, _ := compile(t, c, s, step.change())
		if a, b := strings.Join(got.Groups("a"), " "), strings.Join(got.Groups("b"), " "); a != step.a || b != step.b {
			t.Errorf("%s: in groups %q and %q, want %q and %q", step.name, a, b, step.a, step.b)
		}
		for id := range s.Groups {
			if want := strings.Count(step.a+" "+step.b+" ", id+" "); got.Members(id) != want {
				t.Errorf("%s: %d members of %s, want %d", step.name, got.Members(id), id, want)
			}
		}
	}
}

func TestABrokenRuleConcernsItsGroupOnly(t *testing.T) {
	s := audience.NewState()
	put(s, "a", func(d *audience.Device) { d.OS, d.Static = "linux", []string{"broken"} })
	put(s, "b", func(d *audience.Device) { d.OS = "linux" })
	s.Groups["broken"] = fleet.Group{ID: "broken", Rule: `os ==`}
	s.Groups["failing"] = fleet.Group{ID: "failing", Rule: `labels.ring == "1"`}
	s.Groups["linux"] = fleet.Group{ID: "linux", Rule: `os == "linux"`}
	got, _ := compile(t, compiler(), s, everything())
	if a, b := got.Groups("a"), got.Groups("b"); !slices.Equal(a, []string{"broken", "linux"}) || !slices.Equal(b, []string{"linux"}) {
		t.Errorf("in groups %v and %v", a, b)
	}
	if broken := slices.Collect(maps.Keys(got.Broken())); !slices.Equal(broken, []string{"broken"}) {
		t.Errorf("broken: %v", broken)
	}
}

func TestMembersBeforeTheyAreSaved(t *testing.T) {
	s := audience.NewState()
	put(s, "a", func(d *audience.Device) { d.Labels = map[string]string{"ring": "1"} })
	put(s, "b", func(d *audience.Device) { d.Labels = map[string]string{"ring": "2"} })
	put(s, "c", func(*audience.Device) {})
	rule, err := grouprule.Compile(`labels.ring == "1"`)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		rule   *grouprule.Rule
		static []fleet.DeviceID
		want   []fleet.DeviceID
		failed int
	}{
		{"a rule", rule, nil, []fleet.DeviceID{"a"}, 1},
		{"static members", nil, []fleet.DeviceID{"c", "b", "unknown"}, []fleet.DeviceID{"b", "c"}, 0},
		{"both", rule, []fleet.DeviceID{"c", "a"}, []fleet.DeviceID{"a", "c"}, 1},
		{"nothing", nil, nil, nil, 0},
	} {
		got := audience.Members(s, test.rule, test.static)
		if !slices.Equal(got.Devices, test.want) || got.Failed != test.failed || (got.Failure != nil) != (test.failed > 0) {
			t.Errorf("%s: got %+v, want %v with %d failing", test.name, got, test.want, test.failed)
		}
	}
}

func TestOnlyMentionedDevicesAreToldApart(t *testing.T) {
	c, s := compiler(), fleetOf(6, 3)
	snapshot, _ := compile(t, c, s, everything())
	if n := len(snapshot.Audiences()); n != 1 {
		t.Errorf("%d audiences of devices that nothing mentions, want 1", n)
	}
	s.Revision++
	s.Taggings["itunes"] = tagging(fleet.DeviceGroup("d00003"))
	s.Policies["p"] = fleet.Policy{
		ID: "p", Assigned: true, Settings: fleet.Settings{NetworkProtection: fleet.ModeBlock},
		Assignment: indicator.Scope{Exclude: []string{fleet.DeviceGroup("d00004")}},
	}
	snapshot, _ = compile(t, c, s, audience.Changed{Taggings: true, Policies: true})
	if n := len(snapshot.Audiences()); n != 3 {
		t.Errorf("%d audiences, want 3", n)
	}
	for id, want := range map[fleet.DeviceID]string{"d00002": "block p, 3", "d00003": "block p, 4", "d00004": "disabled, 3"} {
		a := snapshot.Of(id)
		if got := fmt.Sprintf("%s, %d", setting(t, a, fleet.SettingNetworkProtection), len(keys(t, a, bundle.KindIndicator))); got != want {
			t.Errorf("device %s: %s indicators, want %s", id, got, want)
		}
	}
	if got := snapshot.Target("d00003"); !slices.Equal(got.Groups, []string{"g1", "device:d00003"}) {
		t.Errorf("target %+v", got)
	}
}

func TestEverySettingIsARecord(t *testing.T) {
	s := fleetOf(1, 0)
	for _, d := range fleet.Definitions() {
		if d.Default != "" {
			continue
		}
		p := fleet.Policy{ID: "p-" + d.Name, Assigned: true}
		value := "some text"
		if d.Name == fleet.SettingSupportURL {
			value = "https://help.example.com/"
		}
		if err := d.Set(&p.Settings, value); err != nil {
			t.Fatal(err)
		}
		before, _ := compile(t, compiler(), s, everything())
		if got := setting(t, before.Of("d00000"), d.Name); got != "" {
			t.Errorf("%s is %q though nobody set it", d.Name, got)
		}
		s.Policies[p.ID] = p
	}
	snapshot, _ := compile(t, compiler(), s, everything())
	a := snapshot.Of("d00000")
	for _, d := range fleet.Definitions() {
		want := strings.TrimSpace(d.Get(&a.Effective.Settings) + " " + a.Effective.Origin[d.Name])
		if got := setting(t, a, d.Name); got == "" || got != want {
			t.Errorf("%s is %q, want %q", d.Name, got, want)
		}
	}
}

func TestDevicesWithOtherConflictsAreToldApart(t *testing.T) {
	s := fleetOf(2, 0)
	for id, mode := range map[string]fleet.Mode{"a": fleet.ModeBlock, "b": fleet.ModeAudit} {
		s.Policies[id] = fleet.Policy{ID: id, Assigned: true, Settings: fleet.Settings{NetworkProtection: mode}}
	}
	b := s.Policies["b"]
	b.Assignment.Include = []string{"g1"}
	s.Policies["b"] = b
	snapshot, _ := compile(t, compiler(), s, everything())
	x, y := snapshot.Of("d00000"), snapshot.Of("d00001")
	if len(x.Effective.Conflicts) != 0 || len(y.Effective.Conflicts) != 1 || x.Digest != y.Digest {
		t.Errorf("conflicts %v and %v, digests %s and %s", x.Effective.Conflicts, y.Effective.Conflicts, x.Digest, y.Digest)
	}
}

func TestAPlatformFilterTellsSystemsApart(t *testing.T) {
	c, s := compiler(), fleetOf(2, 0)
	put(s, "d00000", func(d *audience.Device) { d.OS = "linux" })
	s.Policies["p"] = fleet.Policy{ID: "p", Assigned: true, Platforms: []string{"linux"}, Settings: fleet.Settings{FailMode: fleet.FailClosed}}
	snapshot, _ := compile(t, c, s, everything())
	if x, y := setting(t, snapshot.Of("d00000"), "fail_mode"), setting(t, snapshot.Of("d00001"), "fail_mode"); x != "closed p" || y != "open" {
		t.Errorf("fail mode %q on linux, %q elsewhere", x, y)
	}
	s.Revision++
	snapshot, moved := compile(t, c, s, put(s, "d00001", func(d *audience.Device) { d.OS = "linux" }))
	if !slices.Equal(moved, []fleet.DeviceID{"d00001"}) || snapshot.Of("d00001") != snapshot.Of("d00000") {
		t.Errorf("after it said its system: moved %v", moved)
	}
}

func TestTheCanaryHasWhatIsOnTrial(t *testing.T) {
	c, s := compiler(), fleetOf(3, 0)
	s.Groups["canary"] = fleet.Group{ID: "canary", Rule: `name == "c"`}
	put(s, "d00002", func(d *audience.Device) { d.Name = "c" })
	s.Policies["p"] = fleet.Policy{ID: "p", Assigned: true, Settings: fleet.Settings{NetworkProtection: fleet.ModeAudit}}
	compile(t, c, s, everything())

	after := s.Policies["p"]
	after.Settings.NetworkProtection = fleet.ModeBlock
	tag := tagging()
	s.Rollouts["r1"] = staging.Rollout{ID: "r1", State: staging.StateTrial, Canary: "canary", AfterPolicy: &after}
	s.Rollouts["r2"] = staging.Rollout{ID: "r2", State: staging.StateTrial, Canary: "canary", AfterTag: &tag}
	s.Revision++
	snapshot, moved := compile(t, c, s, audience.Changed{Rollouts: true})
	if !slices.Equal(moved, []fleet.DeviceID{"d00002"}) {
		t.Errorf("moved %v, want the canary", moved)
	}
	check := func(id fleet.DeviceID, mode string, indicators int) {
		t.Helper()
		a := snapshot.Of(id)
		if got, n := setting(t, a, "network_protection"), len(keys(t, a, bundle.KindIndicator)); got != mode || n != indicators {
			t.Errorf("device %s: %q with %d indicators, want %q with %d", id, got, n, mode, indicators)
		}
	}
	check("d00000", "audit p", 0)
	check("d00002", "block p", 1)

	for id, r := range s.Rollouts {
		r.State = staging.StateStopped
		s.Rollouts[id] = r
	}
	s.Revision++
	snapshot, moved = compile(t, c, s, audience.Changed{Rollouts: true})
	if !slices.Equal(moved, []fleet.DeviceID{"d00002"}) {
		t.Errorf("moved %v, want the canary", moved)
	}
	check("d00002", "audit p", 0)
}

func TestRevocationsReachTheirDevicesWhileTheyMatter(t *testing.T) {
	c, s := compiler(), fleetOf(2, 0)
	s.At = noon
	for id, age := range map[string]time.Duration{"new": time.Hour, "old": bypass.MaxAge + time.Second} {
		s.Revocations[id] = bypass.ScopedRevocation{
			Revocation: bypass.Revocation{ID: id, Subject: "itunes", User: "ada", Before: noon.Add(-age)},
			Scope:      indicator.Scope{Include: []string{"g1"}},
		}
	}
	snapshot, _ := compile(t, c, s, everything())
	if got := keys(t, snapshot.Of("d00000"), bundle.KindRevocation); len(got) != 0 {
		t.Errorf("a device out of scope has %v", got)
	}
	if got := keys(t, snapshot.Of("d00001"), bundle.KindRevocation); !slices.Equal(got, []string{"new"}) {
		t.Errorf("a device in scope has %v, want the new one", got)
	}
	s.Revision++
	delete(s.Revocations, "new")
	if _, moved := compile(t, c, s, audience.Changed{Revocations: true}); !slices.Equal(moved, []fleet.DeviceID{"d00001"}) {
		t.Errorf("moved %v", moved)
	}
}

func TestPeopleAndTimesTravel(t *testing.T) {
	s := fleetOf(1, 1)
	tag := tagging("g0")
	tag.Scope.IncludeUsers, tag.Scope.Windows = []string{"ada"}, []indicator.Window{{From: "08:00", To: "17:00"}}
	s.Taggings["itunes"] = tag
	for id, i := range s.Indicators {
		i.Scope.ExcludeUserGroups = []string{"staff"}
		s.Indicators[id] = i
	}
	snapshot, _ := compile(t, compiler(), s, everything())
	for _, r := range snapshot.Of("d00000").Set.All() {
		want := indicator.Profile{People: indicator.People{ExcludeUserGroups: []string{"staff"}}}
		if r.Indicator.Source == indicator.SourceCatalog {
			want = indicator.Profile{People: tag.Scope.People, Windows: tag.Scope.Windows}
		}
		if diff := cmp.Diff(want, r.Indicator.Scope); r.Kind == bundle.KindIndicator && diff != "" {
			t.Errorf("%s (-want +got):\n%s", r.Key, diff)
		}
	}
}

// world alters a state at random.
type world struct {
	*rand.Rand
	state *audience.State
}

func (w *world) group() string { return fmt.Sprintf("g%d", w.IntN(8)) }

func (w *world) scope() indicator.Scope {
	var s indicator.Scope
	for range w.IntN(3) {
		s.Include = append(s.Include, w.group())
	}
	if w.IntN(3) == 0 {
		s.Exclude = []string{w.group(), fleet.DeviceGroup(w.device())}
	}
	return s
}

func (w *world) device() fleet.DeviceID { return fleet.DeviceID(fmt.Sprintf("d%d", w.IntN(12))) }

func (w *world) policy() fleet.Policy {
	p := fleet.Policy{ID: fmt.Sprintf("p%d", w.IntN(5)), Assigned: w.IntN(5) > 0, Priority: w.IntN(2), Assignment: w.scope()}
	p.Settings.NetworkProtection = fleet.Modes()[w.IntN(3)]
	p.Settings.SupportContact = []string{"", "desk", "IT"}[w.IntN(3)]
	if w.IntN(3) == 0 {
		p.Platforms = []string{"linux"}
	}
	return p
}

func (w *world) tagging() cloudapp.Tagging {
	return cloudapp.Tagging{
		AppID: []string{"itunes", "apple-dev"}[w.IntN(2)], At: noon, Scope: indicator.Profile{Scope: w.scope()},
		Tag: []cloudapp.Tag{cloudapp.TagNone, cloudapp.TagUnsanctioned, cloudapp.TagMonitored}[w.IntN(3)],
	}
}

// gone says whether something is to be removed rather than put.
func (w *world) gone() bool { return w.IntN(5) == 0 }

func (w *world) change() audience.Changed {
	s := w.state
	s.Revision++
	switch w.IntN(8) {
	case 0:
		id := w.device()
		changed := put(s, id, func(d *audience.Device) {
			d.OS, d.Labels = []string{"", "linux", "windows"}[w.IntN(3)], map[string]string{"n": fmt.Sprint(w.IntN(4))}
			d.Static = []string{w.group()}
		})
		if w.gone() {
			delete(s.Devices, id)
		}
		return changed
	case 1, 2:
		id := w.group()
		rule := []string{"", `os == "linux"`, `labels.n == "1"`, `labels.n != "2" && os != ""`, "broken("}[w.IntN(5)]
		if s.Groups[id] = (fleet.Group{ID: id, Rule: rule}); w.gone() {
			delete(s.Groups, id)
		}
		return audience.Changed{Groups: true}
	case 3:
		p := w.policy()
		if s.Policies[p.ID] = p; w.gone() {
			delete(s.Policies, p.ID)
		}
		return audience.Changed{Policies: true}
	case 4:
		t := w.tagging()
		if s.Taggings[t.AppID] = t; w.gone() {
			delete(s.Taggings, t.AppID)
		}
		return audience.Changed{Taggings: true}
	case 5:
		id := fmt.Sprintf("i%d", w.IntN(5))
		s.Indicators[id] = indicator.Indicator{ID: id, Type: indicator.TypeDomain, Value: id + ".example", Action: indicator.ActionBlock, Scope: indicator.Profile{Scope: w.scope()}}
		if w.gone() {
			delete(s.Indicators, id)
		}
		return audience.Changed{Indicators: map[string]bool{id: true}}
	case 6:
		id := fmt.Sprintf("r%d", w.IntN(3))
		r := staging.Rollout{ID: id, State: []staging.State{staging.StateTrial, staging.StateDone}[w.IntN(2)], Canary: w.group()}
		if w.IntN(2) == 0 {
			p := w.policy()
			r.AfterPolicy = &p
		} else {
			t := w.tagging()
			r.AfterTag = &t
		}
		s.Rollouts[id] = r
		return audience.Changed{Rollouts: true}
	default:
		id := fmt.Sprintf("v%d", w.IntN(3))
		s.Revocations[id] = bypass.ScopedRevocation{Revocation: bypass.Revocation{ID: id, Before: noon.Add(time.Duration(w.IntN(3)) * time.Hour)}, Scope: w.scope()}
		if w.gone() {
			delete(s.Revocations, id)
		}
		return audience.Changed{Revocations: true}
	}
}

// Whatever is remembered, the result is as if it were not.
func TestFollowingAnyChangesGivesTheSameAsCompilingAfresh(t *testing.T) {
	for seed := range uint64(6) {
		w := &world{rand.New(rand.NewPCG(seed, 7)), audience.NewState()}
		c := compiler()
		before, _ := compile(t, c, w.state, everything())
		for step := range 250 {
			followed, moved := compile(t, c, w.state, w.change())
			afresh, _ := compile(t, compiler(), w.state, everything())
			for id := range w.state.Devices {
				f, a := followed.Of(id), afresh.Of(id)
				if f == nil || f.Digest != a.Digest || f.Key != a.Key || !slices.Equal(followed.Groups(id), afresh.Groups(id)) {
					t.Fatalf("seed %d, step %d, device %s:\n%+v in %v, want\n%+v in %v", seed, step, id, f, followed.Groups(id), a, afresh.Groups(id))
				}
				old := before.Of(id)
				if news := old == nil || old.Digest != f.Digest; news != slices.Contains(moved, id) || news != (followed.Since(id) == w.state.Revision) {
					t.Fatalf("seed %d, step %d, device %s: has something new: %v, moved %v, since %d", seed, step, id, news, moved, followed.Since(id))
				}
				if old != nil && f.Digest != old.Digest && f.Version != w.state.Revision {
					t.Fatalf("seed %d, step %d, device %s: version %d after %d at revision %d", seed, step, id, f.Version, old.Version, w.state.Revision)
				}
			}
			before = followed
		}
	}
}
