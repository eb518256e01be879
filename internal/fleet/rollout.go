package fleet

// RolloutState says how far one device has come.
type RolloutState string

// The states of a rollout on one device.
const (
	// StateApplied: the device enforces what it ought to, online or not.
	StateApplied RolloutState = "applied"
	// StateFailed: it said that it could not apply the newest bundle.
	StateFailed RolloutState = "failed"
	// StateOffline: it will apply the bundle when it is back.
	StateOffline RolloutState = "offline"
	// StatePending: it is connected, and at it.
	StatePending RolloutState = "pending"
)

// State says how far the device has come with its desired bundle.
func (d *Device) State() RolloutState {
	switch {
	case d.Desired != "" && d.Applied.Digest == d.Desired:
		return StateApplied
	case d.Applied.Error != "":
		return StateFailed
	case !d.Online:
		return StateOffline
	default:
		return StatePending
	}
}

// Add counts one device.
func (r *Rollout) Add(s RolloutState) {
	r.Total++
	switch s {
	case StateApplied:
		r.Applied++
	case StateFailed:
		r.Failed++
	case StateOffline:
		r.Offline++
	case StatePending:
		r.Pending++
	}
}

// SettingState says how far one setting has come on one device.
type SettingState string

// The states of a setting on a device.
const (
	SettingApplied       SettingState = "applied"
	SettingPending       SettingState = "pending"
	SettingOffline       SettingState = "offline"
	SettingFailed        SettingState = "error"
	SettingConflict      SettingState = "conflict"
	SettingNotApplicable SettingState = "not_applicable"
)
