package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"interdict/internal/agent/health"
	"interdict/internal/agent/state"
	"interdict/internal/agent/verdict"
	"interdict/internal/bundle"
	"interdict/internal/event"
	"interdict/internal/fleet"
)

// channelServer is where a bundle's settings come from.
const channelServer = "server"

// setting is a setting's value and the policy it comes from.
type setting struct {
	Value  string `json:"value"`
	Policy string `json:"policy,omitempty"`
}

// defaultSettings are the settings of a device that no policy reaches.
func defaultSettings() map[string]setting {
	d := fleet.Defaults()
	return map[string]setting{
		fleet.SettingNetworkProtection: {Value: string(d.NetworkProtection)},
		fleet.SettingFailMode:          {Value: string(d.FailMode)},
	}
}

// settingsOf are the effective settings that a bundle makes, also those that
// this agent does not know.
func settingsOf(set bundle.Set) map[string]setting {
	settings := defaultSettings()
	for _, r := range set.All() {
		if r.Err == nil && r.Kind == bundle.KindSetting {
			settings[r.Key] = setting{Value: r.Value, Policy: r.Origin}
		}
	}
	return settings
}

// configOf is what a bundle's settings make of the judgement. Those that this
// agent does not know are ignored.
func configOf(set bundle.Set) (verdict.Config, error) {
	var c verdict.Config
	for _, r := range set.All() {
		if r.Err != nil || r.Kind != bundle.KindSetting {
			continue
		}
		if d, ok := fleet.Define(r.Key); ok {
			if err := d.Set(&c.Settings, r.Value); err != nil {
				return verdict.Config{}, fmt.Errorf("reading setting %s: the value %q %w", r.Key, r.Value, err)
			}
		}
		if r.Key == fleet.SettingNetworkProtection {
			c.PolicyID = r.Origin
		}
	}
	return c, nil
}

// reportSettings records every setting that differs from what was reported
// before, in order of their names. What was reported is kept on disk, so that
// a crash in between repeats an event rather than loses one.
func (e *enforcer) reportSettings(ctx context.Context, b state.Bundle) {
	old, err := readSettings(e.cfg.Settings)
	if err != nil {
		e.cfg.Log.WarnContext(ctx, "reading the settings reported last", "error", err)
	}
	now := settingsOf(b.Set)
	// A setting that is in the bundle no longer is back at nothing.
	for name := range old {
		if _, ok := now[name]; !ok {
			now[name] = setting{}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if now[name].Value == old[name].Value {
			continue
		}
		e.cfg.Journal.Changes(ctx, now[name].Policy, b.Header.Version, event.Change{
			Setting: name, Old: old[name].Value, New: now[name].Value, Channel: channelServer,
		})
	}
	if maps.Equal(old, now) {
		return
	}
	if err := writeSettings(e.cfg.Settings, now); err != nil {
		e.cfg.Health.Raise(health.JournalFailing, "%v; a change of settings may be reported twice", err)
	}
}

// readSettings reads what was reported last; the defaults where nothing ever
// was, or nobody can tell.
func readSettings(path string) (map[string]setting, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return defaultSettings(), nil
	}
	if err != nil {
		return defaultSettings(), fmt.Errorf("reading reported settings: %w", err)
	}
	var settings map[string]setting
	if err := json.Unmarshal(content, &settings); err != nil {
		return defaultSettings(), fmt.Errorf("reading %s: %w", path, err)
	}
	return settings, nil
}

func writeSettings(path string, settings map[string]setting) error {
	content, err := json.MarshalIndent(settings, "", "  ")
	if err != nil {
		return fmt.Errorf("writing reported settings: %w", err)
	}
	return state.WriteFile(path, append(content, '\n'))
}
