// Package control has the use cases: admit a device, tag an app, change a
// policy, hand out bundles, take in events. It decides, by the rules of the
// pure packages and on what the store has; the APIs only translate to and
// from it, and it knows no HTTP.
//
// Errors that the caller can mend are faults (see package fault); every
// other error is internal.
package control

import (
	"log/slog"
	"time"

	"interdict/catalog"
	"interdict/internal/store"
)

// Config is what a Service needs.
type Config struct {
	// Store is required and stays the caller's to close, after Shutdown.
	Store *store.Store
	// Catalog is required.
	Catalog *catalog.Catalog
	// URL is where agents reach the server, https://host:port. Required.
	URL string
	// Hosts are the server's own names and addresses, without ports. No
	// indicator may cover them.
	Hosts []string
	// Now is the clock; nil means the system's.
	Now func() time.Time
	// Logger is optional.
	Logger *slog.Logger
}

// PingInterval is how often the transport has to say something on a device's
// stream.
const PingInterval = 20 * time.Second
