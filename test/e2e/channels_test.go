package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"interdict/internal/event"
	"interdict/internal/fleet"
)

// contact is the setting that these tests make: nothing else depends on it.
const contact = "support_contact"

// dropIn puts a drop-in file on anna as tools do: under another name first.
func (f *fixture) dropIn(t *testing.T, name, content string) (path string) {
	t.Helper()
	path = filepath.Join(f.site.PolicyDir(hostInside), name)
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(path) })
	return path
}

// setting is one of anna's, as status has it.
type setting struct {
	Setting string `json:"setting"`
	Value   string `json:"value"`
	Channel string `json:"channel"`
	Source  string `json:"source"`
}

// status is what anna's agent says of itself.
type status struct {
	Settings []setting `json:"settings"`
	Health   []struct {
		Code string `json:"code"`
		Text string `json:"text"`
	} `json:"health"`
}

func (f *fixture) status(ctx context.Context) (s status, err error) {
	text, err := f.site.Agent(ctx, hostInside, "status", "--output", "json")
	if err != nil {
		return status{}, err
	}
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return status{}, fmt.Errorf("reading the status: %w", err)
	}
	return s, nil
}

// waitSetting waits until status has the contact with a value and from where.
func (f *fixture) waitSetting(t *testing.T, value, channel, source string) {
	t.Helper()
	until(t, contact+" is "+value+" by "+channel, func(ctx context.Context) error {
		s, err := f.status(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(s.Settings, func(s setting) bool { return s.Setting == contact })
		if i < 0 {
			return errors.New("status does not have it")
		}
		if got := s.Settings[i]; got.Value != value || got.Channel != channel || source != "" && got.Source != source {
			return fmt.Errorf("status has %+v", got)
		}
		return nil
	})
}

// changes are anna's 5007 events about the contact, as "old > new (channel)",
// from the first one on that was not there before.
func (f *fixture) changes(t *testing.T, before int) []string {
	t.Helper()
	events, err := f.site.Events(t.Context(), hostInside)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range events {
		if e.EventID == event.IDConfigChanged && e.Change.Setting == contact {
			all = append(all, fmt.Sprintf("%s > %s (%s)", e.Change.Old, e.Change.New, e.Change.Channel))
		}
	}
	return all[before:]
}

// restart starts anna's agent anew, with more variables.
func (f *fixture) restart(t *testing.T, variables ...string) {
	t.Helper()
	if err := f.site.StopAgent(hostInside); err != nil {
		t.Fatal(err)
	}
	f.startAgent(t, variables...)
}

func TestEveryChannelGivesWayToTheOneBeforeItAndLeavesNothingBehind(t *testing.T) {
	f := install(t)
	before := len(f.changes(t, 0))
	f.agentCommand(t, "set", "support-contact", "by set")
	f.waitSetting(t, "by set", "local", "")
	f.restart(t, "INTERDICT_SUPPORT_CONTACT=by variable")
	f.waitSetting(t, "by variable", "environment", "")
	first := f.dropIn(t, "10-first.yaml", "settings: {support_contact: by file}\n")
	f.waitSetting(t, "by file", "file", first)
	second := f.dropIn(t, "20-second.yaml", "settings: {support_contact: by later file}\n")
	f.waitSetting(t, "by later file", "file", second)
	f.admin(t, "policy", "set", policy, "--support-contact", "by policy", "--wait")
	f.waitSetting(t, "by policy", "server", "")

	// And back: each is left to the next in line.
	f.admin(t, "policy", "set", policy, "--unset", "support-contact", "--wait")
	f.waitSetting(t, "by later file", "file", second)
	remove(t, second)
	f.waitSetting(t, "by file", "file", first)
	remove(t, first)
	f.waitSetting(t, "by variable", "environment", "")
	f.restart(t)
	f.waitSetting(t, "by set", "local", "")
	f.agentCommand(t, "set", "support-contact", "--unset")
	f.waitSetting(t, "", "default", "")

	want := []string{
		" > by set (local)", "by set > by variable (environment)", "by variable > by file (file)",
		"by file > by later file (file)", "by later file > by policy (server)", "by policy > by later file (file)",
		"by later file > by file (file)", "by file > by variable (environment)", "by variable > by set (local)",
		"by set >  (default)",
	}
	if got := f.changes(t, before); !slices.Equal(got, want) {
		t.Errorf("the log has the changes\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// agentCommand runs a command of anna's agent that has to succeed.
func (f *fixture) agentCommand(t *testing.T, command string, args ...string) string {
	t.Helper()
	out, err := f.site.Agent(t.Context(), hostInside, command, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestABrokenDropInFileIsRefusedWholeUntilItIsMended(t *testing.T) {
	f := install(t)
	f.mode(t, fleet.ModeBlock)
	before := len(f.changes(t, 0))
	// Each stage has a name of its own below, so that no answer is from before.
	file := func(contact, rest string) string {
		return "settings:\n  support_contact: " + contact + "\nindicators:\n  - {type: domain, value: tunes.example, action: block}\n" + rest
	}
	path := f.dropIn(t, "30-tunes.yaml", file("good", ""))
	f.waitSetting(t, "good", "file", path)
	refused(t, "a name that the file refuses", f.curl(t, hostInside, "https://a.tunes.example/"))
	f.waitEvent(t, event.IDBlocked, "a.tunes.example")

	f.dropIn(t, "30-tunes.yaml", file("broken", "surprise: true\n"))
	fault := path + ":5:1: unknown key \"surprise\""
	until(t, "status names the fault", func(ctx context.Context) error {
		s, err := f.status(ctx)
		if err != nil {
			return err
		}
		for _, item := range s.Health {
			if item.Code == "policy_file_refused" && strings.Contains(item.Text, fault) {
				return nil
			}
		}
		return fmt.Errorf("the health is %+v", s.Health)
	})
	f.waitSetting(t, "good", "file", path)
	refused(t, "a name that the file refused before", f.curl(t, hostInside, "https://b.tunes.example/"))
	if found := f.examine(t).of("settings_files"); found.State != "fail" || !strings.Contains(found.Text, `unknown key "surprise"`) {
		t.Errorf("the doctor finds %+v", found)
	}
	_, err := f.site.WaitEvent(t.Context(), hostInside, func(e event.Event) bool {
		return e.EventID == event.IDFileRefused && strings.Contains(e.Reason, fault)
	})
	if err != nil {
		t.Errorf("no event 5902: %v", err)
	}

	f.dropIn(t, "30-tunes.yaml", file("mended", ""))
	f.waitSetting(t, "mended", "file", path)
	if found := f.examine(t).of("settings_files"); found.State != "ok" {
		t.Errorf("after the file was mended the doctor finds %+v", found)
	}
	remove(t, path)
	f.waitSetting(t, "", "default", "")
	works(t, "a name that the file refused", f.curl(t, hostInside, "https://c.tunes.example/"))
	want := []string{" > good (file)", "good > mended (file)", "mended >  (default)"}
	if got := f.changes(t, before); !slices.Equal(got, want) {
		t.Errorf("the log has the changes %q, want %q", got, want)
	}
}
