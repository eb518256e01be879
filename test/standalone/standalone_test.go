// Package standalone tests an agent that no server manages, with its real
// program, real curl and real packets, on a host of a lab.
package standalone

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"interdict/internal/event"
	"interdict/internal/lab"
	"interdict/internal/lab/labtest"
	"interdict/internal/lab/site"
)

const (
	host = "lone"
	// envProgram is the agent under test, built before the lab is entered.
	envProgram = "INTERDICT_STANDALONE_PROGRAM"
	// name is what the drop-in file refuses.
	name = "itunes.apple.com"
	// patience bounds what must happen within a second or so.
	patience = 15 * time.Second
)

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if lab.Inside() {
		code := m.Run()
		if err := os.RemoveAll(filepath.Dir(os.Getenv(envProgram))); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return code
	}
	ctx := context.Background()
	if err := errors.Join(lab.CheckTools(lab.Tool{Command: "curl", Package: "curl"}), lab.Check(ctx)); err != nil {
		return labtest.Without(m, err)
	}
	program, err := build(ctx)
	if err == nil {
		err = os.Setenv(envProgram, program)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return labtest.Main(m)
}

func build(ctx context.Context) (string, error) {
	dir, err := os.MkdirTemp("", "interdict-standalone-")
	if err != nil {
		return "", fmt.Errorf("building the agent: %w", err)
	}
	program := filepath.Join(dir, "interdict-agent")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "interdict/cmd/interdict-agent").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building the agent: %w\n%s", err, out)
	}
	return program, nil
}

// machine is a host with an agent and no server.
type machine struct {
	t                   *testing.T
	lab                 *lab.Lab
	stateDir, policyDir string
	log                 bytes.Buffer
	agent               *exec.Cmd
}

// start starts the agent and waits until it answers.
func (m *machine) start() {
	m.t.Helper()
	m.agent = m.lab.Command(context.WithoutCancel(m.t.Context()), host, os.Getenv(envProgram), "run", "--state-dir", m.stateDir, "--policy-dir", m.policyDir)
	m.agent.Stderr = &m.log
	if err := m.agent.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.until("the agent answers", func() error {
		_, err := m.command("status")
		return err
	})
}

// kill ends the agent as a power cut does.
func (m *machine) kill() {
	m.t.Helper()
	if err := m.agent.Process.Kill(); err != nil {
		m.t.Error(err)
	}
	_ = m.agent.Wait() // It was killed.
}

// command runs a command of the agent and returns what it prints.
func (m *machine) command(args ...string) (string, error) {
	cmd := m.lab.Command(m.t.Context(), host, os.Getenv(envProgram), append(args, "--state-dir", m.stateDir)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("running %v: %w: %s", args, err, out)
	}
	return string(out), nil
}

// get gets the page with curl, of a name that was not asked for before.
func (m *machine) get(label string) error {
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	out, err := m.lab.Command(ctx, host, "curl", "-sS", "--max-time", "5", "--cacert", m.lab.CAFile(), "https://"+label+"."+name+"/").CombinedOutput()
	if err != nil {
		return fmt.Errorf("curl: %w: %s", err, out)
	}
	return nil
}

// drop puts a file where tools put it: under another name first.
func (m *machine) drop(content string) {
	m.t.Helper()
	path := filepath.Join(m.policyDir, "10-music.yaml")
	if err := os.MkdirAll(m.policyDir, 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte(content), 0o644); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) until(what string, holds func() error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	if err := site.Until(ctx, func(context.Context) error { return holds() }); err != nil {
		m.t.Fatalf("never: %s: %v", what, err)
	}
}

// says waits until status says something of the network protection.
func (m *machine) says(text string) {
	m.t.Helper()
	m.until("status says "+text, func() error {
		out, err := m.command("status")
		if err != nil {
			return err
		}
		if !strings.Contains(strings.Join(strings.Fields(out), " "), text) {
			return fmt.Errorf("it says %s", out)
		}
		return nil
	})
}

// events returns the local log.
func (m *machine) events() []event.Event {
	m.t.Helper()
	out, err := m.command("events", "--output", "json")
	if err != nil {
		m.t.Fatal(err)
	}
	var all []event.Event
	for line := range strings.Lines(out) {
		var e event.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			m.t.Fatalf("reading %q: %v", line, err)
		}
		all = append(all, e)
	}
	return all
}

func (m *machine) expectRefused(label string) {
	m.t.Helper()
	if m.get(label) == nil {
		m.t.Errorf("%s.%s should be refused and was not", label, name)
	}
}

func (m *machine) expectWorks(label string) {
	m.t.Helper()
	if err := m.get(label); err != nil {
		m.t.Errorf("%s.%s should work: %v", label, name, err)
	}
}

func TestADropInFileAloneRefusesRealConnections(t *testing.T) {
	l := labtest.New(t, host)
	m := &machine{t: t, lab: l, stateDir: filepath.Join(l.Dir, "agent"), policyDir: filepath.Join(l.Dir, "policy.d")}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("agent:\n%s", m.log.String())
		}
	})
	m.start()
	m.says("none: this machine is not managed by a server")
	m.expectWorks("a")

	const block = "settings:\n  network_protection: block\nindicators:\n  - {type: domain, value: " + name + ", action: block}\n"
	m.drop(block)
	m.says("network_protection block " + filepath.Join(m.policyDir, "10-music.yaml"))
	m.expectRefused("b")

	// A file that is broken changes nothing, also not across a restart.
	m.drop(block + "surprise: true\n")
	m.says("10-music.yaml:5:1: unknown key \"surprise\"")
	m.expectRefused("c")
	m.kill()
	m.start()
	m.says("policy_file_refused")
	m.expectRefused("d")

	// Without the file, what is set is next in line.
	if _, err := m.command("set", "network-protection", "audit"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(m.policyDir, "10-music.yaml")); err != nil {
		t.Fatal(err)
	}
	m.says("network_protection audit set")
	m.expectWorks("e")
	m.checkLog()
	if err := os.RemoveAll(m.policyDir); err != nil {
		t.Error(err)
	}
	m.kill()
}

// checkLog checks that the log has what happened, in order.
func (m *machine) checkLog() {
	m.t.Helper()
	var got []string
	for _, e := range m.events() {
		switch {
		case e.Change != nil:
			got = append(got, fmt.Sprintf("5007 %s %s by %s", e.Change.Old, e.Change.New, e.Change.Channel))
		case e.EventID == event.IDFileRefused:
			got = append(got, "5902")
		case e.EventID == event.IDBlocked:
			label, _, _ := strings.Cut(e.Destination.Host, ".")
			got = append(got, "1126 "+label)
		}
	}
	// The second refusal of the file is told after the restart.
	want := "5007 disabled block by file, 1126 b, 5902, 1126 c, 5902, 1126 d, 5007 block audit by local"
	if text := strings.Join(got, ", "); text != want {
		m.t.Errorf("the log has\n%s\nwant\n%s", text, want)
	}
}
