package local_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"interdict/internal/agent/channel/local"
	"interdict/internal/agent/health"
	"interdict/internal/agent/state"
	"interdict/internal/event"
	"interdict/internal/fault"
	"interdict/internal/indicator"
)

// machine is everything around channels.
type machine struct {
	*local.Channels
	t      *testing.T
	dir    state.Dir
	policy string
	health health.Set
	// applied is what was put into force, fails why that fails.
	applied []local.Said
	fails   error
	events  []event.Event
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	dir, err := state.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: dir, policy: t.TempDir()}
	m.restart()
	return m
}

// restart is what a new process begins with.
func (m *machine) restart() {
	m.Channels = local.New(local.Config{
		Dir: m.dir, PolicyDir: m.policy, Protected: indicator.NewProtected(), Journal: m, Health: &m.health, Log: slog.New(slog.DiscardHandler),
		Apply: func(_ context.Context, said local.Said) error {
			m.applied = append(m.applied, said)
			return m.fails
		},
	})
}

func (m *machine) Record(_ context.Context, e event.Event) { m.events = append(m.events, e) }

func (m *machine) drop(content string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.policy, "a.yaml"), []byte(content), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) refresh() {
	m.t.Helper()
	if err := m.Refresh(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) has(code health.Code) bool {
	return slices.ContainsFunc(m.health.Items(), func(i health.Item) bool { return i.Code == code })
}

func TestOnlyWhatSaysSomethingElseGoesIntoForce(t *testing.T) {
	m := newMachine(t)
	m.drop("settings: {fail_mode: closed}\n")
	if said := m.Open(t.Context()); len(said.Files) != 1 || len(m.applied) > 0 {
		t.Errorf("at the start got %+v and %d changes, want the file and none", said, len(m.applied))
	}
	m.refresh()
	m.drop("# the same\nsettings: {fail_mode: closed}\n")
	m.refresh()
	m.drop("settings: {fail_mode: sideways}\n")
	m.refresh()
	if len(m.applied) > 0 {
		t.Errorf("%+v was put into force although nothing changed", m.applied)
	}
	m.drop("settings: {fail_mode: open}\n")
	m.refresh()
	if len(m.applied) != 1 || m.applied[0].Files[0].Settings["fail_mode"] != "open" {
		t.Errorf("got %+v, want the change", m.applied)
	}
}

func TestEachFaultIsToldOnceUntilItIsMended(t *testing.T) {
	m := newMachine(t)
	m.Open(t.Context())
	for _, step := range []struct {
		content string
		events  int
		item    bool
	}{
		{"settings: {fail_mode: sideways}\n", 1, true},
		{"settings: {fail_mode: sideways}\n", 1, true},
		{"settings: {fail_mode: upwards}\n", 2, true},
		{"settings: {fail_mode: open}\n", 2, false},
		{"settings: {fail_mode: sideways}\n", 3, true},
	} {
		m.drop(step.content)
		m.refresh()
		if len(m.events) != step.events || m.has(health.PolicyFileRefused) != step.item {
			t.Errorf("%q: got %d events and the item %v, want %d and %v", step.content, len(m.events), m.has(health.PolicyFileRefused), step.events, step.item)
		}
	}
	for _, e := range m.events {
		if e.EventID != event.IDFileRefused || e.Action != event.ActionFileRefused || e.Reason == "" {
			t.Errorf("got %+v, want an event about a refused file", e)
		}
	}
}

func TestWhatIsSetIsStoredAlthoughItCannotBePutIntoForce(t *testing.T) {
	m := newMachine(t)
	m.Open(t.Context())
	m.fails = errors.New("the kernel says no")
	value := "90m"
	if err := m.Set(t.Context(), "warn-bypass-duration", &value); !errors.Is(err, m.fails) {
		t.Errorf("got %v, want the kernel's answer", err)
	}
	m.restart()
	want := map[string]string{"warn_bypass_duration": "1h30m"}
	if diff := cmp.Diff(want, m.Open(t.Context()).Set); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
	m.fails = nil
	if err := m.Set(t.Context(), "warn_bypass_duration", nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{}, m.Stored()); diff != "" {
		t.Errorf("taken back (-want +got):\n%s", diff)
	}
}

func TestWhatCannotBeSetChangesNothing(t *testing.T) {
	m := newMachine(t)
	m.Open(t.Context())
	value := "sideways"
	for _, name := range []string{"fail_mode", "zebra", ""} {
		if err := m.Set(t.Context(), name, &value); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%q: got %v, want that it is invalid", name, err)
		}
	}
	if len(m.applied) > 0 || len(m.Stored()) > 0 {
		t.Errorf("got %+v in force and %v stored", m.applied, m.Stored())
	}
}

func TestADamagedStoreIsToldAndMendedBySetting(t *testing.T) {
	m := newMachine(t)
	path := m.dir.Path(state.FileSet)
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := m.Open(t.Context()); len(said.Set) > 0 || !m.has(health.SetDamaged) {
		t.Errorf("got %+v, items %+v", said, m.health.Items())
	}
	value := "closed"
	if err := m.Set(t.Context(), "fail_mode", &value); err != nil || m.has(health.SetDamaged) {
		t.Errorf("got %v, items %+v", err, m.health.Items())
	}
	// What another version stored does no harm.
	if err := os.WriteFile(path, []byte(`{"fail_mode":"sideways","zebra":"on","gateway_mode":"on"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	m.restart()
	if diff := cmp.Diff(map[string]string{"gateway_mode": "on"}, m.Open(t.Context()).Set, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("of another version's store (-want +got):\n%s", diff)
	}
}
