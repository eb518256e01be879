package control

import (
	"time"

	"interdict/internal/bundle"
	"interdict/internal/cloudapp"
	"interdict/internal/event"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/store"
)

// The bounds of a page.
const (
	defaultPage = 100
	maxPage     = 1000
)

// PageQuery asks for one page of a list.
type PageQuery struct {
	// Limit is how many items at most; 0 means 100, and 1000 is the most.
	Limit int
	// Cursor is the Next of the page before; empty for the first.
	Cursor string
}

// Page is one page of a list.
type Page[T any] struct {
	Items []T `json:"items"`
	// Next is the cursor of the next page; empty on the last.
	Next string `json:"next,omitempty"`
}

// Change is what every change that can alter bundles returns.
type Change struct {
	// Revision is the server's revision with the change in it. Every bundle
	// with at least this version has it.
	Revision uint64 `json:"revision"`
}

// AnyVersion as the version to match lets an edit through whatever was
// changed since.
const AnyVersion uint64 = 0

// AppQuery asks for cloud apps.
type AppQuery struct {
	// Search is looked for in id, name, vendor and domains.
	Search string
	// Tag limits to apps with this tag; TagNone to those without one.
	Tag cloudapp.Tag
	// Category is one of the catalog's, spaces for dashes.
	Category string
	PageQuery
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
	// Scope takes ids or names of groups.
	Scope indicator.Scope `json:"scope,omitzero"`
}

// IndicatorQuery asks for indicators, of the catalog and custom.
type IndicatorQuery struct {
	Type   indicator.Type
	Source indicator.Source
	// App is the id or name of an app.
	App string
	// Search is looked for in value and description.
	Search string
	PageQuery
}

// NewIndicator is a custom indicator to be made.
type NewIndicator struct {
	Type        indicator.Type     `json:"type" enum:"domain,url,ip,cidr,certificate,file_sha256"`
	Value       string             `json:"value"`
	Action      indicator.Action   `json:"action" enum:"allow,audit,warn,block"`
	Severity    indicator.Severity `json:"severity,omitempty" enum:"informational,low,medium,high" required:"false"`
	Description string             `json:"description,omitempty"`
	// Scope takes ids or names of groups.
	Scope         indicator.Scope `json:"scope,omitzero"`
	ExpiresAt     time.Time       `json:"expires_at,omitzero"`
	GenerateAlert bool            `json:"generate_alert,omitempty"`
}

// Import says what became of many indicators at once.
type Import struct {
	Change

	Added int `json:"added"`
	// Existing were there already, with the same scope.
	Existing int          `json:"existing"`
	Refused  []RefusedRow `json:"refused,omitempty"`
}

// RefusedRow is a row that breaks a rule.
type RefusedRow struct {
	// Row counts from 0, in the order of the input.
	Row    int           `json:"row"`
	Faults []fault.Field `json:"errors"`
}

// NewGroup is a group to be made, or what it is to become.
type NewGroup struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	// Members takes ids or names of devices.
	Members []string          `json:"members,omitempty"`
	Match   map[string]string `json:"match_labels,omitempty"`
}

// GroupView is a group with how many devices are in it.
type GroupView struct {
	fleet.Group

	Devices int `json:"devices"`
}

// NewPolicy is a policy to be made, or what it is to become. The assignment
// is changed by AssignPolicy only.
type NewPolicy struct {
	Name        string         `json:"name"`
	Description string         `json:"description,omitempty"`
	Settings    fleet.Settings `json:"settings"`
	Priority    int            `json:"priority,omitempty"`
}

// PolicyDeletion says which policy may be deleted.
type PolicyDeletion struct {
	// Version is the one it must have, or AnyVersion.
	Version uint64
	// Assigned lets it be deleted though it reaches devices.
	Assigned bool
}

// PolicyStatus says how far a policy has come.
type PolicyStatus struct {
	Policy  fleet.Policy  `json:"policy"`
	Rollout fleet.Rollout `json:"rollout"`
	// Devices are those the policy is assigned to.
	Devices []PolicyDevice `json:"devices"`
}

// PolicyDevice is one device that a policy is assigned to.
type PolicyDevice struct {
	ID        fleet.DeviceID     `json:"id"`
	Name      string             `json:"name"`
	State     fleet.RolloutState `json:"state" enum:"applied,pending,offline,failed"`
	Applied   fleet.Applied      `json:"applied"`
	Effective fleet.Effective    `json:"effective"`
}

// DeviceQuery asks for devices.
type DeviceQuery struct {
	// Search is looked for in id, name, host name and labels.
	Search string
	// Group is the id or name of a group.
	Group string
	PageQuery
}

// DeviceView is a device with what it has to obey.
type DeviceView struct {
	fleet.Device

	Effective fleet.Effective `json:"effective"`
}

// DeviceUpdate changes a device; nil leaves as it is.
type DeviceUpdate struct {
	Name   *string            `json:"name,omitempty"`
	Labels *map[string]string `json:"labels,omitempty"`
}

// NewToken is an enrolment token to be made.
type NewToken struct {
	Name string `json:"name"`
	// ExpiresAt is required to be in the future; zero means in 24 hours.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	// Uses is how many devices it admits; 0 means one.
	Uses int `json:"uses,omitempty"`
	// Labels are given to every device admitted, and win over its own.
	Labels map[string]string `json:"labels,omitempty"`
	// Groups takes ids or names of groups which the devices join.
	Groups []string `json:"groups,omitempty"`
}

// TokenView is an enrolment token without its secret.
type TokenView struct {
	store.Token

	State TokenState `json:"state" enum:"active,expired,exhausted,revoked"`
}

// TokenState says whether a token still admits devices.
type TokenState string

// The states of a token.
const (
	TokenActive    TokenState = "active"
	TokenExpired   TokenState = "expired"
	TokenExhausted TokenState = "exhausted"
	TokenRevoked   TokenState = "revoked"
)

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

// AuditQuery asks for the audit log, newest first.
type AuditQuery struct {
	// Each limits to entries that have exactly it. Actor and Target are ids, or
	// names of what still exists.
	Actor, Action, Target string
	PageQuery
}

// AuditEntry is one line of the audit log.
type AuditEntry = store.AuditEntry

// Attempt is something that was refused before it reached a use case.
type Attempt struct {
	Actor  Actor
	Action string // "GET /api/v1/devices", "enroll"
	Reason string
}

// AlertQuery asks for alerts, newest first.
type AlertQuery struct {
	// Device is the id or name of a device.
	Device string
	// App is the id or name of an app.
	App string
	PageQuery
}

// EventView is an event with what its device is called.
type EventView struct {
	event.Event

	// DeviceName is empty when the device was deleted.
	DeviceName string `json:"device_name,omitempty"`
}

// EventQuery asks for events. Without After they come newest first, by the
// time they arrived; with it, in the order they arrived.
type EventQuery struct {
	// Device is the id or name of a device.
	Device string
	// App is the id or name of an app, Host a destination with what is below it.
	App, Host string
	EventID   event.ID
	Action    event.Action
	User      string
	// Since and Until bound the time of the event: from Since on, before
	// Until. Zero is unbounded.
	Since, Until time.Time
	// After asks for what arrived after a cursor, oldest first; "now" is the
	// cursor of this moment, "start" that of the beginning. The page's Next
	// is then always set, and the After of the next question. A revision of
	// an event arrives again.
	After string
	PageQuery
}

// Facts are what a device says of itself when it connects.
type Facts = bundle.Facts
