package store

import (
	"encoding/json"
	"time"
)

// Token is an enrolment token. Its secret is kept as a hash only, outside
// this type.
type Token struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"`
	CreatedBy string    `json:"created_by,omitempty"`
	ExpiresAt time.Time `json:"expires_at"`
	// RevokedAt is zero while it is not revoked.
	RevokedAt time.Time `json:"revoked_at,omitzero"`
	// Uses is how many devices it may admit, Used how many it has.
	Uses int `json:"uses"`
	Used int `json:"used"`
	// Labels are given to the devices it admits, Groups are the ids of the
	// groups they join.
	Labels map[string]string `json:"labels,omitempty"`
	Groups []string          `json:"groups,omitempty"`
}

// AuditEntry is one line of the audit log.
type AuditEntry struct {
	ID   string    `json:"id"`
	Time time.Time `json:"time"`
	// ActorKind is "token", "device", "system" or "unknown".
	ActorKind string `json:"actor_kind"`
	ActorID   string `json:"actor_id,omitempty"`
	Actor     string `json:"actor,omitempty"`
	// Action is what was done or tried: "app.tag", "group.delete".
	Action string `json:"action"`
	// Target is the id of what it was done to.
	Target string `json:"target,omitempty"`
	// Before and After are what was changed, null where it did not exist.
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
	// Refused says why it was not done; empty when it was.
	Refused string `json:"refused,omitempty"`
	// Source is where the request came from.
	Source string `json:"source,omitempty"`
	// Revision is the revision that the change made; 0 for none.
	Revision uint64 `json:"revision,omitempty"`
}
