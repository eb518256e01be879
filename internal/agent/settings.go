package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"interdict/internal/agent/channel"
	"interdict/internal/agent/health"
	"interdict/internal/agent/state"
	"interdict/internal/event"
	"interdict/internal/fleet"
)

// reported is a setting as it was reported last.
type reported struct {
	Value string `json:"value"`
}

// reportSettings records every setting that differs from what was reported
// before, in the order of the definitions, with the channel and the policy of
// the new value. What was reported is kept on disk, so that a crash in between
// repeats an event rather than loses one, and what changes while the agent is
// away is reported when it is back.
func (e *enforcer) reportSettings(ctx context.Context, now *channel.Effective, version uint64) {
	old, err := readReported(e.cfg.Settings)
	if err != nil {
		e.cfg.Log.WarnContext(ctx, "reading the settings reported last", "error", err)
	}
	changed := false
	for _, v := range now.Values {
		if old[v.Setting].Value == v.Value {
			continue
		}
		e.cfg.Journal.Changes(ctx, v.Policy(), version, event.Change{
			Setting: v.Setting, Old: old[v.Setting].Value, New: v.Value, Channel: string(v.Channel),
		})
		old[v.Setting], changed = reported{v.Value}, true
	}
	if !changed {
		return
	}
	if err := e.cfg.Journal.Sync(); err != nil {
		e.cfg.Health.Raise(health.JournalFailing, "%v; a change of settings may be reported twice", err)
		return
	}
	if err := writeReported(e.cfg.Settings, old); err != nil {
		e.cfg.Health.Raise(health.JournalFailing, "%v; a change of settings may be reported twice", err)
	}
}

// readReported reads what was reported last; the defaults for what never was,
// or where nobody can tell.
func readReported(path string) (map[string]reported, error) {
	settings := make(map[string]reported)
	for _, d := range fleet.Definitions() {
		settings[d.Name] = reported{d.Default}
	}
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return settings, nil
	}
	if err != nil {
		return settings, fmt.Errorf("reading reported settings: %w", err)
	}
	var last map[string]reported
	if err := json.Unmarshal(content, &last); err != nil {
		return settings, fmt.Errorf("reading %s: %w", path, err)
	}
	for name, v := range last {
		// What a later version reported and this one does not know is
		// nothing it could report a change of.
		if _, ok := settings[name]; ok {
			settings[name] = v
		}
	}
	return settings, nil
}

func writeReported(path string, settings map[string]reported) error {
	content, err := json.MarshalIndent(settings, "", "  ")
	if err != nil {
		return fmt.Errorf("writing reported settings: %w", err)
	}
	return state.WriteFile(path, append(content, '\n'))
}
