// Package control has the use cases of what devices enforce: tag an app, change
// a policy or a group, hand out bundles, hear what became of them. It decides,
// by the rules of the pure packages and on what the store has; the APIs only
// translate to and from it, and it knows no HTTP. The use cases of other nouns
// are packages below this one, such as enrol and observation, which build upon
// what surface.go has.
//
// A Service keeps the whole configuration in memory, at one revision, and
// compiles it into audiences (see package audience). A change is written to
// the store first; then this server, and by notice every other that shares
// the database, catches up from the revision it has, compiles what the change
// altered and nudges the devices concerned.
//
// Errors that the caller can mend are faults (see package fault); every
// other error is internal.
package control

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"interdict/catalog"
	"interdict/internal/cloudapp"
	"interdict/internal/control/audience"
	"interdict/internal/control/ca"
	"interdict/internal/control/lag"
	"interdict/internal/control/presence"
	"interdict/internal/indicator"
	"interdict/internal/store"
)

// PingInterval is how often the transport has to say something on a device's
// stream.
const PingInterval = 20 * time.Second

// Config is what a Service needs.
type Config struct {
	// Store is required and stays the caller's to close, after Shutdown.
	Store *store.Store
	// Catalog is required.
	Catalog *catalog.Catalog
	// URL is where agents reach the server, https://host:port. Required.
	URL string
	// Hosts are the server's own names and addresses, without ports. No
	// indicator may cover them, nor the host of URL.
	Hosts []string
	// Now is the clock; nil means the system's.
	Now func() time.Time
	// Logger is optional.
	Logger *slog.Logger
}

func (c *Config) validate() error {
	var faults []error
	if c.Store == nil {
		faults = append(faults, errors.New("the store is missing"))
	}
	if c.Catalog == nil {
		faults = append(faults, errors.New("the catalog is missing"))
	}
	if u, err := url.Parse(c.URL); err != nil || u.Scheme != "https" || u.Hostname() == "" {
		faults = append(faults, fmt.Errorf("the URL %q is not https://host:port", c.URL))
	}
	return errors.Join(faults...)
}

// Service has the use cases. It is safe for concurrent use.
type Service struct {
	store  *store.Store
	logger *slog.Logger
	now    func() time.Time
	url    string
	// instance tells servers that share a database apart.
	instance string

	apps      []cloudapp.App
	index     *cloudapp.Index
	protected *indicator.Protected
	authority *ca.Authority
	servers   *ca.Servers
	bundleKey ed25519.PublicKey
	publisher *audience.Publisher
	compiler  *audience.Compiler

	hub      *presence.Hub
	presence *presence.Table
	noted    *notes
	moments  lag.Moments
	// refusedUnknown bounds what strangers add to the audit log, refusedKnown
	// what the others do.
	refusedUnknown, refusedKnown *refusals

	// refreshing is held while the configuration catches up with the store;
	// it guards compiler.
	refreshing sync.Mutex
	// mu guards the contents of state and nextExpiry.
	mu         sync.RWMutex
	state      *audience.State
	nextExpiry time.Time
	// snapshot is what state was last compiled to.
	snapshot atomic.Pointer[audience.Snapshot]

	// wake makes the expiry loop look at nextExpiry again.
	wake       chan struct{}
	stop       context.CancelFunc
	background sync.WaitGroup
}

// New returns a Service that has read and compiled the configuration. At the
// first start it makes the keys and keeps them in the store.
func New(ctx context.Context, c Config) (*Service, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("setting up the use cases: %w", err)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Service{
		store: c.Store, logger: c.Logger, now: c.Now, url: c.URL, instance: ulid.Make().String(),
		apps: c.Catalog.Apps(), protected: protected(&c), state: audience.NewState(),
		wake: make(chan struct{}, 1), stop: func() {},
		refusedUnknown: newRefusals(), refusedKnown: newRefusals(),
	}
	s.index = cloudapp.NewIndex(s.apps)
	s.compiler = audience.New(audience.Config{Index: s.index, Protected: s.protected})
	s.hub = presence.NewHub()
	s.presence = presence.NewTable(s.instance)
	s.noted = newNotes()
	if err := s.loadKeys(ctx); err != nil {
		return nil, err
	}
	if err := s.noteProgram(ctx, &c); err != nil {
		return nil, err
	}
	if err := s.loadPresence(ctx); err != nil {
		return nil, err
	}
	return s, s.refresh(ctx, 0)
}

func protected(c *Config) *indicator.Protected {
	const reason = "is where agents reach the server"
	var hosts []indicator.Host
	for _, h := range c.Hosts {
		hosts = append(hosts, indicator.Host{Name: h, Reason: reason})
	}
	if u, err := url.Parse(c.URL); err == nil {
		hosts = append(hosts, indicator.Host{Name: u.Hostname(), Reason: reason})
	}
	return indicator.NewProtected(hosts...)
}

// Start begins the work in the background: following other servers, removing
// expired indicators, keeping presence and what devices say of themselves. It
// returns when it listens to other servers, or could not, which is logged and
// tried again; Shutdown ends the work.
func (s *Service) Start(ctx context.Context) error {
	starting := ctx
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	listening := make(chan struct{})
	s.background.Go(func() { s.follow(ctx, sync.OnceFunc(func() { close(listening) })) })
	s.background.Go(func() { s.expireLoop(ctx) })
	s.background.Go(func() { s.presenceLoop(ctx) })
	s.background.Go(func() { s.noteLoop(ctx) })
	// What others tell the devices that will connect must not be missed.
	select {
	case <-listening:
	case <-starting.Done():
	}
	return nil
}

// Shutdown ends all sessions and the work in the background, and writes down
// who was last seen when.
func (s *Service) Shutdown(ctx context.Context) error {
	s.stop()
	s.background.Wait()
	s.hub.CloseAll()
	return s.flushPresence(ctx)
}

// Ready returns nil when the service can do its work: the database answers.
func (s *Service) Ready(ctx context.Context) error { return s.store.Ping(ctx) }
