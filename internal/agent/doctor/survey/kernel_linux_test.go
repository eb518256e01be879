package survey

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"interdict/internal/agent"
	"interdict/internal/agent/doctor"
	"interdict/internal/agent/netguard"
	"interdict/internal/agent/netguard/nfqueue"
	"interdict/internal/agent/netguard/nft/netnstest"
	"interdict/internal/agent/state"
	"interdict/internal/bundle"
	"interdict/internal/version"
)

// find returns what a check found on this machine.
func find(t *testing.T, f *doctor.Facts, check string) doctor.Finding {
	t.Helper()
	for _, found := range doctor.Examine(f).Findings {
		if found.Check == check {
			return found
		}
	}
	t.Fatalf("there is no check %q", check)
	return doctor.Finding{}
}

// stay keeps the test on the thread it is on: what is made there is in its
// network namespace.
func stay(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
}

func TestRulesThatSomebodyTouchedAreFound(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	stay(t)
	wanted := everything()
	for _, test := range []struct {
		name  string
		touch []string
		// says is in the finding; empty if all is well.
		says string
	}{
		{"nobody touched them", nil, ""},
		{"a rule was deleted", []string{"flush chain inet interdict refuse_output"}, `chain "refuse_output" lacks 2 of 3`},
		{"a rule was added", []string{"insert rule inet interdict output accept"}, `chain "output" has 1 foreign`},
		{"a chain was added", []string{"add chain inet interdict hole"}, `chain "hole" does not belong`},
		{"an address was taken out", []string{"delete element inet interdict refused4 { 198.51.100.1 }"}, `set "refused4" lacks`},
		{"an address was put in", []string{"add element inet interdict exempt4 { 203.0.113.1 . 443 }"}, `set "exempt4" has 1 foreign`},
		{"the table was put to sleep", []string{"add table inet interdict { flags dormant ; }"}, `table has 1 foreign`},
		{"the table was deleted", []string{"delete table inet interdict"}, "is missing"},
	} {
		if err := setRules(t.Context(), wanted); err != nil {
			t.Fatal(err)
		}
		for _, command := range test.touch {
			netnstest.Run(t, "nft", command)
		}
		f := doctor.Facts{Rules: rules(t.Context(), &wanted)}
		got := find(t, &f, "rules")
		if test.says == "" && got.State != doctor.OK || test.says != "" && (got.State != doctor.Fail || !strings.Contains(got.Text, test.says)) {
			t.Errorf("%s: got %+v, want %q", test.name, got, test.says)
		}
		netnstest.Run(t, "nft", "flush ruleset")
	}

	nothing := netguard.Config{}
	f := doctor.Facts{Rules: rules(t.Context(), &nothing)}
	if got := find(t, &f, "rules"); got.State != doctor.OK {
		t.Errorf("without rules, where none are wanted: %+v", got)
	}
	f.Rules = rules(t.Context(), nil)
	if got := find(t, &f, "rules"); got.State != doctor.Info {
		t.Errorf("without rules, where nobody knows: %+v", got)
	}
	wanted.FailClosed = true
	if err := setRules(t.Context(), wanted); err != nil {
		t.Fatal(err)
	}
	f.Rules = rules(t.Context(), nil)
	if got := find(t, &f, "rules"); got.State != doctor.Info || !strings.Contains(got.Text, "as an agent leaves them") {
		t.Errorf("with whole rules and no agent: %+v", got)
	}
	netnstest.Run(t, "nft", "flush chain inet interdict inspect")
	f.Rules = rules(t.Context(), nil)
	if got := find(t, &f, "rules"); got.State != doctor.Fail || !strings.Contains(got.Text, `chain "inspect" lacks`) {
		t.Errorf("with rules that somebody changed and no agent: %+v", got)
	}
}

func TestManyAddressesAreCompared(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	stay(t)
	wanted := everything()
	wanted.Refused = nil
	addr := netip.MustParseAddr("198.18.0.0")
	for range 5000 {
		wanted.Refused = append(wanted.Refused, netguard.Range{From: addr, To: addr})
		addr = addr.Next().Next()
	}
	if err := setRules(t.Context(), wanted); err != nil {
		t.Fatal(err)
	}
	if r := rules(t.Context(), &wanted); r.Error != "" || len(r.Drift) > 0 {
		t.Errorf("got %+v, want no drift", r)
	}
}

func TestTryingTheKernelLeavesNothingBehind(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	stay(t)
	tried := features(t.Context())
	for _, feature := range doctor.Features() {
		if err, ok := tried[feature.Name]; !ok {
			t.Errorf("%s was not tried", feature.Name)
		} else {
			t.Logf("%s: %q", feature.Name, err)
		}
	}
	for _, name := range []string{"nf_tables", "packet_queue", "connection_table", "socket_destroy"} {
		if tried[name] != "" {
			t.Errorf("%s: %s", name, tried[name])
		}
	}
	if left := netnstest.Run(t, "nft", "list", "ruleset"); strings.TrimSpace(left) != "" {
		t.Errorf("rules are left:\n%s", left)
	}
}

// listen opens the agent's kind of queues from a base on.
func listen(t *testing.T, base uint16) {
	t.Helper()
	queues, err := nfqueue.New(nfqueue.Config{Base: base, Handler: pass{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := queues.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = queues.Shutdown(context.WithoutCancel(t.Context())) })
}

// pass lets every packet go.
type pass struct{}

func (pass) Handle(_ netguard.Packet, answer func(netguard.Verdict)) { answer(netguard.Verdict{}) }

func TestWhoReadsQueuesIsFound(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	stay(t)
	listen(t, agent.QueueBase)
	c := Config{Root: os.DirFS("/")}
	f := doctor.Facts{Rules: doctor.Rules{Present: true, Compared: true, Wanted: true}}
	c.connections(&f)
	if got := find(t, &f, "queues"); got.State != doctor.OK {
		t.Errorf("our own queues: %+v", got)
	}
	if got := find(t, &f, "other_queues"); got.State != doctor.OK {
		t.Errorf("nobody else's queues: %+v", got)
	}
	listen(t, 40)
	f.Queues = nil
	c.connections(&f)
	if got := find(t, &f, "other_queues"); got.State != doctor.Warn || !strings.Contains(got.Text, "queue 40") {
		t.Errorf("another's queues: %+v, want a warning", got)
	}
	for _, q := range f.Queues {
		if q.PID != os.Getpid() {
			t.Errorf("queue %d is read by %d, want %d", q.Number, q.PID, os.Getpid())
		}
	}
}

func TestAConnectionToAnEncryptedNameServiceIsFound(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	stay(t)
	netnstest.Run(t, "ip", "addr", "add", "203.0.113.8/32", "dev", "lo")
	listener, err := net.Listen("tcp", "203.0.113.8:853")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	conn, err := net.Dial("tcp", "203.0.113.8:853")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	var f doctor.Facts
	Config{Root: os.DirFS("/")}.connections(&f)
	ours := slices.IndexFunc(f.EncryptedDNS, func(c doctor.Connection) bool { return c.PID == os.Getpid() })
	if ours < 0 || f.EncryptedDNS[ours].Protocol != "DNS over TLS" || f.EncryptedDNS[ours].Remote.Port() != 853 {
		t.Errorf("got %+v, want our own connection", f.EncryptedDNS)
	}
}

func TestAMachineWithoutAnythingIsSurveyed(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	stay(t)
	root := t.TempDir()
	f := Take(t.Context(), Config{Dir: state.At(root + "/none"), Policy: root + "/none", Root: os.DirFS("/")})
	if f.Agent != nil || f.AgentError == "" || f.Identity.Enrolled || !f.Directory.Missing || f.Release == "" {
		t.Errorf("got %+v, want no agent, no identity and no state", f)
	}
	if got := doctor.Examine(&f); got.Counts[doctor.Fail] == 0 {
		t.Error("nothing failed without an agent")
	}
}

func TestAStateDirectoryThatOthersMayReadIsFound(t *testing.T) {
	root := t.TempDir()
	dir, err := state.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := state.WriteFile(dir.Path("device.pem"), []byte("key")); err != nil {
		t.Fatal(err)
	}
	if got := directory(dir); len(got.Open) > 0 || got.Free == 0 {
		t.Errorf("got %+v, want nothing open and some bytes free", got)
	}
	if err := os.Chmod(dir.Path("device.pem"), 0o640); err != nil {
		t.Fatal(err)
	}
	if got := directory(dir); !slices.Equal(got.Open, []string{dir.Path("device.pem")}) {
		t.Errorf("got %+v, want the key", got.Open)
	}
}

func TestRefusedFilesAreNamedWithTheirFault(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"good.yaml": "indicators:\n  - {type: domain, value: tunes.example, action: block}\n",
		"typo.yaml": "settings:\n  network_protektion: block\n",
		"self.yaml": "indicators:\n  - {type: domain, value: interdict.example, action: block}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := refusedFiles(dir, "https://interdict.example:8443")
	if len(got) != 2 || filepath.Base(got[0].Path) != "self.yaml" || filepath.Base(got[1].Path) != "typo.yaml" || !strings.Contains(got[1].Faults[0], "network_protektion") {
		t.Errorf("got %+v, want the mistyped file and the one that blocks the server", got)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 3 {
		t.Errorf("%d files are left (%v), want the three", len(left), err)
	}
}

func TestFilesThatNobodyReadsAreFound(t *testing.T) {
	policy := t.TempDir()
	for _, name := range []string{"10-a.yaml", "70.yml", ".hidden.yml", "10-a.yaml~"} {
		if err := os.WriteFile(filepath.Join(policy, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := Config{Dir: state.At(t.TempDir())}
	var f doctor.Facts
	c.ownPolicy(policy, &f)
	if want := []string{filepath.Join(policy, "70.yml")}; !slices.Equal(f.UnreadFiles, want) || !f.OwnPolicy {
		t.Errorf("got %q and own policy %v, want %q and a policy", f.UnreadFiles, f.OwnPolicy, want)
	}
	f = doctor.Facts{}
	if c.ownPolicy(filepath.Join(policy, "none"), &f); f.OwnPolicy {
		t.Error("without files and settings there is a policy")
	}
	if err := os.WriteFile(c.Dir.Path(state.FileSet), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if c.ownPolicy(filepath.Join(policy, "none"), &f); !f.OwnPolicy {
		t.Error("with something set there is no policy")
	}
}

func TestWhoListensToTheControlSocketIsFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	if got := listener(path); got != 0 {
		t.Errorf("without a socket: process %d", got)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if got := listener(path); got != os.Getpid() {
		t.Errorf("got process %d, want this one, %d", got, os.Getpid())
	}
}

// startAgent runs an agent without a server, which blocks one name.
func startAgent(t *testing.T) (state.Dir, string) {
	t.Helper()
	dir, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	policy := t.TempDir()
	const file = "settings: {network_protection: block}\nindicators:\n  - {type: domain, value: tunes.example, action: block}\n"
	if err = os.WriteFile(filepath.Join(policy, "a.yaml"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	platform, err := agent.NewPlatform(log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- agent.Run(ctx, agent.Config{
			Dir: dir, Platform: platform, PolicyDir: policy, Facts: bundle.Facts{AgentVersion: version.String()}, Ready: func() { close(ready) }, Log: log,
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, platform.Close()); err != nil {
			t.Errorf("the agent ended with %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.Fatalf("the agent did not start: %v", err)
	}
	return dir, policy
}

func TestARunningAgentIsExamined(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	stay(t)
	dir, policy := startAgent(t)
	c := Config{Dir: dir, Policy: policy, Root: os.DirFS("/")}
	f := Take(t.Context(), c)
	for check, state := range map[string]doctor.State{
		"agent": doctor.OK, "enforcement": doctor.OK, "rules": doctor.OK, "queues": doctor.OK, "other_queues": doctor.OK, "health": doctor.OK,
		"settings_files": doctor.OK, "state_directory": doctor.OK, "enrolment": doctor.Info,
	} {
		if got := find(t, &f, check); got.State != state {
			t.Errorf("%s: got %+v, want %s", check, got, state)
		}
	}
	if f.AgentPID != os.Getpid() {
		t.Errorf("the agent is process %d, want %d", f.AgentPID, os.Getpid())
	}

	if err := agent.NewClient(dir).Rescue(t.Context()); err != nil {
		t.Fatal(err)
	}
	f = Take(t.Context(), c)
	for check, says := range map[string]string{"enforcement": "nothing is enforced", "health": "suspended", "rules": "none, as it should be"} {
		if got := find(t, &f, check); !strings.Contains(got.Text, says) {
			t.Errorf("after rescue %s: got %+v, want %q", check, got, says)
		}
	}

	// The agent knows best which files it reads.
	if err := os.WriteFile(filepath.Join(policy, "b.yaml"), []byte("settings: {fail_mode: ajar}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Policy = filepath.Join(policy, "none")
	f = Take(t.Context(), c)
	if got := find(t, &f, "settings_files"); got.State != doctor.Fail || !strings.Contains(got.Text, "fail_mode") {
		t.Errorf("with a broken file: got %+v", got)
	}
}
