// Package indicator decides what an indicator is and which one applies to a
// connection: the types and their canonical values, the precedence among
// several that match, and the names that no indicator may ever refuse.
//
// It is pure: the server uses it to validate and to explain, the agent to
// judge, the exporters to write rules, all with the same result.
package indicator

import (
	"net/netip"
	"slices"
	"time"
)

// Type is what kind of thing an indicator's value names.
type Type string

// The types of indicators.
const (
	TypeDomain      Type = "domain"
	TypeURL         Type = "url"
	TypeIP          Type = "ip"
	TypeCIDR        Type = "cidr"
	TypeCertificate Type = "certificate"
	TypeFileSHA256  Type = "file_sha256"
)

// Action is what an indicator asks for. In audit mode the agent turns Warn
// and Block into Audit.
type Action string

// The actions, in the order of precedence among equally specific indicators:
// allow over warn over block over audit.
const (
	ActionAllow Action = "allow"
	ActionWarn  Action = "warn"
	ActionBlock Action = "block"
	ActionAudit Action = "audit"
)

// Severity says how much an analyst should care.
type Severity string

// The severities.
const (
	SeverityInformational Severity = "informational"
	SeverityLow           Severity = "low"
	SeverityMedium        Severity = "medium"
	SeverityHigh          Severity = "high"
)

// Source is where an indicator comes from.
type Source string

// The sources. A custom indicator wins over a catalog one of the same
// specificity and action.
const (
	SourceCatalog Source = "catalog"
	SourceCustom  Source = "custom"
	SourceFeed    Source = "feed"
	// SourceLocal is a drop-in file on the device itself.
	SourceLocal Source = "local"
	// SourceResolver is the list of encrypted DNS services that bypass
	// protection is about.
	SourceResolver Source = "resolver"
)

// Scope limits something to device groups, by their ids, and to single devices,
// as "device:ID". Exclude beats include; an empty Include means every device.
type Scope struct {
	Include []string `json:"include_groups,omitempty" doc:"Device groups it applies to; empty means all devices"`
	Exclude []string `json:"exclude_groups,omitempty" doc:"Device groups it does not apply to; exclude beats include"`
}

// Covers reports whether the scope reaches a device that is in these groups.
func (s Scope) Covers(groups []string) bool {
	if intersects(s.Exclude, groups) {
		return false
	}
	return len(s.Include) == 0 || intersects(s.Include, groups)
}

func intersects(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

// Indicator asks for an action on whatever its value matches.
type Indicator struct {
	// ID is a ULID for custom indicators and "APP:VALUE" for those of the
	// catalog, so that tagging an app twice makes the same indicator twice.
	ID       string   `json:"id"`
	Type     Type     `json:"type" enum:"domain,url,ip,cidr,certificate,file_sha256"`
	Value    string   `json:"value" doc:"Canonical form, see the type"`
	Action   Action   `json:"action" enum:"allow,audit,warn,block"`
	Severity Severity `json:"severity,omitempty" enum:"informational,low,medium,high"`
	Source   Source   `json:"source" enum:"catalog,custom,feed"`
	// AppID is the cloud app the indicator belongs to, if any.
	AppID       string  `json:"app_id,omitempty"`
	Description string  `json:"description,omitempty"`
	Scope       Profile `json:"scope"`
	// ExpiresAt is when the indicator ceases to exist; zero means never.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	// GenerateAlert makes its events raise alerts.
	GenerateAlert bool      `json:"generate_alert"`
	CreatedAt     time.Time `json:"created_at"`
	CreatedBy     string    `json:"created_by,omitempty"`
}

// Expired reports whether the indicator has ceased to exist at now.
func (i *Indicator) Expired(now time.Time) bool {
	return !i.ExpiresAt.IsZero() && !now.Before(i.ExpiresAt)
}

// Range is an inclusive span of addresses of one family, what the address
// indicators of a device come down to once their precedence is settled.
type Range struct{ From, To netip.Addr }
