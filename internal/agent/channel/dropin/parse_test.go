package dropin

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

var protected = indicator.NewProtected(indicator.Host{Name: "interdict.example", Reason: "is where this agent reaches the server"})

const whole = `# what this machine does
settings:
  network_protection: block
  notifications: off
  warn_bypass_duration: 90m
  support_contact: "ext. 5"
  notification_text: |-
    {app} is not for work.
indicators:
  - type: domain
    value: Tunes.Example.
    action: block
    severity: high
    generate_alert: true
    description: music
    expires_at: 2030-01-31
    scope:
      exclude_user_groups: [it]
      include_users:
        - ann
        - "#1000"
      windows:
        - {days: [mon, fri], from: "08:00", to: "17:30", zone: Europe/Berlin}
  - {type: ip, value: 203.0.113.9, action: audit}
`

func TestAWholeFile(t *testing.T) {
	got, err := Parse("/etc/interdict/policy.d/10-a.yaml", []byte(whole), protected)
	if err != nil {
		t.Fatal(err)
	}
	want := File{
		Path: "/etc/interdict/policy.d/10-a.yaml",
		Settings: map[string]string{
			fleet.SettingNetworkProtection: "block", fleet.SettingNotifications: "off", fleet.SettingWarnBypassDuration: "1h30m",
			fleet.SettingSupportContact: "ext. 5", fleet.SettingNotificationText: "{app} is not for work.",
		},
		Indicators: []indicator.Indicator{
			{
				ID: "file:10-a.yaml:domain:tunes.example", Type: indicator.TypeDomain, Value: "tunes.example", Action: indicator.ActionBlock,
				Severity: indicator.SeverityHigh, Source: indicator.SourceLocal, Description: "music", GenerateAlert: true,
				ExpiresAt: time.Date(2030, 1, 31, 0, 0, 0, 0, time.UTC),
				Scope: indicator.Profile{
					People:  indicator.People{IncludeUsers: []string{"ann", "#1000"}, ExcludeUserGroups: []string{"it"}},
					Windows: []indicator.Window{{Days: []indicator.Day{"mon", "fri"}, From: "08:00", To: "17:30", Zone: "Europe/Berlin"}},
				},
			},
			{ID: "file:10-a.yaml:ip:203.0.113.9", Type: indicator.TypeIP, Value: "203.0.113.9", Action: indicator.ActionAudit, Source: indicator.SourceLocal},
		},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("file (-want +got):\n%s", diff)
	}
}

func TestFaultsHaveTheirPlace(t *testing.T) {
	for _, test := range []struct {
		name, content string
		// want is what follows the path, the start of it.
		want string
	}{
		{"an unknown key", "settings: {}\nindicator: []\n", `:2:1: unknown key "indicator"`},
		{"an unknown setting", "settings:\n  network_protecton: block\n", `:2:3: unknown setting "network_protecton"`},
		{"a setting with dashes", "settings:\n  network-protection: block\n", `:2:3: unknown setting "network-protection"`},
		{"a bad value", "settings:\n  network_protection: sideways\n", `:2:23: network_protection must be disabled, audit or block, not "sideways"`},
		{"a missing value", "settings:\n  network_protection:\n", `:2:23: the value is missing`},
		{"a setting twice", "settings:\n  fail_mode: open\n  fail_mode: closed\n", `:3:3: it is not YAML: mapping key "fail_mode" already defined`},
		{"settings as a list", "settings:\n  - fail_mode: open\n", `:2:3: settings must be a list of NAME: VALUE`},
		{"indicators as one", "indicators:\n  type: domain\n", `:2:`},
		{"a list where a value belongs", "settings:\n  fail_mode: [open]\n", `:2:14: there must be a single value here`},
		{"no YAML", "settings: {\n", `:1:`},
		{"a tab", "settings:\n\tfail_mode: open\n", `:2:1: it is not YAML`},
		{"two documents", "settings: {}\n---\nsettings: {}\n", `:`},
		{"a plain text", "block everything\n", `:1:1: the file must be a list of NAME: VALUE`},
		{"an anchor", "settings: &a\n  fail_mode: open\n", `:1:11: settings must be a list`},
		{"an alias", "settings:\n  support_contact: &a x\n  notification_text: *a\n", `:2:20: there must be a single value here`},
		{"a tag", "settings:\n  support_contact: !!binary aGFsbG8=\n", `:2:20: there must be a single value here`},
		{"an indicator without an action", "indicators:\n  - type: domain\n    value: a.example\n", `:2:`},
		{"an unknown action", "indicators:\n  - {type: domain, value: a.example, action: deny}\n", `:2:46: action must be one of`},
		{"an unknown field", "indicators:\n  - {type: domain, value: a.example, action: block, app: x}\n", `:2:53: unknown key "app"`},
		{"a public suffix", "indicators:\n  - {type: domain, value: co.uk, action: block}\n", `:2:27: value must`},
		{"the server itself", "indicators:\n  - {type: domain, value: interdict.example, action: block}\n", `:2:27: interdict.example can only be allowed`},
		{"this host", "indicators:\n  - {type: cidr, value: 127.0.0.0/8, action: block}\n", `:2:25: 127.0.0.0/8 can only be allowed`},
		{"an indicator twice", "indicators:\n  - {type: domain, value: a.example, action: block}\n  - {type: domain, value: A.example, action: allow}\n", `:3:27: domain a.example is there twice`},
		{"a time that is none", "indicators:\n  - {type: domain, value: a.example, action: block, expires_at: soon}\n", `:2:65: "soon" is no time`},
		{"a truth that is none", "indicators:\n  - {type: domain, value: a.example, action: block, generate_alert: yes}\n", `:2:69: there must be true or false here`},
		{"a window that is none", "indicators:\n  - type: domain\n    value: a.example\n    action: block\n    scope:\n      windows:\n        - {from: \"25:00\", to: \"26:00\"}\n", `:7:`},
		{"device groups, which a device does not know", "indicators:\n  - {type: domain, value: a.example, action: block, scope: {include_groups: [x]}}\n", `:2:61: unknown key "include_groups"`},
		{"too much in one", "indicators:\n  - {type: domain, value: a.example, action: block, scope: {include_users: [" + strings.Repeat(strings.Repeat("a", 200)+", ", 100) + "]}}\n", `:2:5: it says too much`},
		{"too large", strings.Repeat("#\n", maxFile), `: it is larger than 1024 KiB`},
		{"too deep", strings.Repeat("[", maxFile-1), `: it is nested more than 32 deep`},
		{"too deep with dashes", strings.Repeat("- ", maxFile/2-1), `: it is nested more than 32 deep`},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, err := Parse("/p/a.yaml", []byte(test.content), protected)
			var fault *FileError
			if !errors.As(err, &fault) {
				t.Fatalf("got %+v and %v, want a fault", f, err)
			}
			if !strings.HasPrefix(err.Error(), "/p/a.yaml"+test.want) {
				t.Errorf("got %q, want %q", err, "/p/a.yaml"+test.want)
			}
			if strings.ContainsAny(err.Error(), "\n") || fault.Hint == "" {
				t.Errorf("got %q with the hint %q, want one line and a hint", err, fault.Hint)
			}
		})
	}
}

func TestFilesThatSayNothing(t *testing.T) {
	for _, content := range []string{"", "\n", "# nothing yet\n", "---\n", "settings: {}\n", "indicators: []\n", "{}\n"} {
		if f, err := Parse("/p/a.yaml", []byte(content), protected); err != nil || len(f.Settings)+len(f.Indicators) > 0 {
			t.Errorf("%q: got %+v, %v", content, f, err)
		}
	}
}

func TestAnIndicatorWhoseTimeIsUpIsNoFault(t *testing.T) {
	const content = "indicators:\n  - {type: domain, value: a.example, action: block, expires_at: 2001-01-01T00:00:00+01:00}\n"
	f, err := Parse("/p/a.yaml", []byte(content), protected)
	if err != nil || len(f.Indicators) != 1 || !f.Indicators[0].Expired(time.Now()) {
		t.Errorf("got %+v, %v; want an indicator that does not count", f, err)
	}
}

// The example that is installed has every setting, with its default, and says
// nothing until somebody takes away the signs that make comments of its lines.
func TestTheExampleIsTrue(t *testing.T) {
	path := filepath.Join("..", "..", "..", "..", "packaging", "policy.d", "example.yaml")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse(path, content, protected)
	if err != nil || len(f.Settings)+len(f.Indicators) > 0 {
		t.Errorf("as it is installed: got %+v, %v; want nothing", f, err)
	}
	f, err = Parse(path, []byte(strings.ReplaceAll(string(content), "\n#", "\n")), protected)
	if err != nil {
		t.Fatalf("with everything in it: %v", err)
	}
	for _, d := range fleet.Definitions() {
		if value, ok := f.Settings[d.Name]; !ok || d.Default != "" && value != d.Default {
			t.Errorf("%s is %q (%v), want its default %q", d.Name, value, ok, d.Default)
		}
		if !strings.Contains(string(content), d.Summary) {
			t.Errorf("nothing says what %s does: %s", d.Name, d.Summary)
		}
		for _, v := range d.Values {
			if !strings.Contains(string(content), v) {
				t.Errorf("nothing says that %s can be %s", d.Name, v)
			}
		}
	}
	if len(f.Indicators) == 0 {
		t.Error("there is no indicator in it")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{whole, "settings: {fail_mode: open}", "- - - a", "? a\n: b", "{a: [}", "a: &a *a", "a: |\n  b", "<<: {a: b}", "indicators:\n- ~", "\"\\u"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		file, err := Parse("/p/a.yaml", content, protected)
		if err != nil {
			if !errors.As(err, new(*FileError)) {
				t.Errorf("got %v, want a fault", err)
			}
			return
		}
		for name, value := range file.Settings {
			d, ok := fleet.Define(name)
			if canonical, err := d.Parse(value); !ok || err != nil && value != "" || canonical != value {
				t.Errorf("setting %s=%q is not canonical (%v)", name, value, err)
			}
		}
		for _, i := range file.Indicators {
			if _, faults := indicator.Validate(i, time.Time{}); len(faults) > 0 || protected.Check(&i) != nil {
				t.Errorf("indicator %+v has faults %v", i, faults)
			}
		}
	})
}
