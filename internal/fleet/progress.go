package fleet

// ProgressState says how far one device has come.
type ProgressState string

// The states of a device.
const (
	// StateApplied: the device enforces what it ought to, online or not.
	StateApplied ProgressState = "applied"
	// StateFailed: it said that it could not apply the newest bundle.
	StateFailed ProgressState = "failed"
	// StateOffline: it will apply the bundle when it is back.
	StateOffline ProgressState = "offline"
	// StatePending: it is connected, and at it.
	StatePending ProgressState = "pending"
)

// State says how far the device has come with its desired bundle.
func (d *Device) State() ProgressState {
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
func (p *Progress) Add(s ProgressState) {
	p.Total++
	switch s {
	case StateApplied:
		p.Applied++
	case StateFailed:
		p.Failed++
	case StateOffline:
		p.Offline++
	case StatePending:
		p.Pending++
	}
}
