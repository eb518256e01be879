// Package cloudapp decides what a cloud app is, how it is tagged, and which
// indicators follow from its tag.
//
// It is pure. The catalog package carries the built-in apps, the store what
// an administrator says about them.
package cloudapp

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"interdict/internal/indicator"
)

// App is an entry of the catalog.
type App struct {
	// ID is a slug of [a-z0-9-], unique in the catalog.
	ID       string `json:"id"`
	Name     string `json:"name"`
	Vendor   string `json:"vendor,omitempty"`
	Category string `json:"category"`
	Homepage string `json:"homepage,omitempty"`
	// Domains are the names that belong to the app, each with everything
	// below it, sorted.
	Domains []Domain `json:"domains"`
	// Custom is true for an app that an administrator added.
	Custom bool `json:"custom,omitempty"`
}

// Domain is a name that belongs to an app.
type Domain struct {
	Name string `json:"name"`
	// Shared marks a name that several apps use. It never becomes an
	// indicator of one of them.
	Shared bool `json:"shared,omitempty"`
}

// Tag is the administrator's judgement of an app.
type Tag string

// The tags. An app has at most one of them.
const (
	TagNone         Tag = "none"
	TagSanctioned   Tag = "sanctioned"
	TagUnsanctioned Tag = "unsanctioned"
	TagMonitored    Tag = "monitored"
)

// Tagging is the tag of one app, and for whom it counts.
type Tagging struct {
	AppID string            `json:"app_id"`
	Tag   Tag               `json:"tag" enum:"none,sanctioned,unsanctioned,monitored"`
	Scope indicator.Profile `json:"scope"`
	By    string            `json:"tagged_by,omitempty"`
	At    time.Time         `json:"tagged_at,omitzero"`
}

// Edition is a number that is the same exactly as long as the tag, its scope
// and its author are. It is never 0.
func (t *Tagging) Edition() uint64 {
	text, err := json.Marshal(t)
	if err != nil {
		panic(fmt.Sprintf("writing the tag of %s: %v", t.AppID, err)) // It has only what JSON can say.
	}
	sum := sha256.Sum256(text)
	return binary.BigEndian.Uint64(sum[:]) | 1
}
