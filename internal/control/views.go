package control

import (
	"time"

	"interdict/internal/bundle"
	"interdict/internal/cloudapp"
	"interdict/internal/control/page"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/store"
)

// Change is what every change that can alter bundles returns.
type Change struct {
	// Revision is the server's revision with the change in it. Every bundle
	// with at least this version has it.
	Revision uint64 `json:"revision"`
}

// AppQuery asks for cloud apps.
type AppQuery struct {
	// Search is looked for in id, name, vendor and domains.
	Search string
	// Tag limits to apps with this tag; TagNone to those without one.
	Tag cloudapp.Tag
	// Category is one of the catalog's, spaces for dashes.
	Category string
	page.Query
}

// AppView is a cloud app with what the administrator says about it.
type AppView struct {
	cloudapp.App

	Tagging cloudapp.Tagging `json:"tagging"`
}

// TagRequest tags apps, all of them or none.
type TagRequest struct {
	// Apps are ids, or names as the catalog writes them.
	Apps []string     `json:"apps"`
	Tag  cloudapp.Tag `json:"tag" enum:"none,sanctioned,unsanctioned,monitored"`
	// Scope takes ids or names of groups, and device:NAME.
	Scope indicator.Profile `json:"scope,omitzero"`
}

// Named is something by its id and its name.
type Named struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// NewPolicy is a policy to be made, or what it is to become. The assignment
// is changed by AssignPolicy only.
type NewPolicy struct {
	Name        string         `json:"name"`
	Description string         `json:"description,omitempty"`
	Settings    fleet.Settings `json:"settings"`
	Priority    int            `json:"priority,omitempty"`
	// Platforms limits it to devices with these operating systems.
	Platforms []string `json:"platforms,omitempty" enum:"linux,windows" doc:"Operating systems it is for; empty means any"`
}

// PolicyDeletion says which policy may be deleted.
type PolicyDeletion struct {
	// Version is the one it must have, or edit.AnyVersion.
	Version uint64
	// Assigned lets it be deleted though it reaches devices.
	Assigned bool
}

// PolicyStatus says how far a policy has come.
type PolicyStatus struct {
	Policy fleet.Policy `json:"policy"`
	// Counts are of the devices that the policy is assigned to.
	Counts fleet.StateCounts `json:"counts"`
	// Settings are those that the policy makes.
	Settings  []SettingCounts  `json:"settings"`
	Conflicts []PolicyConflict `json:"conflicts,omitempty"`
	// Revision is that of the newest change to what these devices have to
	// enforce.
	Revision uint64 `json:"revision,omitempty"`
	// Took is how long it took, from that change on, until the last of the
	// devices that enforce it by now did. It is missing when that is not known,
	// as when the server was started since.
	Took float64 `json:"took_seconds,omitempty"`
}

// SettingCounts says how far one setting of a policy has come.
type SettingCounts struct {
	Setting string            `json:"setting"`
	Value   string            `json:"value"`
	Counts  fleet.StateCounts `json:"counts"`
}

// PolicyConflict is a conflict of a policy with another one.
type PolicyConflict struct {
	fleet.Conflict

	// Devices is how many devices have it.
	Devices int `json:"devices"`
}

// PolicyView is a policy, with its conflicts with others.
type PolicyView struct {
	fleet.Policy

	Conflicts []PolicyConflict `json:"conflicts,omitempty"`
}

// PolicyDeviceQuery asks for the devices that a policy is assigned to.
type PolicyDeviceQuery struct {
	// States limits to devices in one of these states.
	States []fleet.SettingState
	page.Query
}

// PolicyDevice is one device that a policy is assigned to.
type PolicyDevice struct {
	ID       fleet.DeviceID     `json:"id"`
	Name     string             `json:"name"`
	State    fleet.SettingState `json:"state" enum:"error,conflict,pending,offline,applied,not_applicable"`
	Online   bool               `json:"online"`
	LastSeen time.Time          `json:"last_seen,omitzero"`
	// Applied is what the device last said it enforces.
	Applied fleet.Applied `json:"applied"`
	// Settings are those that the policy makes.
	Settings []SettingView `json:"settings"`
}

// SettingView is a setting of a device, how far it has come, and where it
// comes from.
type SettingView struct {
	fleet.SettingStatus

	// PolicyName is what people call the policy.
	PolicyName string `json:"policy_name,omitempty"`
}

// DeviceQuery asks for devices.
type DeviceQuery struct {
	// Search is looked for in id, name, host name and labels.
	Search string
	// Group is the id or name of a group.
	Group string
	page.Query
}

// DeviceView is a device with what it has to obey.
type DeviceView struct {
	fleet.Device

	Effective fleet.Effective `json:"effective"`
	// Settings say how far each setting has come. Lists have none.
	Settings []SettingView `json:"settings,omitempty"`
}

// DeviceSync is a device that was asked to check, and has.
type DeviceSync struct {
	DeviceView

	// Took is how long it took until it had answered.
	Took float64 `json:"took_seconds"`
}

// DeviceUpdate changes a device; nil leaves as it is.
type DeviceUpdate struct {
	Name   *string            `json:"name,omitempty"`
	Labels *map[string]string `json:"labels,omitempty"`
}

// FeatureView is a feature switch.
type FeatureView struct {
	Name        fleet.Feature `json:"name"`
	Description string        `json:"description"`
	Enabled     bool          `json:"enabled"`
}

// FeatureUpdate turns a feature on or off.
type FeatureUpdate struct {
	Enabled bool `json:"enabled"`
}

// AuditEntry is one line of the audit log.
type AuditEntry = store.AuditEntry

// Attempt is something that was refused before it reached a use case.
type Attempt struct {
	Actor  Actor
	Action string // "GET /api/v1/devices", "enroll"
	Reason string
}

// Facts are what a device says of itself when it connects.
type Facts = bundle.Facts
