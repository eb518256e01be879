package doctor_test

import (
	"errors"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"interdict/internal/agent"
	"interdict/internal/agent/doctor"
	"interdict/internal/agent/health"
	"interdict/internal/agent/journal"
	"interdict/internal/agent/uplink"
	"interdict/internal/fault"
	"interdict/internal/fleet"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// healthy is a machine on which all is well.
func healthy() *doctor.Facts {
	f := &doctor.Facts{
		Now: now, Version: "1.2.3", Release: "6.1.0-18-amd64", Features: make(map[string]string),
		Agent: &agent.Status{
			AgentVersion: "1.2.3", StartedAt: now.Add(-time.Hour), Managed: true, Enforcing: true, Mode: fleet.ModeBlock,
			Uplink: uplink.Status{Connected: true, Version: 7}, Spool: journal.SpoolStats{Limit: 64 << 20},
		},
		AgentPID: 77,
		Identity: doctor.Identity{
			Enrolled: true, Device: "01J0000000000000000000TEST", Server: "https://interdict.example:8443",
			ValidFrom: now.Add(-24 * time.Hour), ValidTo: now.Add(29 * 24 * time.Hour),
		},
		Server: &uplink.Reached{Stage: uplink.StageHTTP, Took: 12 * time.Millisecond, Asked: now, Now: now},
		Bundle: doctor.Bundle{Version: 7, IssuedAt: now.Add(-time.Hour), NotAfter: now.Add(300 * 24 * time.Hour)},
		Rules:  doctor.Rules{Present: true, Compared: true, Wanted: true},
		Queues: []doctor.Queue{
			{Number: 5770, PID: 77, Program: "interdict-agent", Own: true}, {Number: 5771, PID: 77, Program: "interdict-agent", Own: true},
		},
		Directory:     doctor.Directory{Path: "/var/lib/interdict-agent", Free: 1 << 30},
		SystemJournal: true,
		Resolving:     doctor.Resolving{File: "/etc/resolv.conf", Servers: []netip.Addr{netip.MustParseAddr("192.0.2.53")}},
		Programs:      []doctor.Program{{PID: 1, Name: "systemd"}, {PID: 77, Name: "interdict-agent"}},
		Interfaces:    []doctor.Interface{{Name: "lo", Up: true}, {Name: "eth0", Up: true}, {Name: "tun9"}},
	}
	for _, feature := range doctor.Features() {
		f.Features[feature.Name] = ""
	}
	return f
}

func TestOnAHealthyMachineNothingIsToBeMended(t *testing.T) {
	r := doctor.Examine(healthy())
	for _, f := range r.Findings {
		if f.State != doctor.OK || f.Text == "" || f.Mend != "" {
			t.Errorf("%s: got %+v, want ok and nothing to mend", f.Check, f)
		}
	}
	var names []string
	for _, f := range r.Findings {
		names = append(names, f.Check)
	}
	if !slices.Equal(names, doctor.Names()) {
		t.Errorf("checks are %q, want one finding each of %q", names, doctor.Names())
	}
}

// broken are machines with one thing wrong each.
func broken() []struct {
	name  string
	hurt  func(f *doctor.Facts)
	check string
	state doctor.State
	// says is in the text or in what it means.
	says string
} {
	const ok, info, warn, fail = doctor.OK, doctor.Info, doctor.Warn, doctor.Fail
	unreached := func(stage uplink.Stage, cause error) func(*doctor.Facts) {
		return func(f *doctor.Facts) {
			f.Server = &uplink.Reached{Stage: stage, Address: "192.0.2.10:8443", Err: cause, Authority: "CN=Proxy"}
		}
	}
	hurtAgent := func(hurt func(s *agent.Status)) func(*doctor.Facts) { return func(f *doctor.Facts) { hurt(f.Agent) } }
	away := errors.New("no answer")
	return []struct {
		name  string
		hurt  func(f *doctor.Facts)
		check string
		state doctor.State
		says  string
	}{
		{"not root", func(f *doctor.Facts) { f.UID = 1000 }, "privileges", fail, "user 1000"},
		{"an old kernel", func(f *doctor.Facts) { f.Release = "5.10.0-28-amd64" }, "kernel", warn, "older than 5.14"},
		{"a kernel that is older still", func(f *doctor.Facts) { f.Release = "4.19.0" }, "kernel", warn, "older than 5.14"},
		{"a kernel with a name of its own", func(f *doctor.Facts) { f.Release = "custom" }, "kernel", info, "custom"},
		{"no nftables", func(f *doctor.Facts) { f.Features["nf_tables"] = "not supported" }, "nf_tables", fail, "not supported"},
		{"no queues", func(f *doctor.Facts) { f.Features["packet_queue"] = "no NFQUEUE" }, "packet_queue", fail, "no NFQUEUE"},
		{"no connection table", func(f *doctor.Facts) { f.Features["connection_table"] = "no ctnetlink" }, "connection_table", fail, "go on"},
		{"no destroying of sockets", func(f *doctor.Facts) { f.Features["socket_destroy"] = "not supported" }, "socket_destroy", warn, "late"},
		{"no programs at cgroups", func(f *doctor.Facts) { f.Features["cgroup_bpf"] = "locked down" }, "cgroup_bpf", warn, "locked down"},
		{"no socket monitor", func(f *doctor.Facts) { f.Features["socket_monitor"] = "gone" }, "socket_monitor", warn, "gone"},
		{"no permission events", func(f *doctor.Facts) { f.Features["exec_permission"] = "no such call" }, "exec_permission", info, "app control"},
		{"a feature that could not be tried", func(f *doctor.Facts) { delete(f.Features, "nf_tables") }, "nf_tables", info, "not tried"},
		{"a feature without root", func(f *doctor.Facts) { f.UID, f.Features["nf_tables"] = 1000, "denied" }, "nf_tables", info, "needs root"},

		{"no agent", func(f *doctor.Facts) { f.Agent, f.AgentError = nil, "the agent does not answer" }, "agent", fail, "does not answer"},
		{"an upgrade without a restart", hurtAgent(func(s *agent.Status) { s.AgentVersion = "1.2.2" }), "agent", warn, "1.2.2"},
		{"nothing in force", hurtAgent(func(s *agent.Status) { s.Enforcing = false }), "enforcement", fail, "nothing is enforced"},
		{"disabled", hurtAgent(func(s *agent.Status) { s.Mode = fleet.ModeDisabled }), "enforcement", info, "disabled"},
		{"a fault that the agent knows of", hurtAgent(func(s *agent.Status) {
			s.Health = []health.Item{{Code: health.CaptureMissing, Since: now, Text: "no queue"}}
		}), "health", fail, "capture_missing: no queue"},
		{"a fault that another check explains", func(f *doctor.Facts) {
			f.Agent.Health = []health.Item{{Code: health.ServerUnreachable, Since: now, Text: "away"}}
			f.Server.Err = away
		}, "health", ok, "no other fault"},

		{"rules are missing", func(f *doctor.Facts) { f.Rules.Present = false }, "rules", fail, "is missing"},
		{"rules were changed", func(f *doctor.Facts) { f.Rules.Drift = []string{`chain "output" lacks 1 of 3 entries`} }, "rules", fail, `chain "output"`},
		{"rules that nobody wants", func(f *doctor.Facts) { f.Rules.Wanted = false }, "rules", warn, "nothing is to be enforced"},
		{"no rules and none wanted", func(f *doctor.Facts) { f.Rules = doctor.Rules{Compared: true} }, "rules", ok, "as it should be"},
		{"rules without an agent", func(f *doctor.Facts) { f.Rules = doctor.Rules{Present: true} }, "rules", info, "as an agent leaves them"},
		{"rules that were changed without an agent", func(f *doctor.Facts) {
			f.Rules = doctor.Rules{Present: true, Drift: []string{`chain "output" lacks 1 of 3 entries`}}
		}, "rules", fail, "that the agent left"},
		{"no rules and no agent", func(f *doctor.Facts) { f.Rules = doctor.Rules{} }, "rules", info, "none"},
		{"rules that cannot be read", func(f *doctor.Facts) { f.Rules = doctor.Rules{Error: "denied"} }, "rules", warn, "denied"},
		{"nobody listens", func(f *doctor.Facts) { f.Queues = nil }, "queues", fail, "nobody listens"},
		{"nobody listens and nobody has to", func(f *doctor.Facts) { f.Queues, f.Rules = nil, doctor.Rules{Compared: true} }, "queues", ok, "none are needed"},
		{"somebody else listens in our place", func(f *doctor.Facts) { f.Queues[0].PID, f.Queues[0].Program = 9, "suricata" }, "queues", fail, "suricata"},
		{"packets were lost", func(f *doctor.Facts) { f.Queues[1].Dropped = 3 }, "queues", warn, "3 packets were lost"},
		{"queues that cannot be listed", func(f *doctor.Facts) { f.QueuesError = "denied" }, "queues", warn, "denied"},
		{"another one who judges packets", func(f *doctor.Facts) {
			f.Queues = append(f.Queues, doctor.Queue{Number: 0, PID: 9, Program: "opensnitchd"})
		}, "other_queues", warn, "queue 0 is read by opensnitchd (process 9)"},
		{"another one who cannot be found", func(f *doctor.Facts) { f.Queues = append(f.Queues, doctor.Queue{Number: 4}) }, "other_queues", warn, "cannot be found"},

		{"not enrolled", func(f *doctor.Facts) { f.Identity, f.Agent = doctor.Identity{}, nil }, "enrolment", fail, "not enrolled"},
		{"no server by choice", func(f *doctor.Facts) { f.Identity, f.Agent.Managed = doctor.Identity{}, false }, "enrolment", info, "no server manages"},
		{"no server by choice, and no agent", func(f *doctor.Facts) { f.Identity, f.Agent, f.OwnPolicy = doctor.Identity{}, nil, true }, "enrolment", info, "no server manages"},
		{"a drop-in file with another ending", func(f *doctor.Facts) { f.UnreadFiles = []string{"/etc/interdict/policy.d/70.yml"} }, "settings_files", warn, "70.yml is not read"},
		{"a note beside drop-in files", func(f *doctor.Facts) { f.UnreadFiles = []string{"/etc/interdict/policy.d/README"} }, "settings_files", info, "README is not read"},
		{"an agent that has not noticed", func(f *doctor.Facts) { f.Agent.Managed = false }, "enrolment", warn, "as if it were not"},
		{"a damaged identity", func(f *doctor.Facts) { f.Identity.Error = "identity.json: cut off" }, "enrolment", fail, "cut off"},
		{"an expired certificate", func(f *doctor.Facts) { f.Identity.ValidTo = now.Add(-time.Hour) }, "certificate", fail, "ended on"},
		{"a certificate of the future", func(f *doctor.Facts) { f.Identity.ValidFrom = now.Add(time.Hour) }, "certificate", fail, "clock is behind"},
		{"a certificate that was not renewed", func(f *doctor.Facts) { f.Identity.ValidTo = now.Add(48 * time.Hour) }, "certificate", warn, "was not renewed"},
		{"no certificate", func(f *doctor.Facts) { f.Identity = doctor.Identity{} }, "certificate", info, "none"},
		{"a name that is not found", unreached(uplink.StageLookup, away), "server", fail, "interdict.example cannot be looked up"},
		{
			"a closed port", unreached(uplink.StageConnect, fault.New(fault.Unreachable, "x").Because(&url.Error{Op: "Get", URL: "x", Err: away})),
			"server", fail, "192.0.2.10:8443 does not take a connection: no answer",
		},
		{"intercepted TLS", unreached(uplink.StageTLS, away), "server", fail, "CN=Proxy"},
		{"a deleted device", unreached(uplink.StageHTTP, fault.New(fault.Unauthorized, "gone")), "server", fail, "does not accept this device"},
		{"a server with a fault", unreached(uplink.StageHTTP, away), "server", fail, "with a fault"},
		{"no server", func(f *doctor.Facts) { f.Identity = doctor.Identity{} }, "server", info, "none"},
		{"a server that was not tried", func(f *doctor.Facts) { f.Server = nil }, "server", info, "not tried"},
		{"a clock that is ahead", func(f *doctor.Facts) { f.Server.Now = now.Add(-2 * time.Hour) }, "clock", fail, "2h0m0s ahead of"},
		{"a clock that is behind", func(f *doctor.Facts) { f.Server.Now = now.Add(2 * time.Minute) }, "clock", fail, "2m0s behind"},
		{"a clock that nobody keeps", func(f *doctor.Facts) { f.Unsynchronised = true }, "clock", warn, "nothing keeps"},
		{"a clock without a server", func(f *doctor.Facts) { f.Server = nil }, "clock", ok, "not known"},
		{"a damaged bundle", func(f *doctor.Facts) { f.Bundle = doctor.Bundle{Error: "bad signature"} }, "bundle", fail, "bad signature"},
		{"no bundle", func(f *doctor.Facts) { f.Bundle = doctor.Bundle{Missing: true} }, "bundle", warn, "none yet"},
		{"a bundle past its time", func(f *doctor.Facts) { f.Bundle.NotAfter = now.Add(-time.Hour) }, "bundle", warn, "was good until"},
		{"an old bundle and no server", func(f *doctor.Facts) {
			f.Bundle.IssuedAt, f.Server.Err = now.Add(-30*24*time.Hour), away
		}, "bundle", warn, "is from"},
		{"an old bundle that is still the newest", func(f *doctor.Facts) { f.Bundle.IssuedAt = now.Add(-30 * 24 * time.Hour) }, "bundle", ok, "version 7"},
		{"a bundle that could not be saved", func(f *doctor.Facts) { f.Bundle.Version = 6 }, "bundle", warn, "6 is on disk, 7 is in force"},
		{"no bundle without a server", func(f *doctor.Facts) { f.Identity = doctor.Identity{} }, "bundle", info, "none"},

		{"a refused file", func(f *doctor.Facts) {
			f.RefusedFiles = []doctor.RefusedFile{{Path: "/etc/interdict/policy.d/a.yaml", Faults: []string{"line 3: no such setting"}}}
		}, "settings_files", fail, "line 3"},
		{"a refused file is told of once", func(f *doctor.Facts) {
			f.RefusedFiles = []doctor.RefusedFile{{Path: "/etc/interdict/policy.d/a.yaml", Faults: []string{"line 3: no such setting"}}}
			f.Agent.Health = []health.Item{{Code: health.PolicyFileRefused, Since: now, Text: "line 3: no such setting"}}
		}, "health", ok, "no other fault"},
		{"a state directory that others may read", func(f *doctor.Facts) { f.Directory.Open = []string{"/var/lib/interdict-agent"} }, "state_directory", fail, "others than root"},
		{"a state directory that cannot be read", func(f *doctor.Facts) { f.Directory.Error = "input/output error" }, "state_directory", fail, "input/output"},
		{"a state directory without root", func(f *doctor.Facts) { f.Directory.Error, f.UID = "denied", 1000 }, "state_directory", info, "needs root"},
		{"queues without root", func(f *doctor.Facts) { f.QueuesError, f.Queues, f.UID = "denied", nil, 1000 }, "other_queues", info, "needs root"},
		{"no state directory", func(f *doctor.Facts) { f.Directory.Missing, f.Identity = true, doctor.Identity{} }, "state_directory", info, "does not exist"},
		{"a full disk", func(f *doctor.Facts) { f.Directory.Free = 1 << 20 }, "disk", fail, "1 MiB"},
		{"a disk that is nearly full", func(f *doctor.Facts) { f.Directory.Free = 50 << 20 }, "disk", warn, "50 MiB"},
		{"a disk of which nothing is known", func(f *doctor.Facts) { f.Directory.Missing = true }, "disk", info, "not known"},
		{"lost events", hurtAgent(func(s *agent.Status) { s.Spool.Dropped = journal.Dropped{Audited: 2, Other: 1, Rejected: 4} }), "spool", warn, "7 events never"},
		{"a spool that is nearly full", hurtAgent(func(s *agent.Status) { s.Spool.Bytes = 60 << 20 }), "spool", warn, "events wait"},
		{"a spool without an agent", func(f *doctor.Facts) { f.Agent, f.Directory.Waiting = nil, 4096 }, "spool", info, "4 KiB"},
		{"events that nobody takes", hurtAgent(func(s *agent.Status) { s.Managed = false }), "spool", info, "no server takes events"},
		{"no systemd", func(f *doctor.Facts) { f.SystemJournal = false }, "system_journal", info, "own log alone"},

		{"no name servers", func(f *doctor.Facts) { f.Resolving.Servers = nil }, "name_servers", warn, "no name server"},
		{"names over TLS and by another protocol", func(f *doctor.Facts) {
			f.Resolving.Resolved, f.Resolving.Bus, f.Resolving.Encrypted = true, true, "yes"
		}, "name_servers", info, "no answers are seen"},
		{"names over TLS", func(f *doctor.Facts) { f.Resolving.Resolved, f.Resolving.Encrypted = true, "opportunistic" }, "name_servers", info, "asks over TLS"},
		{"names by another protocol", func(f *doctor.Facts) { f.Resolving.Resolved, f.Resolving.Bus = true, true }, "name_servers", info, "its own protocol"},
		{"systemd-resolved as any other", func(f *doctor.Facts) { f.Resolving.Resolved = true }, "name_servers", ok, "192.0.2.53"},
		{"a browser with its own names", func(f *doctor.Facts) {
			f.EncryptedDNS = []doctor.Connection{{Program: "firefox", PID: 8, Remote: netip.MustParseAddrPort("203.0.113.8:443"), Service: "dns.example", Protocol: "DNS over HTTPS"}}
		}, "encrypted_dns", warn, "firefox (process 8) asks dns.example (203.0.113.8:443) by DNS over HTTPS"},
		{"the system's resolver with TLS", func(f *doctor.Facts) {
			f.EncryptedDNS = []doctor.Connection{{Program: "systemd-resolve", PID: 8, Remote: netip.MustParseAddrPort("203.0.113.8:853"), Protocol: "DNS over TLS"}}
		}, "encrypted_dns", info, "systemd-resolved asks"},
		{"Docker", func(f *doctor.Facts) { f.Programs = append(f.Programs, doctor.Program{PID: 5, Name: "dockerd"}) }, "firewall_managers", info, "Docker"},
		{"a firewall that has no program", func(f *doctor.Facts) { f.Firewalls = []string{"ufw"} }, "firewall_managers", info, "ufw"},
		{"a firewall that deletes everything", func(f *doctor.Facts) { f.FlushesRules = []string{"/etc/nftables.conf"} }, "firewall_managers", info, "/etc/nftables.conf"},
		{"another guard", func(f *doctor.Facts) { f.Programs = append(f.Programs, doctor.Program{PID: 5, Name: "falcon-sensor"}) }, "security_software", info, "CrowdStrike"},
		{"a VPN", func(f *doctor.Facts) {
			f.Interfaces = append(f.Interfaces, doctor.Interface{Name: "wg0", Up: true}, doctor.Interface{Name: "office", Kind: "tun", Up: true})
		}, "vpn", info, "wg0, office"},
		{"containers", func(f *doctor.Facts) { f.Namespaces = []doctor.Namespace{{Program: "nginx", PID: 6}} }, "network_namespaces", info, "nginx (process 6)"},
		{"containers with a way past", func(f *doctor.Facts) {
			f.Namespaces = []doctor.Namespace{{Program: "nginx", PID: 6}}
			f.Interfaces = append(f.Interfaces, doctor.Interface{Name: "macvlan0", Kind: "macvlan"})
		}, "network_namespaces", warn, "macvlan0"},
	}
}

func TestWhatIsBrokenIsFoundByItsCheck(t *testing.T) {
	for _, test := range broken() {
		t.Run(test.name, func(t *testing.T) {
			f := healthy()
			test.hurt(f)
			var found []doctor.Finding
			for _, got := range doctor.Examine(f).Findings {
				if got.Check == test.check {
					found = append(found, got)
				}
			}
			if len(found) != 1 || found[0].State != test.state || !strings.Contains(found[0].Text+"; "+found[0].Means, test.says) {
				t.Errorf("got %+v, want %s that says %q", found, test.state, test.says)
			}
		})
	}
}

// TestEveryCheckCanBeUnhappy keeps checks from being there for show.
func TestEveryCheckCanBeUnhappy(t *testing.T) {
	unhappy := make(map[string]bool)
	for _, test := range broken() {
		unhappy[test.check] = unhappy[test.check] || test.state != doctor.OK
	}
	for _, name := range doctor.Names() {
		if !unhappy[name] {
			t.Errorf("no machine is known on which %s finds anything", name)
		}
	}
}

func TestWhatIsToBeMendedSaysHow(t *testing.T) {
	// The programs that mending commands begin with; those of interdict-agent
	// are looked at where its commands are.
	programs := []string{
		"interdict-agent", "sudo", "systemctl", "journalctl", "timedatectl", "modprobe", "nft", "ip", "cat", "ls", "df", "mv", "chown", "grep", "uname",
		"getent", "openssl", "${EDITOR:-vi}",
	}
	for _, test := range broken() {
		f := healthy()
		test.hurt(f)
		for _, got := range doctor.Examine(f).Findings {
			first, _, _ := strings.Cut(got.Mend, " ")
			switch {
			case got.State == doctor.OK && got.Mend != "":
				t.Errorf("%s: %s is fine and is to be mended by %q", test.name, got.Check, got.Mend)
			case (got.State == doctor.Warn || got.State == doctor.Fail) && (got.Means == "" || !slices.Contains(programs, first)):
				t.Errorf("%s: %s says %+v, want what it means and a command that mends it", test.name, got.Check, got)
			}
		}
	}
}

func TestEveryFaultOfTheAgentHasACommandOfItsOwn(t *testing.T) {
	source, err := os.ReadFile("../health/health.go")
	if err != nil {
		t.Fatal(err)
	}
	page := troubleshooting(t)
	codes := regexp.MustCompile(`Code = "([a-z_]+)"`).FindAllSubmatch(source, -1)
	if len(codes) < 10 {
		t.Fatalf("%d codes were found in the source", len(codes))
	}
	for _, match := range codes {
		code := string(match[1])
		if !doctor.Mends(health.Code(code)) {
			t.Errorf("nothing mends %s", code)
		}
		if !strings.Contains(page, "`"+code+"`") {
			t.Errorf("docs/troubleshooting.md does not know %s", code)
		}
	}
}

func troubleshooting(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

func TestEveryCheckIsOnThePageOfTroubles(t *testing.T) {
	page := troubleshooting(t)
	var headings []string
	for _, match := range regexp.MustCompile("(?m)^### `([a-z_]+)`$").FindAllStringSubmatch(page, -1) {
		headings = append(headings, match[1])
	}
	if !slices.Equal(headings, doctor.Names()) {
		t.Errorf("the page has\n%q, the checks are\n%q", headings, doctor.Names())
	}
}
