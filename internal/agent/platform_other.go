//go:build !linux

package agent

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"

	"interdict/internal/agent/state"
)

// NewPlatform fails: there is no enforcement on this system yet.
func NewPlatform(*slog.Logger) (Platform, error) {
	return Platform{}, fmt.Errorf("the agent cannot enforce anything on %s", runtime.GOOS)
}

// EnforcedElsewhere reports that there are no rules.
func EnforcedElsewhere(state.Dir) bool { return false }

// CleanUp has nothing to remove.
func CleanUp(context.Context, *slog.Logger) error { return nil }
