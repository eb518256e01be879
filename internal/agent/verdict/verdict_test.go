package verdict_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/agent/verdict"
	"interdict/internal/agent/verdict/verdicttest"
	"interdict/internal/bundle"
	"interdict/internal/bypass"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func TestCases(t *testing.T) {
	cases, err := verdicttest.Cases()
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) < 10 {
		t.Errorf("there are only %d cases", len(cases))
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			r, err := verdict.Compile(c.Config, c.Sets...)
			if err != nil {
				t.Fatal(err)
			}
			for _, flow := range c.Flows {
				if got := verdicttest.Result(r.Decide(flow.Subject, c.Now)); got != flow.Want {
					t.Errorf("%s: got %s", flow.Text, got)
				}
			}
		})
	}
}

// in is the Config of a mode.
func in(mode fleet.Mode) verdict.Config {
	return verdict.Config{Settings: fleet.Settings{NetworkProtection: mode}, PolicyID: "p1"}
}

func setOf(tb testing.TB, records ...bundle.Record) bundle.Set {
	tb.Helper()
	set, err := bundle.NewSet(slices.Values(records))
	if err != nil {
		tb.Fatal(err)
	}
	return set
}

// compile makes a Ruleset of records in block mode.
func compile(tb testing.TB, records ...bundle.Record) *verdict.Ruleset {
	tb.Helper()
	r, err := verdict.Compile(in(fleet.ModeBlock), setOf(tb, records...))
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// custom makes the record of a custom indicator, whose id is its value.
func custom(action indicator.Action, typ indicator.Type, value string) bundle.Record {
	return bundle.Indicator(indicator.Indicator{ID: value, Type: typ, Value: value, Action: action, Source: indicator.SourceCustom})
}

// until makes an indicator's record expire.
func until(at time.Time, r bundle.Record) bundle.Record {
	r.Indicator.ExpiresAt = at
	return bundle.Indicator(r.Indicator)
}

func TestADecisionSaysWhy(t *testing.T) {
	of := indicator.Indicator{
		ID: "itunes:itunes.apple.com", Type: indicator.TypeDomain, Value: "itunes.apple.com", Action: indicator.ActionWarn,
		Severity: indicator.SeverityHigh, Source: indicator.SourceCatalog, AppID: "itunes", GenerateAlert: true, CreatedAt: noon,
	}
	r := compile(t,
		bundle.Indicator(of), bundle.App("itunes", "iTunes"), bundle.App("podcasts", "Podcasts"),
		bundle.Spare("podcasts.itunes.apple.com", "podcasts"), custom(indicator.ActionBlock, indicator.TypeIP, "192.0.2.1"),
	)
	for _, tt := range []struct {
		host string
		want verdict.Decision
	}{
		{"init.itunes.apple.com", verdict.Decision{
			Action: indicator.ActionWarn, Indicator: of, AppID: "itunes", AppName: "iTunes",
			Mode: fleet.ModeBlock, PolicyID: "p1", Step: verdict.StepDomain,
		}},
		{"podcasts.itunes.apple.com", verdict.Decision{
			AppID: "podcasts", AppName: "Podcasts", Mode: fleet.ModeBlock, PolicyID: "p1", Step: verdict.StepSpared,
		}},
		{"www.apple.com", verdict.Decision{Mode: fleet.ModeBlock, PolicyID: "p1", Step: verdict.StepNone}},
	} {
		if diff := cmp.Diff(tt.want, r.Decide(verdict.Subject{Host: tt.host}, noon)); diff != "" {
			t.Errorf("Decide(%s) (-want +got):\n%s", tt.host, diff)
		}
	}
}

func TestWhatAnActionMeansInEachMode(t *testing.T) {
	for _, tt := range []struct {
		mode             fleet.Mode
		action, want     indicator.Action
		refuses, reports bool
	}{
		{fleet.ModeBlock, indicator.ActionAllow, indicator.ActionAllow, false, false},
		{fleet.ModeBlock, indicator.ActionAudit, indicator.ActionAudit, false, true},
		{fleet.ModeBlock, indicator.ActionWarn, indicator.ActionWarn, true, true},
		{fleet.ModeBlock, indicator.ActionBlock, indicator.ActionBlock, true, true},
		{fleet.ModeAudit, indicator.ActionAllow, indicator.ActionAllow, false, false},
		{fleet.ModeAudit, indicator.ActionAudit, indicator.ActionAudit, false, true},
		{fleet.ModeAudit, indicator.ActionWarn, indicator.ActionAudit, false, true},
		{fleet.ModeAudit, indicator.ActionBlock, indicator.ActionAudit, false, true},
		{fleet.ModeDisabled, indicator.ActionAllow, "", false, false},
		{fleet.ModeDisabled, indicator.ActionAudit, "", false, false},
		{fleet.ModeDisabled, indicator.ActionWarn, "", false, false},
		{fleet.ModeDisabled, indicator.ActionBlock, "", false, false},
	} {
		t.Run(string(tt.action)+" in "+string(tt.mode), func(t *testing.T) {
			r := compile(t, custom(tt.action, indicator.TypeDomain, "example.com")).With(in(tt.mode))
			d := r.Decide(verdict.Subject{Host: "example.com"}, noon)
			if d.Action != tt.want || d.Refuses() != tt.refuses || d.Reports() != tt.reports {
				t.Errorf("action %q, refuses %t, reports %t; want %q, %t, %t", d.Action, d.Refuses(), d.Reports(), tt.want, tt.refuses, tt.reports)
			}
		})
	}
}

func TestSettingsAreThoseOfTheConfig(t *testing.T) {
	c := in(fleet.ModeAudit)
	c.Settings.FailMode = fleet.FailClosed
	strict, err := verdict.Compile(c, setOf(t, bundle.Setting(fleet.SettingNetworkProtection, "block", "p7")))
	if err != nil {
		t.Fatal(err)
	}
	if strict.Mode() != fleet.ModeAudit || strict.PolicyID() != "p1" || strict.FailMode() != fleet.FailClosed {
		t.Errorf("mode %q by %q, fail mode %q", strict.Mode(), strict.PolicyID(), strict.FailMode())
	}
	r := strict.With(verdict.Config{})
	if r.Mode() != fleet.ModeDisabled || r.PolicyID() != "" || r.FailMode() != fleet.FailOpen {
		t.Errorf("without settings: mode %q by %q, fail mode %q", r.Mode(), r.PolicyID(), r.FailMode())
	}
}

// apply makes a set of raw lines, as they come from a server.
func apply(t *testing.T, lines ...string) bundle.Set {
	t.Helper()
	set, err := bundle.Set{}.Apply(strings.NewReader("+" + strings.Join(lines, "\n+") + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestCompileIgnoresWhatANewerServerSays(t *testing.T) {
	r, err := verdict.Compile(in(fleet.ModeBlock), apply(t,
		"set\tbrowser_colour\tblue\t",
		"weather\train\texample.com",
		"ind\t1\tja4\tt13d1516h2\tblock\t\tcustom\t\t\t0\t",
		"ind\t2\tdomain\texample.com\tquarantine\t\tcustom\t\t\t0\t",
		"ind\t3\tip\t192.0.2.1\tquarantine\t\tcustom\t\t\t0\t",
		"ind\t4\tdomain\texample.org\tblock\t\tcustom\t\t\t0\t\t\tsomething new",
	))
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{"example.com": "none", "rain": "none", "t13d1516h2": "none", "example.org": "block 4"} {
		if got := verdicttest.Result(r.Decide(verdict.Subject{Host: host}, noon)); got != want {
			t.Errorf("Decide(%s) = %s, want %s", host, got, want)
		}
	}
	if refused, watched := r.Addresses(noon); refused != nil || watched != nil {
		t.Errorf("Addresses = %v, %v, want none", refused, watched)
	}
}

func TestCompileRefusesValuesItCannotUnderstand(t *testing.T) {
	for name, tt := range map[string]struct{ line, want string }{
		"a damaged address": {"ind\t1\tip\t192.0.2\tblock\t\tcustom\t\t\t0\t", `indicator 1 has the unreadable ip "192.0.2"`},
		"a prefix with host bits": {
			"ind\t1\tcidr\t192.0.2.1/24\tblock\t\tcustom\t\t\t0\t",
			`indicator 1 has the unreadable cidr "192.0.2.1/24"`,
		},
		"a window that never opens": {
			"ind\t1\tdomain\texample.com\tblock\t\tcustom\t\t\t0\t\t{\"windows\":[{\"from\":\"25:00\",\"to\":\"09:00\"}]}",
			`when indicator 1 counts`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := verdict.Compile(in(fleet.ModeBlock), apply(t, tt.line))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Compile = %v, want an error that says %q", err, tt.want)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	records := []bundle.Record{
		custom(indicator.ActionBlock, indicator.TypeCIDR, "192.0.2.0/24"),
		custom(indicator.ActionAllow, indicator.TypeIP, "192.0.2.16"),
		custom(indicator.ActionAudit, indicator.TypeCIDR, "192.0.2.128/25"),
		custom(indicator.ActionWarn, indicator.TypeIP, "192.0.3.0"),
		until(noon, custom(indicator.ActionBlock, indicator.TypeIP, "198.51.100.1")),
		custom(indicator.ActionBlock, indicator.TypeIP, "2001:db8::1"),
		custom(indicator.ActionBlock, indicator.TypeDomain, "example.com"),
	}
	for _, tt := range []struct {
		name             string
		mode             fleet.Mode
		refused, watched []string
	}{
		{
			"in block mode what is blocked or warned of is refused", fleet.ModeBlock,
			[]string{"192.0.2.0-192.0.2.15", "192.0.2.17-192.0.2.127", "192.0.3.0-192.0.3.0", "2001:db8::1-2001:db8::1"},
			[]string{"192.0.2.128-192.0.2.255"},
		},
		{
			"in audit mode all of it is watched", fleet.ModeAudit, nil,
			[]string{"192.0.2.0-192.0.2.15", "192.0.2.17-192.0.3.0", "2001:db8::1-2001:db8::1"},
		},
		{"in disabled mode there is nothing to know", fleet.ModeDisabled, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := compile(t, records...).With(in(tt.mode))
			refused, watched := r.Addresses(noon)
			if diff := cmp.Diff(tt.refused, texts(refused)); diff != "" {
				t.Errorf("refused (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.watched, texts(watched)); diff != "" {
				t.Errorf("watched (-want +got):\n%s", diff)
			}
		})
	}
}

func texts(ranges []indicator.Range) []string {
	var out []string
	for _, r := range ranges {
		out = append(out, r.From.String()+"-"+r.To.String())
	}
	return out
}

func TestNextChangeIsWhenAnIndicatorExpires(t *testing.T) {
	r := compile(t,
		until(noon.Add(time.Hour), custom(indicator.ActionBlock, indicator.TypeIP, "192.0.2.1")),
		until(noon.Add(time.Hour), custom(indicator.ActionBlock, indicator.TypeIP, "192.0.2.2")),
		until(noon, custom(indicator.ActionBlock, indicator.TypeDomain, "example.com")),
		custom(indicator.ActionBlock, indicator.TypeDomain, "example.org"),
		until(noon.Add(-time.Hour), custom(indicator.ActionBlock, indicator.TypeFileSHA256, strings.Repeat("0", 64))),
	)
	for _, tt := range []struct {
		name      string
		now, want time.Time
	}{
		{"before all", noon.Add(-24 * time.Hour), noon},
		{"just before one", noon.Add(-1), noon},
		{"at one, the next", noon, noon.Add(time.Hour)},
		{"after all, none", noon.Add(time.Hour), time.Time{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := r.NextChange(tt.now)
			if !got.Equal(tt.want) || ok == tt.want.IsZero() {
				t.Errorf("NextChange(%s) = %s, %t, want %s", tt.now, got, ok, tt.want)
			}
		})
	}
}

func TestNextChangeIsWhenAWindowOpensOrABypassEnds(t *testing.T) {
	berlin := time.FixedZone("", 2*60*60)
	evening := custom(indicator.ActionWarn, indicator.TypeDomain, "example.com").Indicator
	evening.Scope.Windows = []indicator.Window{{From: "18:00", To: "22:00"}}
	morning := custom(indicator.ActionBlock, indicator.TypeIP, "192.0.2.1").Indicator
	morning.Scope.Windows = []indicator.Window{{From: "08:00", To: "12:00", Zone: "UTC"}}
	c := in(fleet.ModeBlock)
	c.Bypasses = []bypass.Bypass{
		{UID: 1, Subject: "example.com", Since: noon, Until: noon.Add(30 * time.Minute)},
		{UID: 1, Subject: "revoked", Since: noon, Until: noon.Add(time.Minute)},
	}
	r, err := verdict.Compile(c, setOf(t, bundle.Indicator(evening)), setOf(t, bundle.Indicator(morning),
		bundle.Revocation(bypass.Revocation{ID: "r", Subject: "revoked", Before: noon.Add(time.Second)})))
	if err != nil {
		t.Fatal(err)
	}
	at := noon.In(berlin)
	// 14:30, 18:00 and 22:00 where the device is, then 08:00 elsewhere.
	for _, want := range []string{"12:30", "16:00", "20:00", "08:00"} {
		next, ok := r.NextChange(at)
		if got := next.Format("15:04"); !ok || got != want {
			t.Errorf("after %s it changes at %s, want %s UTC", at, got, want)
		}
		at = next.In(berlin)
	}
}

func TestRevokedByTheSetOfAnother(t *testing.T) {
	warn := custom(indicator.ActionWarn, indicator.TypeDomain, "example.com")
	c := in(fleet.ModeBlock)
	c.Bypasses = []bypass.Bypass{{ID: "b", UID: 1, Subject: "example.com", Since: noon.Add(-time.Hour), Until: noon.Add(time.Hour)}}
	s := verdict.Subject{Host: "example.com", User: &indicator.User{UID: 1}}
	r := compile(t, warn).With(c)
	if d := r.Decide(s, noon); d.Step != verdict.StepBypassed || d.Bypass == nil || d.Bypass.ID != "b" || d.Refuses() || d.Reports() {
		t.Errorf("got %+v", d)
	}
	r = compile(t, warn, bundle.Revocation(bypass.Revocation{ID: "r", Before: noon})).With(c)
	if d := r.Decide(s, noon); d.Step != verdict.StepDomain || d.Bypass != nil || !d.Refuses() {
		t.Errorf("after a revocation: got %+v", d)
	}
}

func TestWhoseConnectionItIsMatters(t *testing.T) {
	forSome := func(r bundle.Record) bundle.Record {
		r.Indicator.Scope.IncludeUsers = []string{"anna"}
		return bundle.Indicator(r.Indicator)
	}
	r := compile(t, forSome(custom(indicator.ActionBlock, indicator.TypeDomain, "example.com")),
		custom(indicator.ActionBlock, indicator.TypeDomain, "example.net"),
		forSome(custom(indicator.ActionBlock, indicator.TypeCIDR, "192.0.2.0/24")))
	for _, tt := range []struct {
		name    string
		subject verdict.Subject
		want    bool
	}{
		{"a name that some may not use", verdict.Subject{Host: "www.Example.com."}, true},
		{"a name that nobody may use", verdict.Subject{Host: "example.net"}, false},
		{"another name", verdict.Subject{Host: "example.org"}, false},
		{"an address that some may not use", verdict.Subject{Host: "example.org", Addr: netip.MustParseAddr("::ffff:192.0.2.9")}, true},
		{"another address", verdict.Subject{Addr: netip.MustParseAddr("2001:db8::1")}, false},
	} {
		if got := r.AsksWho(tt.subject); got != tt.want {
			t.Errorf("%s: got %t, want %t", tt.name, got, tt.want)
		}
	}
	if r.With(verdict.Config{}).AsksWho(verdict.Subject{Host: "example.com"}) {
		t.Error("where protection is disabled nothing matters")
	}
}

func TestResolver(t *testing.T) {
	r := compile(t)
	if found := r.Resolver(netip.MustParseAddr("9.9.9.9"), 443); found == nil || found.Title() != "Encrypted DNS (Quad9)" {
		t.Errorf("got %+v", found)
	}
	if found := r.Resolver(netip.MustParseAddr("192.0.2.1"), 443); found != nil {
		t.Errorf("got %+v", found)
	}
	c := in(fleet.ModeBlock)
	c.Settings.BypassProtection, c.ProtectionPolicyID = fleet.ProtectionBlock, "p2"
	// What a file on the device allows spares it only where the file is what
	// asks for the protection.
	file := setOf(t, custom(indicator.ActionAllow, indicator.TypeDomain, "dns.quad9.net"))
	for set, want := range map[int]string{0: "block resolver:dns.quad9.net", 1: "allow dns.quad9.net"} {
		c.ProtectionSet = set
		r, err := verdict.Compile(c, bundle.Set{}, file)
		if err != nil {
			t.Fatal(err)
		}
		d := r.Decide(verdict.Subject{Host: "dns.quad9.net"}, noon)
		if got := verdicttest.Result(d); got != want {
			t.Errorf("set %d: got %s, want %s", set, got, want)
		}
		if set == 0 && (d.AppName != "Encrypted DNS (Quad9)" || d.Indicator.Source != indicator.SourceResolver || d.PolicyID != "p2") {
			t.Errorf("got %+v", d)
		}
	}
}
