package agent

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"interdict/internal/agent/health"
	"interdict/internal/agent/netguard"
	"interdict/internal/agent/process"
	"interdict/internal/agent/state"
	"interdict/internal/agent/verdict"
	"interdict/internal/bundle"
	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// closedPort is the source port of connections that the lab's cutter does not
// find open.
const closedPort = 9

// lab is everything around an enforcer, noting down what is asked of it.
type lab struct {
	t *testing.T

	mu    sync.Mutex
	steps []string
	// configs are what the kernel was told, oldest first.
	configs  []netguard.Config
	events   []event.Event
	setFails error
	// open are the connections that the next ruleset refuses.
	open  []netguard.Observation
	rules *verdict.Ruleset
}

func (l *lab) step(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.steps = append(l.steps, s)
}

func (l *lab) taken() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	steps := l.steps
	l.steps = nil
	return steps
}

// told is what the kernel was told, oldest first.
func (l *lab) told() []netguard.Config {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.configs)
}

// The lab is the guard, ...
func (l *lab) Set(_ context.Context, c netguard.Config) error {
	l.step("kernel")
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.setFails != nil {
		return l.setFails
	}
	l.configs = append(l.configs, c)
	return nil
}

func (l *lab) CleanUp(context.Context) error {
	l.step("clean up")
	return nil
}

// ... the cutter, ...
func (l *lab) Cut(_ context.Context, flows []netguard.Flow) ([]netguard.Flow, error) {
	l.step("cut")
	return slices.DeleteFunc(slices.Clone(flows), func(f netguard.Flow) bool { return f.Source.Port() == closedPort }), nil
}

// ... the finder, ...
func (l *lab) Find(context.Context, process.Flow) (process.Owner, error) {
	l.step("find")
	return process.Owner{Process: event.Process{PID: 42, Path: "/usr/bin/curl"}}, nil
}

// ... the inspector, ...
func (l *lab) Handle(netguard.Packet, func(netguard.Verdict)) { l.t.Error("a packet came") }

func (l *lab) SetRuleset(rs *verdict.Ruleset) []netguard.Observation {
	l.step("inspector")
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rules = rs
	open := l.open
	l.open = nil
	return open
}

func (l *lab) Stats() netguard.Stats { return netguard.Stats{} }

// ... the capture, ...
func (l *lab) Start(context.Context) error {
	l.step("listen")
	return nil
}

func (l *lab) Shutdown(context.Context) error {
	l.step("stop listening")
	return nil
}

// ... and the journal.
func (l *lab) Record(_ context.Context, e event.Event) {
	l.step("record")
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

func (l *lab) Changes(_ context.Context, policyID string, version uint64, changes ...event.Change) {
	l.step("5007")
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range changes {
		l.events = append(l.events, event.Event{EventID: event.IDConfigChanged, PolicyID: policyID, BundleVersion: version, Change: &c})
	}
}

func (l *lab) Sync() error {
	l.step("sync")
	return nil
}

func (l *lab) platform() Platform {
	return Platform{
		Guard: l, Cut: l.Cut, Finder: l,
		NewCapture: func(netguard.Handler, fleet.FailMode) (Capture, error) { return l, nil },
		Close:      func() error { return nil },
	}
}

func newLab(t *testing.T) (*lab, *enforcer, *health.Set) {
	t.Helper()
	dir := t.TempDir()
	l, set := &lab{t: t}, &health.Set{}
	e := newEnforcer(enforcerConfig{
		Platform: l.platform(), Inspector: l, Journal: l, Health: set, Log: slog.New(slog.DiscardHandler),
		Observer: newObserver(observerConfig{Finder: l, Health: set, Record: l.Record}),
		Settings: filepath.Join(dir, "settings.json"), Suspended: filepath.Join(dir, "suspended"),
		Exempt: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:8443")},
	})
	return l, e, set
}

// bundleOf makes a bundle of settings, none where they are empty, and address
// indicators.
func bundleOf(t *testing.T, version uint64, mode fleet.Mode, fail fleet.FailMode, addrs ...indicator.Indicator) state.Bundle {
	t.Helper()
	records := []bundle.Record{bundle.App("tunes", "Tunes")}
	if mode != "" {
		records = append(records, bundle.Setting(fleet.SettingNetworkProtection, string(mode), "policy-1"))
	}
	if fail != "" {
		records = append(records, bundle.Setting(fleet.SettingFailMode, string(fail), ""))
	}
	for _, i := range addrs {
		records = append(records, bundle.Indicator(i))
	}
	set, err := bundle.NewSet(slices.Values(records))
	if err != nil {
		t.Fatal(err)
	}
	return state.Bundle{Header: bundle.Header{Version: version, Digest: set.Digest(), Records: set.Len()}, Set: set}
}

func block(addr string, until time.Time) indicator.Indicator {
	return indicator.Indicator{
		ID: "ind-" + addr, Type: indicator.TypeIP, Value: addr, Action: indicator.ActionBlock, Source: indicator.SourceCustom,
		AppID: "tunes", ExpiresAt: until, CreatedAt: time.Unix(1, 0),
	}
}

func mustApply(t *testing.T, e *enforcer, b state.Bundle) {
	t.Helper()
	if _, err := e.Apply(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}
