package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"strings"
	"sync"

	"interdict/internal/agent/channel"
	"interdict/internal/agent/channel/dropin"
	"interdict/internal/agent/health"
	"interdict/internal/agent/state"
	"interdict/internal/event"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

type localsConfig struct {
	Dir state.Dir
	// PolicyDir is where drop-in files are; empty for none.
	PolicyDir string
	// Environ are the variables the agent was started with.
	Environ   []string
	Protected *indicator.Protected
	// Apply puts into force what is said now.
	Apply   func(ctx context.Context, said local) error
	Journal recorder
	Health  *health.Set
	Log     *slog.Logger
}

// locals listens to this machine's own channels: drop-in files, the
// environment, and what is set with a command.
type locals struct {
	cfg   localsConfig
	files *dropin.Directory

	// mu makes one change at a time. It guards what follows.
	mu   sync.Mutex
	said local
	// told are the faults of files that were told, by path.
	told map[string]string
}

func newLocals(cfg localsConfig) *locals {
	return &locals{cfg: cfg, told: make(map[string]string), files: dropin.New(dropin.Config{
		Dir: cfg.PolicyDir, Kept: cfg.Dir.Path(state.DirPolicy), Protected: cfg.Protected,
	})}
}

// open reads what all channels say at the start, and returns it.
func (l *locals) open(ctx context.Context) local {
	l.mu.Lock()
	defer l.mu.Unlock()
	var faults []string
	l.said.environment, faults = channel.FromEnvironment(l.cfg.Environ)
	for _, f := range faults {
		l.cfg.Log.WarnContext(ctx, "a variable of the environment makes no setting", "fault", f)
	}
	if len(faults) > 0 {
		l.cfg.Health.Raise(health.EnvironmentRefused, "%s; mend the agent's environment and restart it", strings.Join(faults, "; "))
	}
	var err error
	if l.said.set, err = readSet(l.cfg.Dir.Path(state.FileSet)); err != nil {
		l.cfg.Health.Raise(health.SetDamaged, "%v; set the settings again: interdict-agent set", err)
		l.cfg.Log.WarnContext(ctx, "reading what was set on this machine", "error", err)
	}
	l.hear(ctx)
	return l.said
}

// run puts changes of files into force until ctx ends.
func (l *locals) run(ctx context.Context) error {
	l.files.Watch(ctx, func() {
		if err := l.refresh(ctx); err != nil {
			l.cfg.Log.ErrorContext(ctx, "putting drop-in files into force", "error", err)
		}
	}, func(err error) {
		l.cfg.Health.Raise(health.PolicyFilesUnwatched, "%v; the files are read every second instead", err)
	})
	return nil
}

// refresh reads the files now, and puts into force what they say.
func (l *locals) refresh(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.hear(ctx) {
		return nil
	}
	return l.cfg.Apply(ctx, l.said)
}

// hear reads the files, tells of their faults, and reports whether they say
// something else than before. The caller holds mu.
func (l *locals) hear(ctx context.Context) (changed bool) {
	s := l.files.Read()
	l.tellFaults(ctx, s.Faults)
	if s.Unkept != nil {
		l.cfg.Health.Raise(health.PolicyFilesUnkept, "%v; after a restart a drop-in file with a fault says nothing", s.Unkept)
	} else {
		l.cfg.Health.Clear(health.PolicyFilesUnkept)
	}
	if reflect.DeepEqual(l.said.files, s.Files) {
		return false
	}
	l.said.files = s.Files
	return true
}

// tellFaults makes one item of all faults there are, and an event of each that
// was not there before.
func (l *locals) tellFaults(ctx context.Context, faults []dropin.FileError) {
	now := make(map[string]string, len(faults))
	var texts []string
	for i := range faults {
		text := fmt.Sprintf("%v; %s", &faults[i], faults[i].Hint)
		now[faults[i].Path] = text
		texts = append(texts, text)
		if l.told[faults[i].Path] != text {
			l.cfg.Log.WarnContext(ctx, "a drop-in file of policy was refused", "fault", text)
			l.cfg.Journal.Record(ctx, event.Event{EventID: event.IDFileRefused, Action: event.ActionFileRefused, Reason: text})
		}
	}
	l.told = now
	if len(texts) == 0 {
		l.cfg.Health.Clear(health.PolicyFileRefused)
		return
	}
	l.cfg.Health.Raise(health.PolicyFileRefused, "%s", strings.Join(texts, "; "))
}

// set makes a setting on this machine, or with nil unmakes it, and puts that
// into force. The value is stored when set returns, also where it could not be
// put into force.
func (l *locals) set(ctx context.Context, name string, value *string) error {
	d, ok := fleet.Define(name)
	if !ok {
		return unknownSetting(name)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	next := maps.Clone(l.said.set)
	if value == nil {
		delete(next, d.Name)
	} else {
		canonical, err := d.Parse(*value)
		if err != nil {
			return fault.New(fault.Invalid, "%s %v", d.Name, err)
		}
		next[d.Name] = canonical
	}
	if err := writeSet(l.cfg.Dir.Path(state.FileSet), next); err != nil {
		return err
	}
	l.cfg.Health.Clear(health.SetDamaged)
	l.said.set = next
	return l.cfg.Apply(ctx, l.said)
}

// stored returns what is set on this machine. Nobody changes it.
func (l *locals) stored() map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.said.set
}

// unknownSetting names those that may have been meant.
func unknownSetting(name string) error {
	f := fault.New(fault.Invalid, "there is no setting %q", name)
	if near := channel.Near(name); len(near) > 0 {
		return f.WithHint("did you mean %s?", strings.Join(near, " or "))
	}
	return f.WithHint("list them with: interdict-agent set")
}

// readSet reads what was set on this machine. Settings that this build does
// not know, or not with that value, are left out.
func readSet(path string) (map[string]string, error) {
	set := make(map[string]string)
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return set, nil
	}
	if err != nil {
		return set, fmt.Errorf("reading what was set on this machine: %w", err)
	}
	var stored map[string]string
	if err := json.Unmarshal(content, &stored); err != nil {
		return set, fmt.Errorf("reading %s: %w", path, err)
	}
	for name, value := range stored {
		if d, ok := fleet.Define(name); ok && d.Name == name {
			if canonical, err := d.Parse(value); err == nil {
				set[name] = canonical
			}
		}
	}
	return set, nil
}

func writeSet(path string, set map[string]string) error {
	content, err := json.MarshalIndent(set, "", "  ")
	if err != nil {
		return fmt.Errorf("writing what is set on this machine: %w", err)
	}
	return state.WriteFile(path, append(content, '\n'))
}
