package agent

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/agent/channel"
	"interdict/internal/agent/channel/local"
	"interdict/internal/agent/health"
	"interdict/internal/agent/state"
	"interdict/internal/event"
	"interdict/internal/fault"
	"interdict/internal/fleet"
)

// newMachine is a machine that no server manages.
func newMachine(t *testing.T) *site {
	t.Helper()
	t.Chdir(t.TempDir())
	dir, err := state.Open("state")
	if err != nil {
		t.Fatal(err)
	}
	return &site{t: t, dir: dir, policyDir: filepath.Join(t.TempDir(), "policy.d")}
}

// drop writes a drop-in file as tools do: whole, under another name first.
func (s *site) drop(name, content string) {
	s.t.Helper()
	if err := os.MkdirAll(s.policyDir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	path := filepath.Join(s.policyDir, name)
	if err := os.WriteFile(path+".tmp", []byte(content), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		s.t.Fatal(err)
	}
}

// changes are the 5007 events so far, each as "SETTING OLD NEW CHANNEL POLICY".
func (s *site) changes() []string {
	s.t.Helper()
	var all []string
	for _, e := range s.events() {
		if c := e.Change; c != nil {
			all = append(all, strings.TrimSpace(strings.Join([]string{c.Setting, c.Old, c.New, c.Channel, e.PolicyID}, " ")))
		}
	}
	return all
}

// refused are the events about files that were refused.
func (s *site) refused() []string {
	s.t.Helper()
	var all []string
	for _, e := range s.events() {
		if e.EventID == event.IDFileRefused {
			all = append(all, e.Reason)
		}
	}
	return all
}

// item returns the text of a health item, empty if it is not there.
func (r *running) item(code health.Code) string {
	r.lab.t.Helper()
	status, err := r.Status(r.lab.t.Context())
	if err != nil {
		r.lab.t.Fatal(err)
	}
	for _, i := range status.Health {
		if i.Code == code {
			return i.Text
		}
	}
	return ""
}

// setting returns a setting of the running agent.
func (r *running) setting(name string) Setting {
	r.lab.t.Helper()
	status, err := r.Status(r.lab.t.Context())
	if err != nil {
		r.lab.t.Fatal(err)
	}
	for _, s := range status.Settings {
		if s.Setting == name {
			return s
		}
	}
	r.lab.t.Fatalf("there is no setting %s in %+v", name, status.Settings)
	return Setting{}
}

const (
	blocking = "settings:\n  network_protection: block\nindicators:\n  - {type: ip, value: 203.0.113.9, action: block}\n"
	auditing = "settings:\n  network_protection: audit\n"
	broken   = "settings:\n  network_protection: sideways\n"
)

func TestAMachineWithoutAServerEnforcesItsOwnFiles(t *testing.T) {
	s := newMachine(t)
	s.drop("10-block.yaml", blocking)
	r := s.run()
	if told := r.lab.told(); len(told) != 1 || len(told[0].Refused) != 1 || !told[0].Inspect {
		t.Fatalf("when the agent was ready the kernel had been told %+v", told)
	}
	status, err := r.Status(t.Context())
	if err != nil || status.Managed || !status.Enforcing || status.DeviceID != "" {
		t.Errorf("got %+v, %v; want enforcement without a server", status, err)
	}
	want := channel.Value{Setting: "network_protection", Value: "block", Channel: fleet.ChannelFile, Source: filepath.Join(s.policyDir, "10-block.yaml")}
	if diff := cmp.Diff(want, r.setting("network_protection").Value); diff != "" {
		t.Errorf("setting (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"network_protection disabled block file"}, s.changes()); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(s.dir.Path(state.DirSpool)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a spool (%v)", err)
	}
	if _, err := r.Sync(t.Context()); err != nil {
		t.Errorf("sync: %v", err)
	}
	if err := r.Rescue(t.Context()); err != nil {
		t.Errorf("rescue: %v", err)
	}
	r.end()
	noGoroutinesLeft(t)
}

func TestAFileThatIsBrokenAndMended(t *testing.T) {
	s := newMachine(t)
	r := s.run()
	// The directory appears while the agent runs.
	s.drop("10-block.yaml", blocking)
	eventually(t, "the file is in force", func() bool { return r.setting("network_protection").Value.Value == "block" })
	before := len(r.lab.told())

	s.drop("10-block.yaml", broken)
	eventually(t, "somebody is told of the fault", func() bool { return r.item(health.PolicyFileRefused) != "" })
	text := r.item(health.PolicyFileRefused)
	if !strings.Contains(text, "10-block.yaml:2:23: network_protection must be disabled, audit or block") {
		t.Errorf("got the item %q, want the place and the fault", text)
	}
	if got := r.setting("network_protection"); got.Value.Value != "block" || len(r.lab.told()) != before {
		t.Errorf("the broken file changed something: %+v", got)
	}
	// Another broken line is another fault; the same again is not.
	s.drop("10-block.yaml", broken+"x: y\n")
	s.drop("20-other.yaml", "{}\n")
	eventually(t, "the second file is kept", func() bool { return exists(s.dir.Path(state.DirPolicy + "/20-other.yaml")) })
	if got := s.refused(); len(got) != 1 {
		t.Errorf("refused %q, want the one fault once", got)
	}

	// A restart changes nothing about it.
	r.end()
	r = s.run()
	if got := r.setting("network_protection"); got.Value.Value != "block" || r.item(health.PolicyFileRefused) == "" {
		t.Errorf("after a restart got %+v and item %q", got, r.item(health.PolicyFileRefused))
	}
	s.drop("10-block.yaml", auditing)
	eventually(t, "the mended file is in force", func() bool { return r.setting("network_protection").Value.Value == "audit" })
	if text := r.item(health.PolicyFileRefused); text != "" {
		t.Errorf("still said to be refused: %s", text)
	}
	if err := os.RemoveAll(s.policyDir); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing is left of the files", func() bool { return r.setting("network_protection").Channel == fleet.ChannelDefault })
	want := []string{"network_protection disabled block file", "network_protection block audit file", "network_protection audit disabled default"}
	if diff := cmp.Diff(want, s.changes()); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if exists(s.dir.Path(state.DirPolicy + "/10-block.yaml")) {
		t.Error("the content of a file that is gone is kept")
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestWhatIsSetOnAMachineStaysAndGivesWay(t *testing.T) {
	s := newMachine(t)
	s.environ = []string{"INTERDICT_FAIL_MODE=closed", "INTERDICT_GATEWAY_MODE=perhaps"}
	r := s.run()
	got, err := r.Set(t.Context(), "network-protection", "audit")
	if err != nil || got.Value.Value != "audit" || got.Channel != fleet.ChannelLocal || *got.Set != "audit" {
		t.Fatalf("got %+v, %v", got, err)
	}
	if text := r.item(health.EnvironmentRefused); !strings.Contains(text, `INTERDICT_GATEWAY_MODE="perhaps" is ignored`) {
		t.Errorf("got the item %q for a bad variable", text)
	}
	if got = r.setting("fail_mode"); got.Value.Value != "closed" || got.Channel != fleet.ChannelEnvironment {
		t.Errorf("got %+v, want the environment's", got)
	}
	for name, f := range map[string]func() (Setting, error){
		"sideways":            func() (Setting, error) { return r.Set(t.Context(), "network_protection", "sideways") },
		"network_protection?": func() (Setting, error) { return r.Set(t.Context(), "network_protecton", "audit") },
	} {
		if _, err = f(); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%s: got %v, want that it is invalid", name, err)
		}
	}
	r.end()
	r = s.run()
	if got = r.setting("network_protection"); got.Value.Value != "audit" {
		t.Errorf("after a restart got %+v", got)
	}
	s.drop("a.yaml", "settings: {network_protection: block}\n")
	eventually(t, "the file goes before", func() bool { return r.setting("network_protection").Channel == fleet.ChannelFile })
	if got = r.setting("network_protection"); got.Set == nil || *got.Set != "audit" {
		t.Errorf("got %+v, want to be told what is set all the same", got)
	}
	if got, err = r.Unset(t.Context(), "network_protection"); err != nil || got.Set != nil || got.Value.Value != "block" {
		t.Errorf("got %+v, %v", got, err)
	}
	want := []string{
		"fail_mode open closed environment", "network_protection disabled audit local", "network_protection audit block file",
	}
	if diff := cmp.Diff(want, s.changes()); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func TestAPolicyOfTheServerGoesBeforeAndReturnsWhatWasThere(t *testing.T) {
	s := newSite(t)
	s.policyDir = filepath.Join(t.TempDir(), "policy.d")
	s.drop("a.yaml", auditing+"indicators:\n  - {type: ip, value: 203.0.113.9, action: block}\n")
	r := s.run()
	s.publish(bundleOf(t, 1, fleet.ModeBlock, fleet.FailOpen))
	if _, err := r.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	acked := s.acked[len(s.acked)-1]
	s.mu.Unlock()
	if acked.Mode != fleet.ModeBlock || len(acked.Settings) != 0 {
		t.Errorf("the server was told %+v, want its own settings in force", acked)
	}
	if told := r.lab.told(); len(told[len(told)-1].Refused) != 1 {
		t.Errorf("the file's indicator is lost: %+v", told)
	}
	// Without the policy the file is next in line.
	s.publish(bundleOf(t, 2, "", ""))
	if _, err := r.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{"network_protection disabled audit file", "network_protection audit block server policy-1", "network_protection block audit file"}
	if diff := cmp.Diff(want, s.changes()); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	report := []fleet.SettingReport{{Setting: "network_protection", Value: "audit", Channel: fleet.ChannelFile, State: fleet.SettingApplied}}
	s.mu.Lock()
	acked = s.acked[len(s.acked)-1]
	s.mu.Unlock()
	if diff := cmp.Diff(report, acked.Settings); diff != "" {
		t.Errorf("reported settings (-want +got):\n%s", diff)
	}
}

func TestTheServerIsToldWhatAMachineSaysItself(t *testing.T) {
	s := newSite(t)
	r := s.run()
	s.publish(bundleOf(t, 1, "", ""))
	if _, err := r.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Set(t.Context(), "network_protection", "audit"); err != nil {
		t.Fatal(err)
	}
	want := []fleet.SettingReport{{Setting: "network_protection", Value: "audit", Channel: fleet.ChannelLocal, State: fleet.SettingApplied}}
	eventually(t, "the server knows what was set", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		last := s.acked[len(s.acked)-1]
		return last.Mode == fleet.ModeAudit && slices.Equal(last.Settings, want)
	})
}

func TestAFileCannotRefuseTheServer(t *testing.T) {
	s := newSite(t)
	s.policyDir = filepath.Join(t.TempDir(), "policy.d")
	s.drop("a.yaml", "indicators:\n  - {type: cidr, value: 127.0.0.0/24, action: block}\n")
	r := s.run()
	if text := r.item(health.PolicyFileRefused); !strings.Contains(text, "can only be allowed") {
		t.Errorf("got the item %q", text)
	}
}

func TestAMachineThatIsEnrolledLaterBeginsAnew(t *testing.T) {
	s := newSite(t)
	id, err := s.dir.Identity()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.dir.Erase(); err != nil {
		t.Fatal(err)
	}
	r := s.run()
	if _, err := r.Set(t.Context(), "network_protection", "audit"); err != nil {
		t.Fatal(err)
	}
	if begins, err := r.Enrolled(t.Context()); err != nil || begins {
		t.Errorf("got %v, %v without an identity", begins, err)
	}
	if err := s.dir.SaveIdentity(id); err != nil {
		t.Fatal(err)
	}
	s.publish(bundleOf(t, 1, fleet.ModeBlock, fleet.FailOpen))
	if begins, err := r.Enrolled(t.Context()); err != nil || !begins {
		t.Errorf("got %v, %v with an identity", begins, err)
	}
	eventually(t, "the server's bundle is in force", func() bool { return s.lastAcked() == 1 })
	want := []string{"network_protection disabled audit local", "network_protection audit block server policy-1"}
	if diff := cmp.Diff(want, s.changes()); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if slices.Contains(r.lab.taken(), "clean up") {
		t.Error("the kernel's rules were removed in between")
	}
}

func TestGatewayModeReachesTheKernel(t *testing.T) {
	s := newMachine(t)
	s.drop("a.yaml", "settings: {network_protection: block}\n")
	r := s.run()
	for _, mode := range []string{"on", "off"} {
		if _, err := r.Set(t.Context(), "gateway_mode", mode); err != nil {
			t.Fatal(err)
		}
		if told := r.lab.told(); told[len(told)-1].Gateway != (mode == "on") {
			t.Errorf("with gateway mode %s the kernel was told %+v", mode, told[len(told)-1])
		}
	}
}

func TestAppControlIsReportedAsNotApplicable(t *testing.T) {
	s := newMachine(t)
	r := s.run()
	got, err := r.Set(t.Context(), "app_control", "block")
	if err != nil || got.State != fleet.SettingNotApplicable || got.Text == "" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestALocalChangeThatFailsIsToldAndTriedAgain(t *testing.T) {
	_, e, set := newLab(t)
	mustApply(t, e, bundleOf(t, 1, "", ""))
	l := e.cfg.Inspector.(*lab)
	l.setFails = errors.New("the kernel says no")
	said := local.Said{Set: map[string]string{"network_protection": "block"}}
	if err := e.SetLocal(t.Context(), said); err == nil {
		t.Fatal("got no error")
	}
	want := []fleet.SettingReport{{
		Setting: "network_protection", Value: "disabled", Channel: fleet.ChannelDefault, State: fleet.SettingFailed,
		Text: "block could not be put into force: writing the kernel's rules: the kernel says no",
	}}
	if diff := cmp.Diff(want, e.report()); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	if due, ok := e.nextChange(time.Now()); !ok || time.Until(due) > retryAfter || len(set.Items()) != 1 {
		t.Errorf("tried again at %s (%v), items %+v", due, ok, set.Items())
	}
	l.setFails = nil
	if err := e.reapply(t.Context()); err != nil || e.mode() != fleet.ModeBlock || len(set.Items()) > 0 {
		t.Errorf("got mode %s, items %+v, %v", e.mode(), set.Items(), err)
	}
}

// wants checks that network protection is disabled, in which state, and why.
func wants(t *testing.T, e *enforcer, state fleet.SettingState, text string) {
	t.Helper()
	for _, s := range e.reportAll() {
		if s.Setting == fleet.SettingNetworkProtection && (s.Value.Value != "disabled" || s.State != state || !strings.HasPrefix(s.Text, text)) {
			t.Errorf("got %+v, want it to be %s: %s", s, state, text)
		}
	}
}

func TestADamagedBundleIsWaitedForBeforeAnythingChanges(t *testing.T) {
	l, e, _ := newLab(t)
	if err := e.SetLocal(t.Context(), local.Said{Set: map[string]string{"network_protection": "audit"}}); err != nil || len(l.taken()) > 0 {
		t.Errorf("the kernel's rules were changed (%v) although nobody knows what the server says", err)
	}
	wants(t, e, fleet.SettingPending, "audit waits: nobody knows what the server says")
	mustApply(t, e, bundleOf(t, 1, "", ""))
	if e.mode() != fleet.ModeAudit {
		t.Errorf("got mode %s, want what is set", e.mode())
	}
}

func TestALocalChangeDoesNotEndARescue(t *testing.T) {
	l, e, _ := newLab(t)
	mustApply(t, e, bundleOf(t, 1, "", ""))
	if err := e.Suspend(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.taken()
	if err := e.SetLocal(t.Context(), local.Said{Set: map[string]string{"network_protection": "block"}}); err != nil || len(l.taken()) > 0 || e.enforcing() {
		t.Errorf("the change went into force under a suspension (%v)", err)
	}
	wants(t, e, fleet.SettingPending, "block waits: an administrator ran rescue")
	if err := e.Resume(t.Context()); err != nil || e.mode() != fleet.ModeBlock || !e.enforcing() {
		t.Errorf("after it the mode is %s (%v)", e.mode(), err)
	}
}

func TestAChangeIsInForceWithinASecond(t *testing.T) {
	s := newMachine(t)
	s.drop("a.yaml", auditing)
	r := s.run()
	began := time.Now()
	s.drop("a.yaml", blocking)
	eventually(t, "the change is in force", func() bool { return r.setting("network_protection").Value.Value == "block" })
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %s", took)
	}
}
