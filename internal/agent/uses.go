package agent

import (
	"context"
	"path/filepath"
	"sync/atomic"

	"interdict/internal/agent/netguard"
	"interdict/internal/agent/process"
	"interdict/internal/agent/state"
	"interdict/internal/agent/uplink"
	"interdict/internal/agent/usage"
	"interdict/internal/fleet"
)

// dirUsage is where reports of use wait, within the spool: they go when it
// goes.
const dirUsage = "usage"

// uses counts the names that programs connect to, for the server. Without a
// server there is nobody to count for.
type uses struct {
	// collector is nil where nothing is counted at all.
	collector *usage.Collector
	// on is what the settings say.
	on atomic.Bool
}

// openUses takes over the reports that wait. What cannot be counted costs
// administrators a forecast, and the agent nothing.
func (a *agent) openUses(ctx context.Context) *uses {
	u := &uses{}
	if !a.managed() {
		return u
	}
	var err error
	u.collector, err = usage.New(usage.Config{
		Dir: filepath.Join(a.cfg.Dir.Path(state.DirSpool), dirUsage), Enabled: u.on.Load, Log: a.cfg.Log,
		Owner: func(ctx context.Context, f netguard.Flow) process.Owner {
			owner := a.observer.find(ctx, f)
			a.observer.name(ctx, &owner.User)
			return owner
		},
	})
	if err != nil {
		a.cfg.Log.WarnContext(ctx, "the use of apps is not counted", "error", err)
	}
	return u
}

// used is what an inspector tells of each name; nil where nothing is counted.
func (u *uses) used() func(f netguard.Flow, host string) {
	if u.collector == nil {
		return nil
	}
	return u.collector.Used
}

// reports are what is sent; nil where nothing is counted.
func (u *uses) reports() uplink.Usage {
	if u.collector == nil {
		return nil
	}
	return u.collector
}

// obey has the settings count from now on.
func (u *uses) obey(s fleet.Settings) {
	u.on.Store(s.UsageReporting == fleet.On && s.NetworkProtection != fleet.ModeDisabled)
}

func (u *uses) start(ctx context.Context) {
	if u.collector != nil {
		u.collector.Start(ctx)
	}
}

// stop returns when what was counted is on disk.
func (u *uses) stop() {
	if u.collector != nil {
		u.collector.Shutdown()
	}
}
