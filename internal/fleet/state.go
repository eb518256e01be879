package fleet

import (
	"cmp"
	"hash/fnv"
	"slices"
	"time"
)

// SettingState says how far one setting has come on one device.
type SettingState string

// The states of a setting on a device.
const (
	// SettingApplied: the device enforces the value.
	SettingApplied SettingState = "applied"
	// SettingPending: the device is connected, and at it.
	SettingPending SettingState = "pending"
	// SettingOffline: the device will apply the value when it is back.
	SettingOffline SettingState = "offline"
	// SettingFailed: the device said that it cannot apply the value.
	SettingFailed SettingState = "error"
	// SettingConflict: policies of the same priority differ; the device
	// enforces the stricter value.
	SettingConflict SettingState = "conflict"
	// SettingNotApplicable: the device cannot have the setting, or another
	// policy goes before the one that is asked about.
	SettingNotApplicable SettingState = "not_applicable"
)

// SettingStates returns all states, those first that somebody should look at.
func SettingStates() []SettingState {
	return []SettingState{SettingFailed, SettingConflict, SettingPending, SettingOffline, SettingApplied, SettingNotApplicable}
}

// Valid reports whether s is one of [SettingStates].
func (s SettingState) Valid() bool { return slices.Contains(SettingStates(), s) }

// Channels returns all channels, in the order of precedence.
func Channels() []Channel {
	return []Channel{ChannelServer, ChannelFile, ChannelEnvironment, ChannelLocal, ChannelDefault}
}

// Valid reports whether c is one of [Channels].
func (c Channel) Valid() bool { return slices.Contains(Channels(), c) }

// Standing is what has been decided about one setting for a device, whatever
// the device has made of it.
type Standing struct {
	Setting string `json:"setting"`
	// Value is the one that was decided for, Policy the policy it comes from;
	// empty where no policy makes the setting.
	Value  string `json:"value"`
	Policy string `json:"policy,omitempty"`
	// Refused is the value of the policy that is asked about, where another
	// one was decided for.
	Refused   string     `json:"refused,omitempty"`
	Conflicts []Conflict `json:"conflicts,omitempty"`
}

// SettingStatus is a standing, and what one device has made of it.
type SettingStatus struct {
	Standing

	State SettingState `json:"state" enum:"error,conflict,pending,offline,applied,not_applicable"`
	// Text says why in the state error, and where it is known in the states
	// not_applicable and pending.
	Text string `json:"text,omitempty"`
	// InForce and Channel are what the device says is in force instead, and
	// where it comes from.
	InForce string  `json:"in_force,omitempty"`
	Channel Channel `json:"channel,omitempty"`
	// Version is that of the bundle with which what is in force came to be so,
	// missing if that is not known. Since is when that was, and in the state
	// offline when the device was last seen.
	Version uint64    `json:"version,omitempty"`
	Since   time.Time `json:"since,omitzero"`
}

// Standings returns what has been decided about every setting, in the order of
// [Definitions].
func (e *Effective) Standings() []Standing {
	definitions := Definitions()
	all := make([]Standing, 0, len(definitions))
	for i := range definitions {
		all = append(all, e.standing(&definitions[i]))
	}
	return all
}

func (e *Effective) standing(d *Definition) Standing {
	s := Standing{Setting: d.Name, Value: d.get(&e.Settings), Policy: e.Origin[d.Name]}
	for _, c := range e.Conflicts {
		if c.Setting == d.Name {
			s.Conflicts = append(s.Conflicts, c)
		}
	}
	return s
}

// StandingsOf returns what has been decided about the settings that a policy
// makes, for a device which the policy applies to.
func (e *Effective) StandingsOf(p *Policy) []Standing {
	var all []Standing
	definitions := Definitions()
	for i := range definitions {
		d := &definitions[i]
		wanted := d.get(&p.Settings)
		if wanted == "" {
			continue
		}
		s := e.standing(d)
		if wanted != s.Value && s.Policy != p.ID {
			s.Refused = wanted
		}
		// Other policies' conflicts are not this one's.
		if s.Conflicts = slices.DeleteFunc(s.Conflicts, func(c Conflict) bool { return !c.concerns(p, wanted) }); len(s.Conflicts) == 0 {
			s.Conflicts = nil
		}
		all = append(all, s)
	}
	return all
}

// concerns reports whether the conflict is one of a policy that wants a value:
// it is overruled, or has its part in overruling the other.
func (c *Conflict) concerns(p *Policy, wanted string) bool {
	return c.Policy == p.ID || c.Overruled == p.ID || c.Priority == p.Priority && c.Value == wanted
}

// decided is how the standing would be on a device that enforces what it ought
// to.
func (s *Standing) decided() SettingState {
	switch {
	case len(s.Conflicts) > 0:
		return SettingConflict
	case s.Refused != "":
		return SettingNotApplicable
	default:
		return SettingApplied
	}
}

// Status says how far the device has come with a setting.
func (d *Device) Status(s Standing) SettingStatus {
	status := SettingStatus{Standing: s, State: s.decided()}
	if status.State == SettingNotApplicable {
		return status
	}
	if h, ok := d.Applied.Held[s.Setting]; ok {
		status.Version, status.Since = h.Version, h.At
	}
	switch d.State() {
	case StateFailed:
		status.State, status.Text = SettingFailed, d.Applied.Error
	case StateOffline:
		status.State, status.Since = SettingOffline, d.LastSeen
	case StatePending:
		status.State = SettingPending
	case StateApplied:
	}
	if r := d.reported(s.Setting); r != nil {
		// Also while something newer is on its way this is in force.
		status.InForce, status.Channel = r.Value, r.Channel
		if d.State() == StateApplied {
			status.report(r)
		}
	}
	return status
}

// report takes in what the device says of the setting, which goes before what
// was decided.
func (s *SettingStatus) report(r *SettingReport) {
	switch r.State {
	case SettingFailed, SettingNotApplicable, SettingPending:
		s.State, s.Text = r.State, r.Text
	default: // in force, if only from another channel
	}
}

// InForce returns the value of a setting that is in force as far as the device
// told, for one that was decided: what was said on the device counts where no
// policy makes the setting.
func (d *Device) InForce(setting, decided string) string {
	if r := d.reported(setting); r != nil {
		return r.Value
	}
	return decided
}

// Hold notes in a which values are in force since when: those that were in force
// before, with the same origin, as before says, and the others since a. e is what
// was decided in the bundle that a is about.
func (a *Applied) Hold(e *Effective, before map[string]Held) {
	d := Device{Applied: *a}
	definitions := Definitions()
	a.Held = make(map[string]Held, len(definitions))
	for i := range definitions {
		name := definitions[i].Name
		value, origin := definitions[i].get(&e.Settings), e.Origin[name]
		if r := d.reported(name); r != nil && (r.Value != value || r.Channel != ChannelServer) {
			value, origin = r.Value, string(r.Channel)
		}
		hash := fnv.New64a()
		_, _ = hash.Write([]byte(origin + "\x00" + value))
		h := Held{Version: a.Version, At: a.At, Mark: hash.Sum64()}
		if was, known := before[name]; known && was.Mark == h.Mark {
			h = was
		}
		a.Held[name] = h
	}
}

// Mode returns the network protection mode in force. For a device that has not
// said yet it is the one that was decided.
func (d *Device) Mode(decided Mode) Mode {
	return Mode(d.InForce(SettingNetworkProtection, string(cmp.Or(d.Applied.Mode, decided))))
}

func (d *Device) reported(setting string) *SettingReport {
	for i := range d.Applied.Settings {
		if d.Applied.Settings[i].Setting == setting {
			return &d.Applied.Settings[i]
		}
	}
	return nil
}

// PolicyStatus says how far the device has come with a policy that is assigned
// to it, and with each of the settings that the policy makes, of which
// standings are those for the device. The policy's state is that of the setting
// which somebody should look at first, and without any setting that of the
// device.
func (d *Device) PolicyStatus(p *Policy, standings []Standing) (SettingState, []SettingStatus) {
	if len(standings) == 0 {
		standings = []Standing{{}}
	}
	all := make([]SettingStatus, 0, len(standings))
	order := SettingStates()
	first := len(order) - 1
	for _, s := range standings {
		status := d.Status(s)
		if !p.SupportsOS(d.OS) {
			status = SettingStatus{Standing: Standing{Setting: s.Setting, Value: s.Value, Policy: s.Policy}, State: SettingNotApplicable}
			status.Text = "the policy is not for this operating system"
		}
		all = append(all, status)
		first = min(first, slices.Index(order, status.State))
	}
	if all[0].Setting == "" {
		return order[first], nil
	}
	return order[first], all
}

// StateCounts counts devices, or the states of one setting, by state.
type StateCounts struct {
	// Total is the sum of the others.
	Total         int `json:"total"`
	Applied       int `json:"applied"`
	Pending       int `json:"pending"`
	Offline       int `json:"offline"`
	Failed        int `json:"error"`
	Conflict      int `json:"conflict"`
	NotApplicable int `json:"not_applicable"`
}

// Add counts one.
func (c *StateCounts) Add(s SettingState) {
	c.Total++
	switch s {
	case SettingApplied:
		c.Applied++
	case SettingPending:
		c.Pending++
	case SettingOffline:
		c.Offline++
	case SettingFailed:
		c.Failed++
	case SettingConflict:
		c.Conflict++
	case SettingNotApplicable:
		c.NotApplicable++
	}
}

// Concerned is how many of those counted could have the setting at all.
func (c *StateCounts) Concerned() int { return c.Total - c.NotApplicable }
