package command

import (
	"bytes"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/agent"
	"interdict/internal/agent/channel"
	"interdict/internal/fleet"
)

func TestWhatIsSetIsCheckedBeforeAnAgentIsAsked(t *testing.T) {
	empty := t.TempDir()
	for _, test := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"an unknown setting", []string{"zebra", "on"}, ExitUsage, "hint: list them with: interdict-agent set"},
		{"a mistyped setting", []string{"network-protecton", "audit"}, ExitUsage, "hint: did you mean network_protection?"},
		{"a bad value", []string{"fail-mode", "shut"}, ExitUsage, `fail_mode must be open or closed, not "shut"`},
		{"no value", []string{"fail-mode"}, ExitUsage, "VALUE is missing"},
		{"a value to take back", []string{"fail-mode", "open", "--unset"}, ExitUsage, `an argument too many: "open"`},
		{"nothing to take back", []string{"--unset"}, ExitUsage, "NAME is missing"},
		{"a machine without an agent", []string{"fail-mode", "open"}, ExitFailed, "interdict-agent run"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := run(t, append([]string{"set", "--state-dir", empty}, test.args...)...)
			if got.code != test.code || !strings.Contains(got.stderr, test.says) {
				t.Errorf("got code %d and %q, want %d and %q", got.code, got.stderr, test.code, test.says)
			}
		})
	}
}

func setting(name, value string, from fleet.Channel, source string) agent.Setting {
	return agent.Setting{Value: channel.Value{Setting: name, Value: value, Channel: from, Source: source}, State: fleet.SettingApplied}
}

func TestStatusHasARowForEachSetting(t *testing.T) {
	stuck := setting("app_control", "block", fleet.ChannelLocal, "")
	stuck.State, stuck.Text = fleet.SettingNotApplicable, "programs cannot be stopped"
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	printSettings(w, []agent.Setting{
		setting("network_protection", "block", fleet.ChannelServer, "01POLICY"), stuck,
		setting("fail_mode", "closed", fleet.ChannelFile, "/etc/interdict/policy.d/a.yaml"),
		setting("gateway_mode", "on", fleet.ChannelEnvironment, ""),
		setting("support_contact", "", fleet.ChannelDefault, ""),
		setting("notification_text", strings.Repeat("ä", 60), fleet.ChannelDefault, ""),
	})
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	want := `SETTING             VALUE                                             FROM
network_protection  block                                             policy 01POLICY
app_control         block                                             set (not applicable: programs cannot be stopped)
fail_mode           closed                                            /etc/interdict/policy.d/a.yaml
gateway_mode        on                                                environment
support_contact     -                                                 default
notification_text   ` + strings.Repeat("ä", 45) + `...  default
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func TestWhoeverSetsIsToldWhatGoesBefore(t *testing.T) {
	stored := "audit"
	suspended := setting("network_protection", "disabled", fleet.ChannelDefault, "")
	suspended.State, suspended.Text = fleet.SettingPending, "audit waits: an administrator ran rescue"
	for _, test := range []struct {
		name string
		s    agent.Setting
		want string
	}{
		{"nothing", setting("network_protection", "audit", fleet.ChannelLocal, ""), ""},
		{"a policy", setting("network_protection", "block", fleet.ChannelServer, "01POLICY"), "policy 01POLICY of the server goes before it"},
		{"a file", setting("network_protection", "block", fleet.ChannelFile, "/p/a.yaml"), "/p/a.yaml goes before it"},
		{"the environment", setting("network_protection", "block", fleet.ChannelEnvironment, ""), "INTERDICT_NETWORK_PROTECTION in the agent's environment goes before it"},
		{"a rescue", suspended, ""},
	} {
		test.s.Set = &stored
		var stdout, stderr bytes.Buffer
		c := &commander{env: Env{Stdout: &stdout, Stderr: &stderr}}
		if err := c.printSet(test.s, nil); err != nil {
			t.Fatal(err)
		}
		if got := stderr.String(); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
		if want := "network_protection is " + test.s.Value.Value + ", from "; !strings.HasPrefix(stdout.String(), want) {
			t.Errorf("%s: got %q, want %q", test.name, stdout.String(), want)
		}
	}
}

func TestEverySettingHasAMeaning(t *testing.T) {
	for setting, want := range map[string]string{
		"network_protection":    "connections to unsanctioned apps: disabled, audit, block",
		"event_upload_interval": "how often events are sent: from 1s to 24h",
		"support_url":           "where users find help",
		"from_the_future":       "",
	} {
		if got := meaning(setting); got != want {
			t.Errorf("%s: got %q, want %q", setting, got, want)
		}
	}
}
