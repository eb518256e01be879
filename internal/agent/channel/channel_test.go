package channel_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/agent/channel"
	"interdict/internal/bundle"
	"interdict/internal/fleet"
)

const (
	protection = fleet.SettingNetworkProtection
	contact    = fleet.SettingSupportContact
)

func server(t *testing.T, records ...bundle.Record) channel.Server {
	t.Helper()
	set, err := bundle.NewSet(slices.Values(records))
	if err != nil {
		t.Fatal(err)
	}
	s, err := channel.FromBundle(set)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func said(value string) map[string]string { return map[string]string{protection: value} }

func TestTheFirstChannelInLineCounts(t *testing.T) {
	policy := server(t, bundle.Setting(protection, "block", "policy-1"))
	unassigned := server(t, bundle.Setting(protection, "audit", ""))
	early := channel.File{Path: "/p/10-a.yaml", Settings: said("audit")}
	late := channel.File{Path: "/p/20-b.yaml", Settings: said("disabled")}
	other := channel.File{Path: "/p/30-c.yaml", Settings: map[string]string{contact: "ext. 5"}}
	for _, test := range []struct {
		name string
		said channel.Said
		want channel.Value
	}{
		{"without anybody the default", channel.Said{}, channel.Value{Value: "disabled", Channel: fleet.ChannelDefault}},
		{
			"a policy before everything else",
			channel.Said{Server: policy, Files: []channel.File{late}, Environment: said("audit"), Local: said("audit")},
			channel.Value{Value: "block", Channel: fleet.ChannelServer, Source: "policy-1"},
		},
		{
			"a file before the environment, and the server's default after both",
			channel.Said{Server: unassigned, Files: []channel.File{late}, Environment: said("block"), Local: said("block")},
			channel.Value{Value: "disabled", Channel: fleet.ChannelFile, Source: "/p/20-b.yaml"},
		},
		{
			"of two files the later name",
			channel.Said{Files: []channel.File{late, early}},
			channel.Value{Value: "disabled", Channel: fleet.ChannelFile, Source: "/p/20-b.yaml"},
		},
		{
			"a later file that does not make the setting leaves it",
			channel.Said{Files: []channel.File{early, other}},
			channel.Value{Value: "audit", Channel: fleet.ChannelFile, Source: "/p/10-a.yaml"},
		},
		{"the environment before set", channel.Said{Environment: said("block"), Local: said("audit")}, channel.Value{Value: "block", Channel: fleet.ChannelEnvironment}},
		{"set before the server's default", channel.Said{Server: unassigned, Local: said("block")}, channel.Value{Value: "block", Channel: fleet.ChannelLocal}},
		{"the server's default before ours", channel.Said{Server: unassigned}, channel.Value{Value: "audit", Channel: fleet.ChannelDefault}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.want.Setting = protection
			e := channel.Merge(test.said)
			if diff := cmp.Diff(test.want, e.Of(protection)); diff != "" {
				t.Errorf("value (-want +got):\n%s", diff)
			}
			if string(e.Settings.NetworkProtection) != test.want.Value {
				t.Errorf("settings say %q, want %q", e.Settings.NetworkProtection, test.want.Value)
			}
		})
	}
}

func TestAnEmptyTextIsAValue(t *testing.T) {
	e := channel.Merge(channel.Said{
		Files: []channel.File{{Path: "/p/a.yaml", Settings: map[string]string{contact: ""}}}, Local: map[string]string{contact: "ext. 5"},
	})
	if got := e.Of(contact); got.Value != "" || got.Channel != fleet.ChannelFile {
		t.Errorf("got %+v, want the file's empty text", got)
	}
}

// rank is the place of a channel in the line.
func rank(c fleet.Channel) int {
	return slices.Index([]fleet.Channel{fleet.ChannelServer, fleet.ChannelFile, fleet.ChannelEnvironment, fleet.ChannelLocal, fleet.ChannelDefault}, c)
}

// What is in force is always what the first channel in line says, in whatever
// order the files come; and taking that channel's word back leaves what is
// next, as if it had never been said.
func TestPrecedenceHoldsWhateverIsSaid(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		s, want := randomSaid(t, random)
		got := channel.Merge(s)
		for _, v := range got.Values {
			if w := want[v.Setting]; v != w {
				t.Fatalf("%s: got %+v, want %+v of %+v", v.Setting, v, w, s)
			}
		}
		random.Shuffle(len(s.Files), func(i, j int) { s.Files[i], s.Files[j] = s.Files[j], s.Files[i] })
		if diff := cmp.Diff(got, channel.Merge(s)); diff != "" {
			t.Fatalf("files in another order (-before +after):\n%s", diff)
		}
	}
}

// randomSaid lets channels say things, and works out what counts as it goes: a
// value replaces one of a channel that stands further back.
func randomSaid(t *testing.T, random *rand.Rand) (channel.Said, map[string]channel.Value) {
	t.Helper()
	s := channel.Said{Environment: map[string]string{}, Local: map[string]string{}}
	for _, path := range []string{"/p/1.yaml", "/p/2.yaml", "/p/3.yaml"} {
		s.Files = append(s.Files, channel.File{Path: path, Settings: map[string]string{}})
	}
	want := make(map[string]channel.Value)
	say := func(v channel.Value) bool {
		if random.IntN(3) > 0 {
			return false
		}
		have := want[v.Setting]
		if rank(v.Channel) < rank(have.Channel) || v.Channel == have.Channel && v.Source > have.Source {
			want[v.Setting] = v
		}
		return true
	}
	var records []bundle.Record
	for _, d := range fleet.Definitions() {
		want[d.Name] = channel.Value{Setting: d.Name, Value: d.Default, Channel: fleet.ChannelDefault}
		if len(d.Values) == 0 {
			continue
		}
		pick := func() string { return d.Values[random.IntN(len(d.Values))] }
		if v := (channel.Value{Setting: d.Name, Value: pick(), Channel: fleet.ChannelServer, Source: "p"}); say(v) {
			records = append(records, bundle.Setting(d.Name, v.Value, "p"))
		}
		for i := range s.Files {
			if v := (channel.Value{Setting: d.Name, Value: pick(), Channel: fleet.ChannelFile, Source: s.Files[i].Path}); say(v) {
				s.Files[i].Settings[d.Name] = v.Value
			}
		}
		if v := (channel.Value{Setting: d.Name, Value: pick(), Channel: fleet.ChannelEnvironment}); say(v) {
			s.Environment[d.Name] = v.Value
		}
		if v := (channel.Value{Setting: d.Name, Value: pick(), Channel: fleet.ChannelLocal}); say(v) {
			s.Local[d.Name] = v.Value
		}
	}
	s.Server = server(t, records...)
	return s, want
}

func TestSettingsOfABundle(t *testing.T) {
	s := server(t, bundle.Setting("quantum_protection", "on", "policy-9"), bundle.Setting("quantum_default", "on", ""))
	if diff := cmp.Diff([]channel.Value{{Setting: "quantum_protection", Value: "on", Channel: fleet.ChannelServer, Source: "policy-9"}}, s.Unknown()); diff != "" {
		t.Errorf("unknown settings (-want +got):\n%s", diff)
	}
	for _, bad := range []bundle.Record{bundle.Setting(protection, "sideways", "p"), bundle.Setting(protection, "", "p")} {
		set, err := bundle.NewSet(slices.Values([]bundle.Record{bad}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := channel.FromBundle(set); err == nil || !strings.Contains(err.Error(), "must be disabled, audit or block") {
			t.Errorf("%+v: got %v, want what it must be", bad, err)
		}
	}
}

func TestTheEnvironmentMakesSettings(t *testing.T) {
	values, faults := channel.FromEnvironment([]string{
		"PATH=/bin", "INTERDICT_TOKEN=idk", "INTERDICT_SERVER=https://x", "INTERDICT_FAIL_MODE=", "INTERDICT_NETWORK_PROTECTION=block",
		"INTERDICT_WARN_BYPASS_DURATION=90m", "INTERDICT_GATEWAY_MODE=perhaps", "INTERDICT_NETWORK_PROTECTON=audit", "interdict_notifications=off",
		"INTERDICT_SERVICE_HOST=192.0.2.1", "INTERDICT_PORT_8443_TCP=tcp://192.0.2.1:8443", "INTERDICT_LAB=1", "INTERDICT_COLOUR=red",
	})
	if diff := cmp.Diff(map[string]string{protection: "block", fleet.SettingWarnBypassDuration: "1h30m"}, values); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	want := []string{
		`INTERDICT_GATEWAY_MODE="perhaps" is ignored: it must be off or on`,
		"INTERDICT_NETWORK_PROTECTON makes no setting; did you mean INTERDICT_NETWORK_PROTECTION?",
	}
	if diff := cmp.Diff(want, faults); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

func TestNearNames(t *testing.T) {
	for _, test := range []struct {
		typed string
		want  string // the first
	}{
		{"network-protecton", "network_protection"},
		{"fail-modes", "fail_mode"},
		{"gateway", "gateway_mode"},
		{"notification", "notifications"},
		{"zebra", ""},
		{"", ""},
		{strings.Repeat("network_protection", 1000), ""},
	} {
		got := strings.Join(channel.Near(test.typed), " ")
		if first, _, _ := strings.Cut(got, " "); first != test.want {
			t.Errorf("%.40q: got %q, want %q first", test.typed, got, test.want)
		}
	}
}
