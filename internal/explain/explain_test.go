package explain_test

import (
	"flag"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/bundle"
	"interdict/internal/bypass"
	"interdict/internal/cloudapp"
	"interdict/internal/event"
	"interdict/internal/explain"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/staging"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// blocked are the facts of a connection that is refused as it ought to be.
func blocked() explain.Facts {
	effective := fleet.Effective{Settings: fleet.Defaults(), Origin: map[string]string{fleet.SettingNetworkProtection: "p1"}}
	effective.Settings.NetworkProtection = fleet.ModeBlock
	return explain.Facts{
		Subject: explain.Subject{Host: "init.itunes.apple.com"},
		Now:     noon,
		App:     &explain.App{ID: "itunes", Name: "iTunes", Domain: "itunes.apple.com"},
		Tagging: &cloudapp.Tagging{AppID: "itunes", Tag: cloudapp.TagUnsanctioned, By: "admin", At: noon},
		Candidates: []explain.Candidate{{
			Indicator: indicator.Indicator{
				ID: "itunes:itunes.apple.com", Type: indicator.TypeDomain, Value: "itunes.apple.com", Action: indicator.ActionBlock,
				Source: indicator.SourceCatalog, AppID: "itunes",
			},
			Feature: fleet.FeatureAppEnforcement, FeatureOn: true, DeviceInScope: true,
		}},
		Device: explain.Device{Device: fleet.Device{
			ID: "d1", Name: "anna", Groups: []string{"g1"}, Online: true, Desired: "digest", Applied: fleet.Applied{Version: 7, Digest: "digest", At: noon},
		}},
		Policies: explain.Policies{Effective: effective, Name: func(id string) string { return map[string]string{"p1": "Office"}[id] }},
		Answer: &bundle.Answer{
			Version: 7, Enforcing: true, Listening: true, Action: indicator.ActionBlock, Mode: fleet.ModeBlock,
			IndicatorID: "itunes:itunes.apple.com", Indicator: "itunes.apple.com", Step: "domain",
		},
	}
}

// passes makes the device's answer that it lets the connection pass.
func passes(f *explain.Facts) {
	f.Answer.Action, f.Answer.IndicatorID, f.Answer.Indicator, f.Answer.Step = "", "", "", "none"
}

// linkCase is a set-up that is broken in one way.
type linkCase struct {
	name     string
	spoil    func(f *explain.Facts)
	outcome  explain.Outcome
	decisive explain.Name
	// says is part of what the link says, fix of how to mend it.
	says, fix string
}

// linkCases are set-ups, with the link that decides in each.
func linkCases() []linkCase {
	return []linkCase{
		{"all is well", func(*explain.Facts) {}, "blocked", explain.LinkTag, "tagged unsanctioned, by admin", ""},
		{"no app has the name", func(f *explain.Facts) {
			f.App, f.Tagging, f.Candidates = nil, nil, nil
			passes(f)
		}, "allowed", explain.LinkApp, "no app of the catalog", "indicator add domain init.itunes.apple.com"},
		{"several apps share the name", func(f *explain.Facts) {
			f.App.Shared, f.Candidates = true, nil
			passes(f)
		}, "allowed", explain.LinkApp, "several apps share", "indicator add"},
		{"the app is not tagged", func(f *explain.Facts) {
			f.Tagging, f.Candidates = nil, nil
			passes(f)
		}, "allowed", explain.LinkTag, "not tagged", "app tag itunes unsanctioned"},
		{"the app is sanctioned", func(f *explain.Facts) {
			f.Tagging.Tag, f.Candidates = cloudapp.TagSanctioned, nil
			passes(f)
		}, "allowed", explain.LinkTag, "tagged sanctioned", "app tag itunes unsanctioned"},
		{"the tag is on trial elsewhere", func(f *explain.Facts) {
			f.Tagging, f.Candidates = nil, nil
			f.Trial = &staging.Rollout{ID: "r1", State: staging.StateTrial, Canary: "g9", AfterTag: &cloudapp.Tagging{AppID: "itunes", Tag: cloudapp.TagUnsanctioned}}
			passes(f)
		}, "allowed", explain.LinkTag, "on trial in group g9", "rollout advance r1"},
		{"the tag is on trial here", func(f *explain.Facts) {
			f.Tagging = nil
			f.Trial = &staging.Rollout{ID: "r1", State: staging.StateTrial, Canary: "g1", AfterTag: &cloudapp.Tagging{AppID: "itunes", Tag: cloudapp.TagUnsanctioned}}
		}, "blocked", explain.LinkTag, "on trial in group g1", ""},
		{"the feature is off", func(f *explain.Facts) {
			f.Candidates[0].FeatureOn = false
			passes(f)
		}, "allowed", explain.LinkFeature, "is off", "feature set app_enforcement on"},
		{"the name belongs to another app", func(f *explain.Facts) {
			f.Candidates[0].SparedFor = "apple-music"
			passes(f)
		}, "allowed", explain.LinkIndicator, "belongs to the app apple-music", "app tag apple-music"},
		{"the indicator has expired", func(f *explain.Facts) {
			f.App, f.Tagging = nil, nil
			f.Candidates[0].Indicator.Source, f.Candidates[0].Indicator.ExpiresAt = indicator.SourceCustom, noon
			passes(f)
		}, "allowed", explain.LinkIndicator, "expired", "indicator add domain itunes.apple.com --action block"},
		{"an allow indicator goes before it", func(f *explain.Facts) {
			f.Candidates = append(f.Candidates, explain.Candidate{
				Indicator: indicator.Indicator{ID: "c1", Type: indicator.TypeDomain, Value: "init.itunes.apple.com", Action: indicator.ActionAllow, Source: indicator.SourceCustom},
				Feature:   fleet.FeatureCustomIndicators, FeatureOn: true, DeviceInScope: true,
			})
			f.Answer.Action, f.Answer.IndicatorID = indicator.ActionAllow, "c1"
		}, "allowed", explain.LinkIndicator, "says allow, and goes before", "indicator delete c1"},
		{"the device is out of scope", func(f *explain.Facts) {
			f.Candidates[0].DeviceInScope = false
			f.Candidates[0].Indicator.Scope.Include = []string{"g2"}
			passes(f)
		}, "allowed", explain.LinkScope, "it is for g2, and the device is in g1", "app scope itunes"},
		{"the user is out of scope", func(f *explain.Facts) {
			f.Candidates[0].Indicator.Scope.ExcludeUsers = []string{"anna"}
			f.Device.User = &indicator.User{UID: 1000, Name: "anna"}
			passes(f)
		}, "allowed", explain.LinkScope, "user anna is not in its scope", "app scope itunes"},
		{"it counts at other times", func(f *explain.Facts) {
			f.Candidates[0].Indicator.Scope.Windows = []indicator.Window{{From: "20:00", To: "22:00", Zone: "UTC"}}
			passes(f)
		}, "allowed", explain.LinkScope, "at other times only: 20:00-22:00 UTC", "app scope itunes"},
		{"no policy reaches the device", func(f *explain.Facts) {
			f.Policies.Effective = fleet.Effective{Settings: fleet.Defaults(), Origin: map[string]string{}}
			f.Policies.Missed = []explain.Missed{{Name: "Office", Why: "the device is in none of its groups", Fix: "interdict policy assign Office --all-devices"}}
			passes(f)
		}, "allowed", explain.LinkPolicy, "Office does not, because the device is in none", "policy assign Office"},
		{"the policy only audits", func(f *explain.Facts) {
			f.Policies.Effective.Settings.NetworkProtection = fleet.ModeAudit
			f.Answer.Action = indicator.ActionAudit
		}, "audited", explain.LinkPolicy, "to audit", "policy set Office --network-protection block"},
		{"the device is offline with an older bundle", func(f *explain.Facts) {
			f.Device.Online, f.Device.Applied.Digest, f.Device.LastSeen = false, "older", noon
			f.Answer = nil
		}, "unknown", explain.LinkDelivery, "offline and enforces an older bundle", "doctor"},
		{"the device is offline with the newest bundle", func(f *explain.Facts) {
			f.Device.Online, f.Answer = false, nil
		}, "blocked", explain.LinkTag, "tagged unsanctioned", ""},
		{"the device has not applied it yet", func(f *explain.Facts) {
			f.Device.Applied.Digest = "older"
			passes(f)
		}, "allowed", explain.LinkDelivery, "not applied", "device sync anna"},
		{"the device could not apply it", func(f *explain.Facts) {
			f.Device.Applied.Digest, f.Device.Applied.Error = "older", "no room"
			passes(f)
		}, "allowed", explain.LinkDelivery, "no room", "doctor"},
		{"somebody ran rescue", func(f *explain.Facts) {
			f.Answer.Enforcing, f.Answer.Health = false, []fleet.HealthItem{{Code: "suspended", Text: "rescue"}}
			passes(f)
		}, "allowed", explain.LinkDevice, "ran rescue", "interdict-agent sync"},
		{"somebody ran rescue, and the server was told", func(f *explain.Facts) {
			f.Device.Applied.Digest, f.Device.Applied.Error = "", "rescue"
			f.Answer.Enforcing, f.Answer.Health = false, []fleet.HealthItem{{Code: "suspended", Text: "rescue"}}
			passes(f)
		}, "allowed", explain.LinkDevice, "ran rescue", "interdict-agent sync"},
		{"nobody listens to the queues", func(f *explain.Facts) {
			f.Answer.Listening = false
			passes(f)
		}, "allowed", explain.LinkDevice, "does not see connections", "doctor"},
		{"the user went on after a warning", func(f *explain.Facts) {
			f.Candidates[0].Indicator.Action = indicator.ActionWarn
			f.Answer.Action, f.Answer.Bypass = indicator.ActionWarn, &bypass.Bypass{User: "anna", Subject: "itunes", Until: noon.Add(time.Hour)}
		}, "allowed", explain.LinkVerdict, "went on after a warning", "bypass revoke itunes --user anna"},
		{"a drop-in file of the device refuses it", func(f *explain.Facts) {
			f.Tagging, f.Candidates = nil, nil
			f.Answer.IndicatorID, f.Answer.Indicator = "file:10.yaml:domain:itunes.apple.com", "itunes.apple.com"
		}, "blocked", explain.LinkVerdict, "file:10.yaml", ""},
		{"an older bundle still refuses it", func(f *explain.Facts) {
			f.Tagging, f.Candidates = nil, nil
			f.Device.Applied.Digest = "older"
		}, "blocked", explain.LinkDelivery, "not applied the newest bundle", "device sync"},
		{"a custom indicator refuses it", func(f *explain.Facts) {
			f.App, f.Tagging = nil, nil
			f.Candidates[0].Indicator.Source, f.Candidates[0].Indicator.AppID = indicator.SourceCustom, ""
		}, "blocked", explain.LinkIndicator, "says block", ""},
		{"the policy is for another system", func(f *explain.Facts) {
			f.Policies.Effective = fleet.Effective{Settings: fleet.Defaults(), Origin: map[string]string{}}
			f.Policies.Missed = []explain.Missed{{Name: "Office", Why: "it is for windows only", Fix: "interdict policy set Office --platform windows --platform linux"}}
			passes(f)
		}, "allowed", explain.LinkPolicy, "because it is for windows only", "--platform windows --platform linux"},
		{"a policy of higher priority disables it", func(f *explain.Facts) {
			f.Policies.Effective.Settings.NetworkProtection = fleet.ModeDisabled
			f.Policies.Missed = []explain.Missed{{Name: "Lab", Why: "policy Office goes before it", Fix: "interdict policy set Lab --priority 8"}}
			passes(f)
		}, "allowed", explain.LinkPolicy, "policy Office disables network protection; policy Lab does not count", "policy set Office"},
		{"blocking is on trial elsewhere", func(f *explain.Facts) {
			f.Policies.Effective.Settings.NetworkProtection = fleet.ModeAudit
			f.Policies.Trial = &staging.Rollout{ID: "r2", Canary: "g9", AfterPolicy: &fleet.Policy{
				ID: "p1", Name: "Office", Settings: fleet.Settings{NetworkProtection: fleet.ModeBlock},
			}}
			f.Answer.Action = indicator.ActionAudit
		}, "audited", explain.LinkPolicy, "becomes block, which is on trial in group g9", "interdict rollout advance r2"},
		{"the user's group is out of scope", func(f *explain.Facts) {
			f.Candidates[0].Indicator.Scope.ExcludeUserGroups = []string{"staff", "interns"}
			f.Device.User = &indicator.User{UID: 1000, Name: "anna", Groups: []string{"staff"}}
			passes(f)
		}, "allowed", explain.LinkScope, "user anna is not in its scope", "app scope itunes --exclude-user-group interns"},
		{"it is for other users", func(f *explain.Facts) {
			f.Candidates[0].Indicator.Scope.IncludeUsers = []string{"O'Neil"}
			f.Device.User = &indicator.User{UID: 1000, Name: "anna"}
			passes(f)
		}, "allowed", explain.LinkScope, "user anna is not in its scope", `app scope itunes --user 'O'\''Neil' --user anna`},
		{"a custom indicator is for others", func(f *explain.Facts) {
			f.App, f.Tagging = nil, nil
			i := &f.Candidates[0].Indicator
			i.ID, i.Source, i.AppID, i.Scope.Exclude = "c9", indicator.SourceCustom, "", []string{"g1", "g2"}
			f.Candidates[0].DeviceInScope = false
			passes(f)
		}, "allowed", explain.LinkScope, "it is for all devices except g1, g2", "indicator set c9 --exclude-group g2"},
		{"a custom indicator is for one group", func(f *explain.Facts) {
			f.App, f.Tagging = nil, nil
			i := &f.Candidates[0].Indicator
			i.ID, i.Source, i.AppID, i.Scope.Include = "c9", indicator.SourceCustom, "", []string{"g2"}
			f.Candidates[0].DeviceInScope = false
			passes(f)
		}, "allowed", explain.LinkScope, "it is for g2", "indicator set c9 --include-group g2 --include-group device:anna"},
		{"an address belongs to no app", func(f *explain.Facts) {
			f.Subject = explain.Subject{IP: netip.MustParseAddr("192.0.2.1")}
			f.App, f.Tagging, f.Candidates = nil, nil, nil
			passes(f)
		}, "allowed", explain.LinkApp, "192.0.2.1 belongs to no app", "indicator add ip 192.0.2.1 --action block"},
	}
}

func TestTheLinkThatDecides(t *testing.T) {
	for _, test := range linkCases() {
		t.Run(test.name, func(t *testing.T) {
			f := blocked()
			test.spoil(&f)
			c := explain.Explain(f, "")
			if c.Outcome != test.outcome || c.Decisive != test.decisive {
				t.Errorf("%s by %s, want %s by %s\n%+v", c.Outcome, c.Decisive, test.outcome, test.decisive, c.Links)
			}
			for _, l := range c.Links {
				if l.Name == test.decisive && (!strings.Contains(l.Text, test.says) || !strings.Contains(l.Fix, test.fix)) {
					t.Errorf("link %s says %q and %q, want %q and %q", l.Name, l.Text, l.Fix, test.says, test.fix)
				}
			}
		})
	}
}

func TestWhatWasExpected(t *testing.T) {
	if c := explain.Explain(blocked(), explain.OutcomeAllowed); !c.Unexpected || c.Decisive != explain.LinkTag {
		t.Errorf("of a connection that ought to be allowed: %+v", c)
	}
	if c := explain.Explain(blocked(), explain.OutcomeBlocked); c.Unexpected {
		t.Errorf("of a connection that ought to be blocked: %+v", c)
	}
}

func TestWhatIsNotNeededIsNotToBeMended(t *testing.T) {
	f := blocked()
	f.App, f.Tagging, f.Candidates = nil, nil, nil
	f.Answer.IndicatorID = "file:61-b.yaml:domain:itunes.apple.com"
	for _, l := range explain.Explain(f, explain.OutcomeAllowed).Links {
		if want := map[explain.Name]string{explain.LinkVerdict: "on the device: edit /etc/interdict/policy.d/61-b.yaml"}[l.Name]; l.State == explain.StateBroken || l.Fix != want {
			t.Errorf("link %s is %s, and mended by %q; want %q", l.Name, l.State, l.Fix, want)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, test := range []struct {
		kind  indicator.Type
		value string
		s     explain.Subject
		want  bool
	}{
		{indicator.TypeDomain, "example.com", explain.Subject{Host: "a.example.com"}, true},
		{indicator.TypeDomain, "example.com", explain.Subject{Host: "example.com"}, true},
		{indicator.TypeDomain, "example.com", explain.Subject{Host: "anexample.com"}, false},
		{indicator.TypeDomain, "example.com", explain.Subject{IP: netip.MustParseAddr("192.0.2.1")}, false},
		{indicator.TypeURL, "http://example.com/a", explain.Subject{Host: "example.com", Path: "/a/b"}, true},
		{indicator.TypeURL, "http://example.com/a", explain.Subject{Host: "example.com"}, false},
		{indicator.TypeCIDR, "192.0.2.0/24", explain.Subject{IP: netip.MustParseAddr("192.0.2.1")}, true},
		{indicator.TypeIP, "2001:db8::1", explain.Subject{IP: netip.MustParseAddr("2001:db8::2")}, false},
		{indicator.TypeFileSHA256, strings.Repeat("a", 64), explain.Subject{Host: "example.com"}, false},
	} {
		if got := explain.Matches(&indicator.Indicator{Type: test.kind, Value: test.value}, test.s); got != test.want {
			t.Errorf("%s %s matches %s: got %v", test.kind, test.value, test.s, got)
		}
	}
}

var update = flag.Bool("update", false, "write the golden files")

// TestFixes keeps a list of what the links say is to be typed. That these
// commands exist is for the tests of the commands.
func TestFixes(t *testing.T) {
	fixes := make(map[string]bool)
	for _, test := range linkCases() {
		for _, expected := range []explain.Outcome{"", explain.OutcomeAllowed} {
			f := blocked()
			test.spoil(&f)
			for _, l := range explain.Explain(f, expected).Links {
				if l.Fix != "" {
					fixes[l.Fix] = true
				}
			}
			for _, m := range f.Policies.Missed {
				fixes[m.Fix] = true
			}
		}
	}
	got := strings.Join(slices.Sorted(maps.Keys(fixes)), "\n") + "\n"
	golden := filepath.Join("testdata", "fixes.txt")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("run go test ./internal/explain -update (-want +got):\n%s", diff)
	}
}

func TestOnlyTheUsersOwnEventsAreTold(t *testing.T) {
	for _, test := range []struct{ user, says string }{
		{"", "user bob"},
		{"bob", "user bob"},
		{"alice", "no connection to it by alice"},
	} {
		f := blocked()
		f.Subject.User = test.user
		f.Answer.LastEvent = &event.Event{EventID: event.IDBlocked, LastSeen: noon, User: event.User{Name: "bob"}}
		c := explain.Explain(f, "")
		if last := c.Links[len(c.Links)-1]; !strings.Contains(last.Text, test.says) {
			t.Errorf("of user %q the last link says %q, want %q", test.user, last.Text, test.says)
		}
	}
}
