// Package event decides what an endpoint's observations are called and how
// they are written down: the event ids administrators know from Windows, the
// actions, the kinds of evidence, and the one JSON schema that the local
// journal, the upload, the store and the API share.
//
// An event is one JSON object on one line with stable field names. Times are
// RFC 3339 in UTC with nanoseconds; ids are ULIDs. The schema only grows.
package event

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/oklog/ulid/v2"
)

// ID is the number of an event kind, the same as that of the Windows event
// which says the same thing.
type ID int

// The event ids. Numbers from 5900 on are Interdict's own: Windows has no
// counterpart.
const (
	// IDConfigChanged says that a setting changed: name, old value, new
	// value, and the channel through which it changed.
	IDConfigChanged ID = 5007
	// IDAudited says that a connection was let through which block mode
	// would have refused.
	IDAudited ID = 1125
	// IDBlocked says that a connection was refused.
	IDBlocked ID = 1126
	// IDBypassed says that a user went on after a warning.
	IDBypassed ID = 1129
	// IDExecAudited says that a program start would have been refused.
	IDExecAudited ID = 8003
	// IDExecBlocked says that a program start was refused.
	IDExecBlocked ID = 8004
	// IDBundleRefused says that the agent refused a bundle and kept the
	// last good one.
	IDBundleRefused ID = 5900
	// IDGuardRestored says that somebody else changed the agent's kernel
	// rules and that the agent put them back.
	IDGuardRestored ID = 5901
	// IDFileRefused says that a drop-in file of policy was not taken, and
	// what it said before still counts.
	IDFileRefused ID = 5902
	// IDSuspended says that somebody had the agent stop enforcing, with
	// rescue, and IDResumed that it enforces again.
	IDSuspended ID = 5903
	IDResumed   ID = 5904
)

// Action is what was done, in one word.
type Action string

// The actions an event can report.
const (
	ActionConfigChanged Action = "config_changed"
	ActionAudited       Action = "audited"
	ActionBlocked       Action = "blocked"
	ActionWarned        Action = "warned"
	ActionBypassed      Action = "bypassed"
	ActionExecAudited   Action = "exec_audited"
	ActionExecBlocked   Action = "exec_blocked"
	ActionBundleRefused Action = "bundle_refused"
	ActionGuardRestored Action = "guard_restored"
	ActionFileRefused   Action = "file_refused"
	ActionSuspended     Action = "suspended"
	ActionResumed       Action = "resumed"
)

// Evidence says how a destination was recognised.
type Evidence string

// The kinds of evidence, weakest first as [Evidence.Strength] orders them.
const (
	EvidenceNone        Evidence = ""
	EvidenceIP          Evidence = "ip"
	EvidenceDNS         Evidence = "dns"
	EvidenceHTTPHost    Evidence = "http_host"
	EvidenceHTTPConnect Evidence = "http_connect"
	EvidenceSOCKS5      Evidence = "socks5"
	EvidenceQUICSNI     Evidence = "quic_sni"
	EvidenceTLSSNI      Evidence = "tls_sni"
)

// Strength orders evidence by how directly it shows the use of a name: an
// address alone least, a look-up more, a name said on the connection itself
// most.
func (e Evidence) Strength() int {
	switch e {
	case EvidenceIP:
		return 1
	case EvidenceDNS:
		return 2
	case EvidenceHTTPHost, EvidenceHTTPConnect, EvidenceSOCKS5, EvidenceQUICSNI, EvidenceTLSSNI:
		return 3
	default:
		return 0
	}
}

// Destination is where a connection was going. Empty fields are not known.
type Destination struct {
	Host string     `json:"host,omitempty"`
	URL  string     `json:"url,omitempty"`
	IP   netip.Addr `json:"ip,omitzero"`
	Port uint16     `json:"port,omitempty"`
	// Protocol is the transport: "tcp", "udp" or "quic".
	Protocol string `json:"protocol,omitempty"`
}

// Process is the program that caused an event. Empty fields are not known;
// a zero PID means that the process could not be found.
type Process struct {
	PID        int    `json:"pid,omitempty"`
	Path       string `json:"path,omitempty"`
	SHA256     string `json:"sha256,omitempty"`
	Command    string `json:"command,omitempty"`
	ParentPath string `json:"parent_path,omitempty"`
	// Container is the id of the container the process runs in, as its
	// runtime names it, empty on the host.
	Container string `json:"container,omitempty"`
}

// User is who ran the process. UID is nil where no user is known, so that
// root (0) is told from nobody at all.
type User struct {
	Name string  `json:"name,omitempty"`
	UID  *uint32 `json:"uid,omitempty"`
}

// Change is what a 5007 event reports: one setting, before and after.
type Change struct {
	Setting string `json:"setting"`
	Old     string `json:"old"`
	New     string `json:"new"`
	// Channel is where the new value comes from: "server", "file",
	// "environment", "local" or "default".
	Channel string `json:"channel"`
}

// Event is one thing an agent saw or did.
//
// An event may be written more than once: when it repeats within its window
// or stronger evidence arrives, it is written again under the same id with a
// higher Count. Readers keep the revision with the highest Count.
type Event struct {
	ID            string      `json:"id"`
	Time          time.Time   `json:"time"`
	Device        string      `json:"device,omitempty"`
	EventID       ID          `json:"event_id"`
	Action        Action      `json:"action"`
	AppID         string      `json:"app_id,omitempty"`
	AppName       string      `json:"app_name,omitempty"`
	IndicatorID   string      `json:"indicator_id,omitempty"`
	Severity      string      `json:"severity,omitempty"`
	Destination   Destination `json:"destination,omitzero"`
	Evidence      Evidence    `json:"evidence,omitempty"`
	Process       Process     `json:"process,omitzero"`
	User          User        `json:"user,omitzero"`
	PolicyID      string      `json:"policy_id,omitempty"`
	BundleVersion uint64      `json:"bundle_version,omitempty"`
	Count         int         `json:"count"`
	FirstSeen     time.Time   `json:"first_seen"`
	LastSeen      time.Time   `json:"last_seen"`
	// Alert says whether the indicator raises alerts.
	Alert bool `json:"alert,omitempty"`
	// Cut is true when the connection was already open and was ended.
	Cut bool `json:"cut,omitempty"`
	// Change is set on 5007 only.
	Change *Change `json:"change,omitempty"`
	// Until is when a bypass ends, on 1129.
	Until time.Time `json:"until,omitzero"`
	// Reason is a sentence for people, on 5900 to 5904; on 1129 it is what
	// the user gave, which may be nothing.
	Reason string `json:"reason,omitempty"`
}

// Title is the event's kind as a short phrase for people.
func (id ID) Title() string {
	switch id {
	case IDConfigChanged:
		return "setting changed"
	case IDAudited:
		return "would have been blocked"
	case IDBlocked:
		return "blocked"
	case IDBypassed:
		return "bypassed a warning"
	case IDExecAudited:
		return "start would have been blocked"
	case IDExecBlocked:
		return "start blocked"
	case IDBundleRefused:
		return "bundle refused"
	case IDGuardRestored:
		return "kernel rules restored"
	case IDFileRefused:
		return "policy file refused"
	case IDSuspended:
		return "enforcement suspended"
	case IDResumed:
		return "enforcement resumed"
	default:
		return fmt.Sprintf("event %d", int(id))
	}
}

// Validate checks that an event that came from outside is complete enough to
// be stored: a ULID, an event id, an action, times and count, and in every
// field UTF-8 within its bounds and without control characters. Event ids and
// actions that are not known here are fine: they come from a newer agent. It
// returns the first fault, naming the field.
func (e *Event) Validate() error {
	if _, err := ulid.ParseStrict(e.ID); err != nil {
		return fmt.Errorf("id: %.64q is not a ULID", e.ID)
	}
	switch {
	case e.EventID <= 0 || e.EventID > 99999:
		return fmt.Errorf("event_id: %d is not between 1 and 99999", e.EventID)
	case e.Action == "":
		return fmt.Errorf("action: is missing")
	case e.Time.IsZero():
		return fmt.Errorf("time: is missing")
	case e.FirstSeen.IsZero():
		return fmt.Errorf("first_seen: is missing")
	case e.LastSeen.IsZero():
		return fmt.Errorf("last_seen: is missing")
	case e.Count < 1:
		return fmt.Errorf("count: %d is less than 1", e.Count)
	}
	for _, f := range e.texts() {
		if len(f.value) > f.limit {
			return fmt.Errorf("%s: %d bytes are more than %d", f.name, len(f.value), f.limit)
		}
		if !utf8.ValidString(f.value) {
			return fmt.Errorf("%s: is not UTF-8", f.name)
		}
		if strings.ContainsFunc(f.value, isControl) {
			return fmt.Errorf("%s: holds a control character", f.name)
		}
	}
	return nil
}

// text is a field that holds text, and its limit in bytes.
type text struct {
	name, value string
	limit       int
}

// texts returns every field that holds text.
func (e *Event) texts() []text {
	c := cmp.Or(e.Change, &Change{})
	return []text{
		{"device", e.Device, 64},
		{"action", string(e.Action), 64},
		{"app_id", e.AppID, 128},
		{"app_name", e.AppName, 256},
		{"indicator_id", e.IndicatorID, 512},
		{"severity", e.Severity, 64},
		// A name in a look-up may hold any byte, each escaped with four.
		{"destination.host", e.Destination.Host, 1024},
		{"destination.url", e.Destination.URL, 4096},
		{"destination.protocol", e.Destination.Protocol, 64},
		{"evidence", string(e.Evidence), 64},
		{"process.path", e.Process.Path, 4096},
		{"process.sha256", e.Process.SHA256, 64},
		{"process.command", e.Process.Command, 8192},
		{"process.parent_path", e.Process.ParentPath, 4096},
		{"process.container", e.Process.Container, 256},
		{"user.name", e.User.Name, 256},
		{"policy_id", e.PolicyID, 128},
		{"change.setting", c.Setting, 256},
		{"change.old", c.Old, 4096},
		{"change.new", c.New, 4096},
		{"change.channel", c.Channel, 64},
		{"reason", e.Reason, 4096},
	}
}

// isControl covers the control characters of ASCII and of Latin-1, which
// terminals obey as well.
func isControl(r rune) bool { return r < 0x20 && r != '\t' || r >= 0x7f && r < 0xa0 }
