// Package local decides what a machine's own channels say: its drop-in files,
// the environment its agent was started with, and what was set on it with a
// command. It listens to them, tells people of what it cannot take, and has
// whatever changes put into force.
package local

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

// Said is what a machine's own channels say.
type Said struct {
	Files            []dropin.File
	Environment, Set map[string]string
}

// Recorder writes events down.
type Recorder interface {
	Record(ctx context.Context, e event.Event)
}

// Config is what Channels need. Every field but PolicyDir and Environ is
// required.
type Config struct {
	Dir state.Dir
	// PolicyDir is where drop-in files are; empty for none.
	PolicyDir string
	// Environ are the variables the agent was started with.
	Environ   []string
	Protected *indicator.Protected
	// Apply puts into force what is said now.
	Apply   func(ctx context.Context, said Said) error
	Journal Recorder
	Health  *health.Set
	Log     *slog.Logger
}

// Channels are a machine's own. They are safe for concurrent use.
type Channels struct {
	cfg   Config
	files *dropin.Directory

	// mu makes one change at a time. It guards what follows.
	mu   sync.Mutex
	said Said
	// told are the faults of files that were told, by path.
	told map[string]string
}

// New returns the channels, to which nobody listens yet.
func New(cfg Config) *Channels {
	return &Channels{cfg: cfg, told: make(map[string]string), files: dropin.New(dropin.Config{
		Dir: cfg.PolicyDir, Kept: cfg.Dir.Path(state.DirPolicy), Protected: cfg.Protected,
	})}
}

// Open reads what all channels say at the start, and returns it. Nothing is
// put into force.
func (c *Channels) Open(ctx context.Context) Said {
	c.mu.Lock()
	defer c.mu.Unlock()
	var faults []string
	c.said.Environment, faults = channel.FromEnvironment(c.cfg.Environ)
	for _, f := range faults {
		c.cfg.Log.WarnContext(ctx, "a variable of the environment makes no setting", "fault", f)
	}
	if len(faults) > 0 {
		c.cfg.Health.Raise(health.EnvironmentRefused, "%s; mend the agent's environment and restart it", strings.Join(faults, "; "))
	}
	var err error
	if c.said.Set, err = readSet(c.cfg.Dir.Path(state.FileSet)); err != nil {
		c.cfg.Health.Raise(health.SetDamaged, "%v; set the settings again: interdict-agent set", err)
		c.cfg.Log.WarnContext(ctx, "reading what was set on this machine", "error", err)
	}
	c.hear(ctx)
	return c.said
}

// Run puts changes of files into force until ctx ends.
func (c *Channels) Run(ctx context.Context) error {
	c.files.Watch(ctx, func() {
		if err := c.Refresh(ctx); err != nil {
			c.cfg.Log.ErrorContext(ctx, "putting drop-in files into force", "error", err)
		}
	}, func(err error) {
		c.cfg.Health.Raise(health.PolicyFilesUnwatched, "%v; the files are read every second instead", err)
	})
	return nil
}

// Refresh reads the files now, and puts into force what they say.
func (c *Channels) Refresh(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.hear(ctx) {
		return nil
	}
	return c.cfg.Apply(ctx, c.said)
}

// hear reads the files, tells of their faults, and reports whether they say
// something else than before. The caller holds mu.
func (c *Channels) hear(ctx context.Context) (changed bool) {
	s := c.files.Read()
	c.tellFaults(ctx, s.Faults)
	if s.Unkept != nil {
		c.cfg.Health.Raise(health.PolicyFilesUnkept, "%v; after a restart a drop-in file with a fault says nothing", s.Unkept)
	} else {
		c.cfg.Health.Clear(health.PolicyFilesUnkept)
	}
	if reflect.DeepEqual(c.said.Files, s.Files) {
		return false
	}
	c.said.Files = s.Files
	return true
}

// tellFaults makes one item of all faults there are, and an event of each that
// was not there before.
func (c *Channels) tellFaults(ctx context.Context, faults []dropin.FileError) {
	now := make(map[string]string, len(faults))
	var texts []string
	for i := range faults {
		text := fmt.Sprintf("%v; %s", &faults[i], faults[i].Hint)
		now[faults[i].Path] = text
		texts = append(texts, text)
		if c.told[faults[i].Path] != text {
			c.cfg.Log.WarnContext(ctx, "a drop-in file of policy was refused", "fault", text)
			c.cfg.Journal.Record(ctx, event.Event{EventID: event.IDFileRefused, Action: event.ActionFileRefused, Reason: text})
		}
	}
	c.told = now
	if len(texts) == 0 {
		c.cfg.Health.Clear(health.PolicyFileRefused)
		return
	}
	c.cfg.Health.Raise(health.PolicyFileRefused, "%s", strings.Join(texts, "; "))
}

// Set makes a setting on this machine, or with nil unmakes it, and puts that
// into force. The value is stored when Set returns, also where it could not be
// put into force.
func (c *Channels) Set(ctx context.Context, name string, value *string) error {
	d, ok := fleet.Define(name)
	if !ok {
		return unknownSetting(name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	next := maps.Clone(c.said.Set)
	if value == nil {
		delete(next, d.Name)
	} else {
		canonical, err := d.Parse(*value)
		if err != nil {
			return fault.New(fault.Invalid, "%s %v", d.Name, err)
		}
		next[d.Name] = canonical
	}
	if err := writeSet(c.cfg.Dir.Path(state.FileSet), next); err != nil {
		return err
	}
	c.cfg.Health.Clear(health.SetDamaged)
	c.said.Set = next
	return c.cfg.Apply(ctx, c.said)
}

// Stored returns what is set on this machine. Nobody changes it.
func (c *Channels) Stored() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said.Set
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
