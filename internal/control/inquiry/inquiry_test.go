package inquiry_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"interdict/internal/bundle"
	"interdict/internal/cloudapp"
	"interdict/internal/control"
	"interdict/internal/control/controltest"
	"interdict/internal/control/groups"
	"interdict/internal/control/indicators"
	"interdict/internal/control/inquiry"
	"interdict/internal/control/rollout"
	"interdict/internal/event"
	"interdict/internal/explain"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/store"
)

const host = "init.itunes.apple.com"

// link finds a link of a chain.
func link(t *testing.T, c explain.Chain, name explain.Name) explain.Link {
	t.Helper()
	for _, l := range c.Links {
		if l.Name == name {
			return l
		}
	}
	t.Fatalf("there is no link %s in %+v", name, c)
	return explain.Link{}
}

// asked answers the questions that a device is asked, on its session, until
// the test ends.
func asked(t *testing.T, d *controltest.Device, at *controltest.Server, answer func(bundle.Question) bundle.Answer) {
	t.Helper()
	session := d.Open()
	controltest.Next(t, session, bundle.MessageHello)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for m := range session.Messages() {
			if m.Type != bundle.MessageAsk {
				continue
			}
			a := answer(*m.Question)
			a.ID = m.Question.ID
			if taken, err := at.Inquiries.Answer(context.WithoutCancel(t.Context()), d.ID, a); err != nil || !taken {
				t.Errorf("the answer was taken: %v (%v)", taken, err)
			}
		}
	}()
	t.Cleanup(func() {
		session.Close()
		<-done
	})
}

// blocks is the answer of a device that blocks iTunes.
func blocks(bundle.Question) bundle.Answer {
	return bundle.Answer{
		Enforcing: true, Listening: true, Action: indicator.ActionBlock, Mode: fleet.ModeBlock,
		IndicatorID: "itunes:itunes.apple.com", Indicator: "itunes.apple.com", Step: "domain",
	}
}

func ask(t *testing.T, s *controltest.Server, q inquiry.Query) explain.Chain {
	t.Helper()
	c, err := s.Inquiries.Explain(t.Context(), q)
	if err != nil {
		t.Fatalf("asking about %+v: %v", q, err)
	}
	return c
}

// house is a set-up in which iTunes is blocked on the device anna.
func house(t *testing.T, s *controltest.Server) *controltest.Device {
	t.Helper()
	s.NewGroup(groups.NewGroup{Name: "laptops"})
	s.NewGroup(groups.NewGroup{Name: "pilot"})
	d := s.NewDevice("anna", "laptops")
	s.NewPolicy("office", fleet.ModeBlock, "laptops")
	s.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagUnsanctioned})
	return d
}

// home is a set-up that a case spoils.
type home struct {
	*controltest.Server

	t *testing.T
}

func TestWhatIsConfiguredDecidesWhereTheDeviceIsAway(t *testing.T) {
	admin := controltest.Admin()
	for _, test := range []struct {
		name     string
		spoil    func(h home)
		outcome  explain.Outcome
		decisive explain.Name
		says     string
		fix      string
	}{
		{"all is well", func(home) {}, "blocked", explain.LinkTag, "tagged unsanctioned, by root", ""},
		{"the app is not tagged", func(h home) {
			h.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagNone})
		}, "allowed", explain.LinkTag, "is not tagged", "interdict app tag itunes unsanctioned"},
		{"the tag is on trial elsewhere", func(h home) {
			h.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagNone})
			begin(h.t, h.Server, rollout.NewRollout{Canary: "pilot", Tag: &rollout.TagChange{App: "itunes", Tag: cloudapp.TagUnsanctioned}})
		}, "allowed", explain.LinkTag, "on trial in group pilot", "interdict rollout advance "},
		{"the tag is on trial here", func(h home) {
			h.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagNone})
			begin(h.t, h.Server, rollout.NewRollout{Canary: "device:anna", Tag: &rollout.TagChange{App: "itunes", Tag: cloudapp.TagUnsanctioned}})
		}, "blocked", explain.LinkTag, "on trial in device:anna since", ""},
		{"the feature is off", func(h home) {
			if _, _, err := h.SetFeature(h.t.Context(), admin, fleet.FeatureAppEnforcement, control.FeatureUpdate{}); err != nil {
				h.t.Fatal(err)
			}
		}, "allowed", explain.LinkFeature, "is off", "interdict feature set app_enforcement on"},
		{"the device is out of the tag's scope", func(h home) {
			h.Tag(control.TagRequest{Apps: []string{"itunes"}, Tag: cloudapp.TagUnsanctioned, Scope: indicator.Profile{Scope: indicator.Scope{Exclude: []string{"laptops"}}}})
		}, "allowed", explain.LinkScope, "all devices except laptops", "interdict app scope itunes --exclude-group ''"},
		{"an allow indicator goes first", func(h home) {
			add(h.t, h.Server, indicators.NewIndicator{Type: indicator.TypeDomain, Value: host, Action: indicator.ActionAllow})
		}, "allowed", explain.LinkIndicator, "says allow, and goes before", "interdict indicator delete "},
		{"the policy only audits", func(h home) {
			mode(h.t, h.Server, fleet.ModeAudit)
		}, "audited", explain.LinkPolicy, "policy office sets network protection to audit", "interdict policy set office --network-protection block"},
		{"blocking is on trial elsewhere", func(h home) {
			mode(h.t, h.Server, fleet.ModeAudit)
			begin(h.t, h.Server, rollout.NewRollout{Canary: "pilot", Policy: &rollout.PolicyChange{
				Policy: "office", Settings: &fleet.Settings{NetworkProtection: fleet.ModeBlock},
			}})
		}, "audited", explain.LinkPolicy, "becomes block, which is on trial in group pilot", "interdict rollout advance "},
		{
			"the policy is for other groups", func(h home) {
				assign(h.t, h.Server, indicator.Scope{Include: []string{"pilot"}})
			}, "allowed", explain.LinkPolicy, "office does not, because it is for pilot, which the device is not in",
			"interdict policy assign office --include-group pilot --include-group device:anna",
		},
		{"the policy excludes a group", func(h home) {
			assign(h.t, h.Server, indicator.Scope{Exclude: []string{"laptops"}})
		}, "allowed", explain.LinkPolicy, "because laptops is excluded from it", "interdict policy assign office --all-devices"},
		{
			"another policy disables it", func(h home) {
				id := h.NewPolicy("off", fleet.ModeDisabled)
				n := control.NewPolicy{Name: "off", Priority: 9, Settings: fleet.Settings{NetworkProtection: fleet.ModeDisabled}}
				if _, _, err := h.UpdatePolicy(h.t.Context(), admin, id, 0, n); err != nil {
					h.t.Fatal(err)
				}
			}, "allowed", explain.LinkPolicy, "policy off disables network protection; policy office does not count, because policy off goes before it",
			"interdict policy set off --network-protection block",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := controltest.OnSQLite(t)
			d := house(t, s)
			test.spoil(home{s, t})
			d.Apply()
			c := ask(t, s, inquiry.Query{Target: "https://" + host + "/x", Device: "anna"})
			if c.Live || c.Outcome != test.outcome || c.Decisive != test.decisive {
				t.Fatalf("%s by %s, want %s by %s\n%+v", c.Outcome, c.Decisive, test.outcome, test.decisive, c.Links)
			}
			l := link(t, c, test.decisive)
			if !strings.Contains(l.Text, test.says) || !strings.Contains(l.Fix, test.fix) {
				t.Errorf("it says %q and %q, want %q and %q", l.Text, l.Fix, test.says, test.fix)
			}
		})
	}
}

func begin(t *testing.T, s *controltest.Server, n rollout.NewRollout) {
	t.Helper()
	if _, _, err := s.Rollouts.Begin(t.Context(), controltest.Admin(), n); err != nil {
		t.Fatal(err)
	}
}

func add(t *testing.T, s *controltest.Server, n indicators.NewIndicator) indicator.Indicator {
	t.Helper()
	i, _, err := s.Indicators.Create(t.Context(), controltest.Admin(), n)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func mode(t *testing.T, s *controltest.Server, m fleet.Mode) {
	t.Helper()
	n := control.NewPolicy{Name: "office", Settings: fleet.Settings{NetworkProtection: m}}
	if _, _, err := s.UpdatePolicy(t.Context(), controltest.Admin(), "office", 0, n); err != nil {
		t.Fatal(err)
	}
}

func assign(t *testing.T, s *controltest.Server, scope indicator.Scope) {
	t.Helper()
	if _, _, err := s.AssignPolicy(t.Context(), controltest.Admin(), "office", 0, scope); err != nil {
		t.Fatal(err)
	}
}

func TestANameOfAnotherAppIsSpared(t *testing.T) {
	s := controltest.OnSQLite(t)
	d := house(t, s)
	s.Tag(control.TagRequest{Apps: []string{"amazon"}, Tag: cloudapp.TagUnsanctioned})
	d.Apply()
	c := ask(t, s, inquiry.Query{Target: "console.aws.amazon.com", Device: "anna"})
	if c.Outcome != explain.OutcomeAllowed {
		t.Errorf("it is %s: %+v", c.Outcome, c.Links)
	}
	if l := link(t, c, explain.LinkIndicator); l.State != explain.StateBroken || !strings.Contains(l.Text, "belongs to the app ") {
		t.Errorf("the indicator %+v", l)
	}
}

func TestTheDeviceIsAskedWhileItIsConnected(t *testing.T) {
	for _, e := range controltest.Engines(postgres) {
		t.Run(e.Name, func(t *testing.T) {
			s := controltest.Start(t, e.Config(t), controltest.NewClock())
			d := house(t, s)
			d.Apply()
			questions := make(chan bundle.Question, 1)
			asked(t, d, s, func(q bundle.Question) bundle.Answer {
				questions <- q
				a := blocks(q)
				a.UID, a.UserGroups = 1000, []string{"staff"}
				return a
			})
			now := s.Clock.Now()
			d.Observe(event.Event{
				ID: ulid.Make().String(), Time: now, EventID: event.IDBlocked, Action: event.ActionBlocked, AppID: "itunes",
				Destination: event.Destination{Host: host, Port: 443, Protocol: "tcp"}, Process: event.Process{Path: "/usr/bin/curl"},
				User: event.User{Name: "anna"}, Count: 1, FirstSeen: now, LastSeen: now,
			})
			c := ask(t, s, inquiry.Query{Target: "http://" + strings.ToUpper(host) + ":80/a/../b?c", Device: string(d.ID), User: "anna", Expect: explain.OutcomeAllowed})
			if !c.Live || c.Outcome != explain.OutcomeBlocked || !c.Unexpected || c.Decisive != explain.LinkTag {
				t.Errorf("the answer is %+v", c)
			}
			if l := link(t, c, explain.LinkTag); l.Fix != "interdict app tag itunes none" {
				t.Errorf("to allow it one types %q", l.Fix)
			}
			if l := link(t, c, explain.LinkEvent); !strings.Contains(l.Text, "1126 blocked, "+host+", program /usr/bin/curl, user anna") {
				t.Errorf("the last event is told as %q", l.Text)
			}
			if l := link(t, c, explain.LinkScope); !strings.Contains(l.Text, "and user anna is in") {
				t.Errorf("the scope is told as %q", l.Text)
			}
			q := <-questions
			if q.Host != host || q.Path != "/b" || q.User != "anna" {
				t.Errorf("the device was asked %+v", q)
			}
			// The question is answered.
			if taken, err := s.Inquiries.Answer(t.Context(), d.ID, bundle.Answer{ID: q.ID}); taken || err != nil {
				t.Errorf("a second answer was taken: %v (%v)", taken, err)
			}
		})
	}
}

func TestTheDeviceIsAskedWhereverItIsConnected(t *testing.T) {
	c, clock := store.Config{URL: postgres.URL(t)}, controltest.NewClock()
	one, two := controltest.Start(t, c, clock), controltest.Start(t, c, clock)
	d := house(t, one)
	d.Apply()
	d.Server = two
	asked(t, d, two, blocks)
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if v, err := one.Device(t.Context(), string(d.ID)); err != nil {
			t.Fatal(err)
		} else if v.Online {
			break
		}
		select {
		case <-tick.C:
			clock.Advance(time.Second)
		case <-deadline:
			t.Fatal("the first server does not hear that the device is connected")
		}
	}
	if got := ask(t, one, inquiry.Query{Target: host, Device: "anna"}); !got.Live || got.Outcome != explain.OutcomeBlocked {
		t.Errorf("the answer is %+v", got)
	}
}

func TestOnlyTheDeviceThatIsAskedAnswers(t *testing.T) {
	for _, e := range controltest.Engines(postgres) {
		t.Run(e.Name, func(t *testing.T) {
			s := controltest.Start(t, e.Config(t), controltest.NewClock())
			d, other := house(t, s), s.NewDevice("other")
			d.Apply()
			asked(t, d, s, func(q bundle.Question) bundle.Answer {
				a := blocks(q)
				a.ID, a.Action = q.ID, indicator.ActionAllow
				if taken, err := s.Inquiries.Answer(context.WithoutCancel(t.Context()), other.ID, a); taken || err != nil {
					t.Errorf("another device's answer was taken: %v (%v)", taken, err)
				}
				return blocks(q)
			})
			if c := ask(t, s, inquiry.Query{Target: host, Device: "anna"}); c.Outcome != explain.OutcomeBlocked {
				t.Errorf("it is %s", c.Outcome)
			}
			if taken, err := s.Inquiries.Answer(t.Context(), d.ID, bundle.Answer{ID: ulid.Make().String()}); taken || err != nil {
				t.Errorf("an answer to nothing was taken: %v (%v)", taken, err)
			}
		})
	}
}

func TestTheDeviceKnowsNoSuchUser(t *testing.T) {
	s := controltest.OnSQLite(t)
	asked(t, house(t, s), s, func(q bundle.Question) bundle.Answer {
		return bundle.Answer{NoUser: true, Error: "this device knows no user " + q.User}
	})
	_, err := s.Inquiries.Explain(t.Context(), inquiry.Query{Target: "itunes.apple.com", Device: "anna", User: "nobody2"})
	controltest.WantFault(t, err, fault.NotFound)
	if err == nil || !strings.Contains(err.Error(), `device anna knows no user "nobody2"`) {
		t.Errorf("got %v, want the user named", err)
	}
}

func TestADeviceThatDoesNotAnswer(t *testing.T) {
	s := controltest.OnSQLite(t)
	d := house(t, s)
	d.Apply()
	session := d.Open()
	controltest.Next(t, session, bundle.MessageHello)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for m := range session.Messages() {
			if m.Type == bundle.MessageAsk {
				cancel()
			}
		}
	}()
	if _, err := s.Inquiries.Explain(ctx, inquiry.Query{Target: host, Device: "anna"}); err == nil {
		t.Error("somebody who went away got an answer")
	}
	quick, err := inquiry.New(inquiry.Config{Control: s.Service, Store: storeOf(t), AnswerTime: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	c, err := quick.Explain(t.Context(), inquiry.Query{Target: "192.0.2.77", Device: "anna"})
	if err != nil || c.Live || c.Subject.IP != netip.MustParseAddr("192.0.2.77") {
		t.Fatalf("the answer is %+v (%v)", c, err)
	}
	if l := link(t, c, explain.LinkDevice); !strings.Contains(l.Text, "did not answer within 1ms") {
		t.Errorf("the device link says %q", l.Text)
	}
}

// storeOf opens a store that is not shared.
func storeOf(t *testing.T) *store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

func TestWhatCannotBeAsked(t *testing.T) {
	s := controltest.OnSQLite(t)
	house(t, s)
	for _, test := range []struct {
		name string
		q    inquiry.Query
		want fault.Code
	}{
		{"nothing", inquiry.Query{Device: "anna"}, fault.Invalid},
		{"no name", inquiry.Query{Target: "https://", Device: "anna"}, fault.Invalid},
		{"a public suffix", inquiry.Query{Target: "co.uk", Device: "anna"}, fault.Invalid},
		{"a long text", inquiry.Query{Target: strings.Repeat("a.", 2000) + "com", Device: "anna"}, fault.Invalid},
		{"an unknown device", inquiry.Query{Target: host, Device: "nobody"}, fault.NotFound},
		{"an unknown expectation", inquiry.Query{Target: host, Device: "anna", Expect: "warned"}, fault.Invalid},
		{"a user that is no text", inquiry.Query{Target: host, Device: "anna", User: "a\x00"}, fault.Invalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := s.Inquiries.Explain(t.Context(), test.q)
			controltest.WantFault(t, err, test.want)
		})
	}
}
