// Package bypass decides whether a user may go on to an app after a warning:
// for how long, and until who revokes it.
//
// It is pure. The agent grants bypasses and keeps them; the server revokes
// them, for everybody or for some.
package bypass

import (
	"time"

	"interdict/internal/indicator"
)

// Bypass is a user's word that they go on to an app in spite of a warning.
type Bypass struct {
	// ID is a ULID.
	ID  string `json:"id"`
	UID uint32 `json:"uid"`
	// User is the name of the UID, empty if it has none.
	User string `json:"user,omitempty"`
	// Subject is the id of the app, or of the indicator where it belongs to
	// no app.
	Subject string `json:"subject"`
	// Name is what the subject is called, for people.
	Name string `json:"name,omitempty"`
	// Since and Until bound it: from Since on, before Until.
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// Reason is what the user gave for it; it may be empty.
	Reason string `json:"reason,omitempty"`
}

// Revocation ends bypasses: those of Subject, or of every subject if it is
// empty, which User, or everybody if it is empty, began before Before.
type Revocation struct {
	ID      string    `json:"id"`
	Subject string    `json:"subject,omitempty"`
	User    string    `json:"user,omitempty"`
	Before  time.Time `json:"before"`
}

// ScopedRevocation is a revocation as the server keeps it: with the devices
// that are told of it.
type ScopedRevocation struct {
	Revocation
	Scope indicator.Scope `json:"scope"`
	By    string          `json:"revoked_by,omitempty"`
}

// MaxAge is how long a bypass can last at most, and therefore how long a
// revocation has to be remembered.
const MaxAge = 30 * 24 * time.Hour

// Active reports whether the bypass counts at now and none of the revocations
// ends it.
func (b *Bypass) Active(now time.Time, revocations []Revocation) bool {
	if now.Before(b.Since) || !now.Before(b.Until) || b.Until.Sub(b.Since) > MaxAge {
		return false
	}
	for i := range revocations {
		if revocations[i].ends(b) {
			return false
		}
	}
	return true
}

func (r *Revocation) ends(b *Bypass) bool {
	return (r.Subject == "" || r.Subject == b.Subject) && (r.User == "" || r.User == b.User) && b.Since.Before(r.Before)
}
