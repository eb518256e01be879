// Package load simulates a fleet: many devices in one process that speak the
// true protocol through the agent's own uplink, and apply bundles to nothing.
//
// What a simulated device leaves out is the kernel, so its time from a change
// to "applied" is what server, network, verification and disk cost.
package load

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"interdict/internal/agent/health"
	"interdict/internal/agent/state"
	"interdict/internal/agent/uplink"
	"interdict/internal/bundle"
	"interdict/internal/fleet"
)

// enrolling bounds the enrolments under way at once.
const enrolling = 16

// Config says which fleet to simulate. All fields are required.
type Config struct {
	// Token enrols every device; it must allow for that many.
	Token   bundle.Token
	Devices int
	// Dir holds the devices' state. In memory it measures the server rather
	// than this machine's disk.
	Dir string
	// Applied is told when a device has put a bundle into force, from any
	// goroutine.
	Applied func(device int, version uint64, at time.Time)
}

// Fleet is a running fleet.
type Fleet struct {
	cancel context.CancelFunc
	agents errgroup.Group
	links  []*uplink.Uplink
}

// Start enrols the devices and returns when each has its first bundle in
// force, acknowledged, and holds its stream open.
func Start(ctx context.Context, cfg Config) (*Fleet, error) {
	running, cancel := context.WithCancel(ctx)
	f := &Fleet{cancel: cancel, links: make([]*uplink.Uplink, cfg.Devices)}
	var enrol errgroup.Group
	enrol.SetLimit(enrolling)
	for i := range cfg.Devices {
		enrol.Go(func() error { return f.add(running, cfg, i) })
	}
	if err := enrol.Wait(); err != nil {
		f.Shutdown()
		return nil, err
	}
	if err := f.settled(ctx); err != nil {
		f.Shutdown()
		return nil, err
	}
	return f, nil
}

// Shutdown ends all devices and returns when they have.
func (f *Fleet) Shutdown() {
	f.cancel()
	// Their contexts end: that is all an uplink returns.
	_ = f.agents.Wait()
}

func (f *Fleet) add(ctx context.Context, cfg Config, i int) error {
	dir, err := state.Open(filepath.Join(cfg.Dir, fmt.Sprintf("device-%05d", i)))
	if err != nil {
		return fmt.Errorf("making device %d: %w", i, err)
	}
	id, err := uplink.Enroll(ctx, uplink.EnrollConfig{
		Token: cfg.Token, Name: fmt.Sprintf("load-%05d", i), Facts: bundle.Facts{Hostname: "load", OS: "simulated"},
	})
	if err != nil {
		return fmt.Errorf("enrolling device %d: %w", i, err)
	}
	if err := dir.SaveIdentity(id); err != nil {
		return fmt.Errorf("enrolling device %d: %w", i, err)
	}
	f.links[i] = uplink.New(uplink.Config{
		Dir: dir, Identity: id, Spool: silent{}, Health: new(health.Set),
		Log: slog.New(slog.DiscardHandler),
		Apply: func(_ context.Context, b state.Bundle) (fleet.Mode, error) {
			cfg.Applied(i, b.Header.Version, time.Now())
			return fleet.ModeDisabled, nil
		},
		Refused: func(context.Context, bundle.Header, error) {},
	})
	f.agents.Go(func() error { return f.links[i].Run(ctx, fleet.ModeDisabled) })
	return nil
}

// settled returns when every device is connected and has acknowledged.
func (f *Fleet) settled(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, link := range f.links {
		for s := link.Status(); !s.Connected || !s.Acknowledged; s = link.Status() {
			select {
			case <-ctx.Done():
				return fmt.Errorf("waiting for the fleet to connect: %w", ctx.Err())
			case <-tick.C:
			}
		}
	}
	return nil
}

// silent is the spool of a device to which nothing happens.
type silent struct{}

var _ uplink.Spool = silent{}

func (silent) Next(ctx context.Context) (string, []byte, error) {
	<-ctx.Done()
	return "", nil, ctx.Err()
}
func (silent) Done(string) error   { return nil }
func (silent) Reject(string) error { return nil }

// Latencies collects when devices applied which version.
type Latencies struct {
	mu sync.Mutex
	// applied are the devices' bundles in the order of their coming.
	applied map[int][]applied
}

type applied struct {
	version uint64
	at      time.Time
}

// Applied notes that a device has applied a version; it fits Config.Applied.
func (l *Latencies) Applied(device int, version uint64, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.applied == nil {
		l.applied = make(map[int][]applied)
	}
	l.applied[device] = append(l.applied[device], applied{version, at})
}

// Since returns, for each device that has applied a version or a later one,
// how long after start it first did.
func (l *Latencies) Since(start time.Time, version uint64) []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var d []time.Duration
	for _, all := range l.applied {
		i := slices.IndexFunc(all, func(a applied) bool { return a.version >= version })
		if i >= 0 {
			d = append(d, all[i].at.Sub(start))
		}
	}
	return d
}
