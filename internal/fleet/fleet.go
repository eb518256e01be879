// Package fleet decides which settings a device has to obey: devices, the
// groups they are in, the configuration policies assigned to groups, and the
// effective policy that results for one device.
//
// It is pure; who is connected and what they applied is given to it.
package fleet

import (
	"time"

	"interdict/internal/indicator"
)

// DeviceID identifies an enrolled device: a ULID given at enrolment, which
// also is the common name of its certificate.
type DeviceID string

// Device is an enrolled endpoint.
type Device struct {
	ID           DeviceID          `json:"id"`
	Name         string            `json:"name"`
	Hostname     string            `json:"hostname,omitempty"`
	OS           string            `json:"os,omitempty"`
	OSVersion    string            `json:"os_version,omitempty"`
	Arch         string            `json:"arch,omitempty"`
	AgentVersion string            `json:"agent_version,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	EnrolledAt   time.Time         `json:"enrolled_at"`
	// Online is true while the device holds its stream open to a server.
	Online bool `json:"online"`
	// LastSeen is when the stream was last known open; zero means never.
	LastSeen time.Time `json:"last_seen,omitzero"`
	// Applied is what the device last said it enforces.
	Applied Applied `json:"applied"`
	// Groups are the ids of the groups it is in. The server fills them in.
	Groups []string `json:"groups,omitempty"`
	// Desired is the digest of the bundle that the device ought to enforce;
	// it is up to date when Applied.Digest is the same.
	Desired string `json:"desired_digest,omitempty"`
	// DesiredSince is the revision at which Desired became what it is, or a
	// later one, at which the server started.
	DesiredSince uint64 `json:"desired_since,omitempty"`
	// Version counts the changes that were made to the name and the labels.
	Version uint64 `json:"version"`
}

// Applied is an agent's acknowledgement: what it enforces, with the kernel's
// state in place.
type Applied struct {
	Version uint64    `json:"version,omitempty"`
	Digest  string    `json:"digest,omitempty"`
	At      time.Time `json:"at,omitzero"`
	// Since is when it first said so of this digest. The server fills it in.
	Since time.Time `json:"since,omitzero"`
	// Mode is the network protection mode in force.
	Mode Mode `json:"mode,omitempty"`
	// Error says why the newest bundle could not be applied.
	Error string `json:"error,omitempty"`
	// Settings are those that are not what the server asked for; the others
	// are in force.
	Settings []SettingReport `json:"settings,omitempty"`
	// Health are the lasting faults that the agent knows of.
	Health []HealthItem `json:"health,omitempty"`
	// Held says by setting since when its value is in force. The server keeps
	// it, and shows it with each setting.
	Held map[string]Held `json:"-"`
}

// Held says since when the value of a setting is in force on a device.
type Held struct {
	// Version is that of the first bundle under which it was in force, At when
	// the device said so.
	Version uint64    `json:"version"`
	At      time.Time `json:"at"`
	// Mark stands for the value and where it comes from.
	Mark uint64 `json:"mark"`
}

// SettingReport is what a device says of one setting.
type SettingReport struct {
	Setting string `json:"setting"`
	// Value is the one in force, Channel where it comes from.
	Value   string  `json:"value"`
	Channel Channel `json:"channel"`
	// State is SettingFailed or SettingNotApplicable, with Text saying why, or
	// SettingApplied where only the channel is worth telling.
	State SettingState `json:"state"`
	Text  string       `json:"text,omitempty"`
}

// HealthItem is a lasting fault of an agent.
type HealthItem struct {
	Code  string    `json:"code"`
	Since time.Time `json:"since"`
	Text  string    `json:"text"`
}

// Channel is a way by which a device comes by its settings.
type Channel string

// The channels, in the order of precedence. A server's policy goes before
// what is said on the device; what no policy makes is not the server's word.
const (
	ChannelServer      Channel = "server"
	ChannelFile        Channel = "file"
	ChannelEnvironment Channel = "environment"
	ChannelLocal       Channel = "local"
	ChannelDefault     Channel = "default"
)

// Group is a set of devices: static members, and every device for which Rule
// is true.
type Group struct {
	ID          string     `json:"id"`
	Name        string     `json:"name"`
	Description string     `json:"description,omitempty"`
	Members     []DeviceID `json:"members,omitempty"`
	// Rule is an expression over the properties of a device, see package
	// grouprule; empty for static members only.
	Rule      string    `json:"rule,omitempty"`
	Version   uint64    `json:"version"`
	CreatedAt time.Time `json:"created_at"`
}

// Policy is a configuration policy: settings for the groups it is assigned
// to.
type Policy struct {
	ID          string          `json:"id"`
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Settings    Settings        `json:"settings"`
	Assignment  indicator.Scope `json:"assignment"`
	// Assigned is false until the policy was assigned; an unassigned policy
	// applies to nobody, while an assignment without groups applies to all.
	Assigned bool `json:"assigned"`
	// Platforms limits it to devices with these operating systems; none
	// means any.
	Platforms []string `json:"platforms,omitempty" enum:"linux,windows"`
	// Priority: the higher one wins.
	Priority  int       `json:"priority"`
	Version   uint64    `json:"version"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// Feature is a switch of the whole server.
type Feature string

// The features.
const (
	// FeatureAppEnforcement turns unsanctioned and monitored apps into
	// indicators.
	FeatureAppEnforcement Feature = "app_enforcement"
	// FeatureCustomIndicators lets custom network indicators count.
	FeatureCustomIndicators Feature = "custom_network_indicators"
)

// Progress says how far a change has come: how many of the devices it is for
// enforce it.
type Progress struct {
	// Total is the sum of the others.
	Total   int `json:"total"`
	Applied int `json:"applied"`
	Pending int `json:"pending"`
	Offline int `json:"offline"`
	Failed  int `json:"failed"`
}
