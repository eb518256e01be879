// Package access decides what a request for access is: a user whose
// connection was refused asks the administrators for leave, who approve it
// for a while or deny it.
//
// It is pure. The agent takes requests from users and carries the answers
// back; the server keeps them and turns approvals into allow indicators.
package access

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"interdict/internal/fault"
	"interdict/internal/fleet"
)

// State is how far a request has come.
type State string

// The states of a request.
const (
	StatePending  State = "pending"
	StateApproved State = "approved"
	StateDenied   State = "denied"
	// StateRevoked: it was approved, and the approval was taken back.
	StateRevoked State = "revoked"
)

// Request is a user's request for access.
type Request struct {
	// ID is a ULID that the agent gives it, so that one which is sent twice
	// is one request.
	ID     string         `json:"id"`
	Device fleet.DeviceID `json:"device"`
	UID    uint32         `json:"uid"`
	User   string         `json:"user,omitempty"`
	// AppID is the app that was refused; where it belongs to none, Host or
	// the text of an address is what was refused.
	AppID   string `json:"app_id,omitempty"`
	AppName string `json:"app_name,omitempty"`
	Host    string `json:"host,omitempty"`
	// Process is the path of the program.
	Process string `json:"process,omitempty"`
	// Reason is what the user says.
	Reason  string    `json:"reason,omitempty"`
	AskedAt time.Time `json:"asked_at"`

	State State `json:"state" enum:"pending,approved,denied,revoked"`
	// The following are empty while it is pending. Note is what the
	// administrator says to the user.
	DecidedBy string    `json:"decided_by,omitempty"`
	DecidedAt time.Time `json:"decided_at,omitzero"`
	Note      string    `json:"note,omitempty"`
	// Until is when an approval ends.
	Until time.Time `json:"until,omitzero"`
	// Indicators are the ids of those that an approval made.
	Indicators []string `json:"indicators,omitempty"`
}

// MaxText bounds a reason or a note, in bytes.
const MaxText = 1000

// CheckText adds a fault for text that is no plain sentence or two.
func CheckText(faults *fault.Fields, field, text string) {
	bad := func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' }
	if len(text) > MaxText || !utf8.ValidString(text) || strings.ContainsFunc(text, bad) {
		faults.Add(field, "must be printable text of at most %d bytes", MaxText)
	}
}
