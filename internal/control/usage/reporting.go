package usage

import (
	"context"
	"time"

	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// Delay is how long a device gathers use before it reports it.
const Delay = 5 * time.Minute

// Reporting says which devices in scope the figures of use know nothing of, each
// by the first reason that holds, and what else the figures leave out.
type Reporting struct {
	// Silent is how many devices in scope do not report use. It is the sum of
	// the three that follow.
	Silent int `json:"devices_not_reporting"`
	// NeverConnected were enrolled and not seen since.
	NeverConnected int `json:"never_connected"`
	// Disabled have network protection disabled, and look at no connection.
	Disabled int `json:"network_protection_disabled"`
	// Off are told not to report which apps are used.
	Off int `json:"usage_reporting_off"`
	// Delay is how old the figures may be.
	Delay int `json:"delay_seconds"`
	// UsersTogether is true if the scope is for some users only: the figures
	// count all users of its devices.
	UsersTogether bool `json:"users_not_told_apart"`
}

// reporting says what the use of the devices in scope does not tell.
func (w *work) reporting(ctx context.Context, scope *indicator.Profile) (Reporting, error) {
	r := Reporting{Delay: int(Delay / time.Second), UsersTogether: !scope.Everybody()}
	err := w.service.control.EachDevice(ctx, func(d *fleet.Device) {
		if w.inScope[d.ID] {
			r.add(d, w.decided[d.ID])
		}
	})
	return r, err
}

// add counts a device that does not report. decided is nil for one that is too
// new for anything to be decided.
func (r *Reporting) add(d *fleet.Device, decided *fleet.Settings) {
	if decided == nil {
		decided = &fleet.Settings{}
	}
	switch {
	case d.LastSeen.IsZero():
		r.NeverConnected++
	case d.Mode(decided.NetworkProtection) == fleet.ModeDisabled:
		r.Disabled++
	case fleet.Switch(d.InForce(fleet.SettingUsageReporting, string(decided.UsageReporting))) == fleet.Off:
		r.Off++
	default:
		return
	}
	r.Silent++
}
