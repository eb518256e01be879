package fleet_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/fleet"
)

func TestParseSetting(t *testing.T) {
	for _, test := range []struct {
		name, setting, value, want string
	}{
		{"a choice", "network-protection", "audit", "audit"},
		{"a choice that there is not", "network_protection", "on", ""},
		{"an empty choice", "gateway_mode", "", ""},
		{"a span becomes short", "warn_bypass_duration", "90m", "1h30m"},
		{"a span of hours", "warn_bypass_duration", "86400s", "24h"},
		{"ten minutes keep their zero", "warn_bypass_duration", "600s", "10m"},
		{"a span that is too short", "event_upload_interval", "0s", ""},
		{"a span that is too long", "event_upload_interval", "25h", ""},
		{"half a second", "event_upload_interval", "1500ms", ""},
		{"a text with placeholders", "notification_text", "{app} ({host}): {reason}. Ask {contact}.", "{app} ({host}): {reason}. Ask {contact}."},
		{"a placeholder that there is not", "notification_text", "{user}", ""},
		{"a text over several lines", "support_contact", "IT\nroom 5", ""},
		{"an address", "support_url", "https://help.example.com/it", "https://help.example.com/it"},
		{"an address that runs something", "support_url", "javascript:alert(1)", ""},
		{"an address with a password", "support_url", "https://a:b@help.example.com/", ""},
	} {
		d, ok := fleet.Define(test.setting)
		if !ok {
			t.Fatalf("there is no setting %s", test.setting)
		}
		got, err := d.Parse(test.value)
		if (err == nil) != (test.want != "") || got != test.want {
			t.Errorf("%s: got %q and %v, want %q", test.name, got, err, test.want)
		}
	}
}

func TestStricterSettings(t *testing.T) {
	for _, test := range []struct {
		setting, a, b string
		want          int
	}{
		{"network_protection", "block", "audit", 1},
		{"network_protection", "disabled", "audit", -1},
		{"warn_bypass_duration", "1h", "24h", 1},
		{"warn_bypass_duration", "1h", "1h", 0},
		{"bypass_reason", "optional", "required", -1},
		{"notification_text", "a", "b", 0},
	} {
		d, _ := fleet.Define(test.setting)
		if got := d.Compare(test.a, test.b); got != test.want {
			t.Errorf("%s: comparing %s to %s gives %d, want %d", test.setting, test.a, test.b, got, test.want)
		}
	}
}

func TestEveryDefaultIsAValue(t *testing.T) {
	s := fleet.Defaults()
	for _, d := range fleet.Definitions() {
		if got := d.Get(&s); got != d.Default {
			t.Errorf("%s is %q by default, want %q", d.Name, got, d.Default)
		}
		if d.Default == "" {
			continue
		}
		if canonical, err := d.Parse(d.Default); err != nil || canonical != d.Default {
			t.Errorf("%s: its default %q parses as %q, %v", d.Name, d.Default, canonical, err)
		}
	}
	var empty fleet.Settings
	d, _ := fleet.Define(fleet.SettingFailMode)
	if err := d.Set(&empty, "closed"); err != nil {
		t.Error(err)
	}
	if err := d.Set(&empty, ""); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(fleet.Settings{}, empty); diff != "" {
		t.Errorf("a setting that was unmade (-want +got):\n%s", diff)
	}
}
