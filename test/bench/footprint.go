package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is USER_HZ, which is 100 on every Linux that Go runs on.
const ticksPerSecond = 100

// footprint reads what the idle agent costs.
func (b *bench) footprint(ctx context.Context) error {
	dir := filepath.Join("/proc", strconv.Itoa(b.site.AgentPID(hostGuarded)))
	before, err := processorTime(dir)
	if err != nil {
		return err
	}
	idle := time.NewTimer(idleFor)
	defer idle.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-idle.C:
	}
	after, err := processorTime(dir)
	if err != nil {
		return err
	}
	share := float64(after-before) / float64(idleFor) * 100
	b.row("agent's processor time when idle", "under 0.1 % of a core", fmt.Sprintf("%.2f %% over %s", share, idleFor), atMost(share, 0.1))

	kib, err := residentKiB(dir)
	if err != nil {
		return err
	}
	b.row("agent's memory with 100,000 indicators (resident, private)", "under 40 MiB",
		fmt.Sprintf("%.1f MiB", float64(kib)/1024), atMost(float64(kib), 40*1024))
	return nil
}

// processorTime is user and system time of a process (proc(5), stat).
func processorTime(dir string) (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0, fmt.Errorf("reading the agent's processor time: %w", err)
	}
	// The program's name in parentheses may hold spaces.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	const utime, stime = 11, 12
	if len(fields) <= stime {
		return 0, fmt.Errorf("reading the agent's processor time: %q is too short", text)
	}
	user, err := strconv.Atoi(fields[utime])
	if err != nil {
		return 0, fmt.Errorf("reading the agent's processor time: %w", err)
	}
	system, err := strconv.Atoi(fields[stime])
	if err != nil {
		return 0, fmt.Errorf("reading the agent's processor time: %w", err)
	}
	return time.Duration(user+system) * time.Second / ticksPerSecond, nil
}

// residentKiB is the anonymous memory of a process: what it costs beside its
// program file, which the kernel can drop at any time.
func residentKiB(dir string) (int, error) {
	text, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return 0, fmt.Errorf("reading the agent's memory: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			if err != nil {
				return 0, fmt.Errorf("reading the agent's memory: %w", err)
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("reading the agent's memory: /proc does not say it")
}
