//go:build !linux

package survey

import (
	"context"
	"io/fs"

	"interdict/internal/agent/doctor"
	"interdict/internal/agent/netguard"
)

// On this system the agent cannot enforce anything, so there is nothing of the
// kernel to look at.

func release() string { return "" }

func unsynchronised() bool { return false }

func free(string) uint64 { return 0 }

func features(context.Context) map[string]string { return nil }

func rules(context.Context, *netguard.Config) doctor.Rules { return doctor.Rules{} }

func listener(string) int { return 0 }

func owned(fs.FileInfo) bool { return true }
