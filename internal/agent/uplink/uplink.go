package uplink

import (
	"context"
	"crypto/tls"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"interdict/internal/access"
	"interdict/internal/agent/health"
	"interdict/internal/agent/state"
	"interdict/internal/bundle"
	"interdict/internal/fleet"
)

// Spool is where events wait for the server.
type Spool interface {
	// Next returns the oldest batch, waiting for one if there is none: the
	// ULID that names it, and its events, one JSON object a line, compressed
	// with zstd. It returns the same batch until that is done, and the same
	// key always goes with the same events. When ctx has ended already it
	// returns a batch that is there, and does not wait for one.
	Next(ctx context.Context) (key string, body []byte, err error)
	// Done removes a batch that the server has taken.
	Done(key string) error
	// Reject removes and counts a batch that the server will never take.
	Reject(key string) error
}

// Usage is where reports of what was used wait for the server.
type Usage interface {
	// Next returns the oldest report, waiting for one if there is none, and
	// the ULID that names it. It returns the same report until that is done.
	Next(ctx context.Context) (key string, r bundle.UsageReport, err error)
	// Done forgets a report that the server has taken, or never will.
	Done(key string) error
}

// Config is what an Uplink needs. Every field is required unless it says what
// nil means.
type Config struct {
	Dir      state.Dir
	Identity state.Identity
	// Facts are told to the server with each stream.
	Facts bundle.Facts
	// Have is the bundle in force at the start; the zero value for none.
	Have state.Bundle
	// Apply puts a verified bundle into force and returns the network
	// protection mode that results. It returns when the kernel's state is
	// in place; when it fails, what was in force before still is. It is
	// never called twice at the same time.
	Apply func(ctx context.Context, b state.Bundle) (fleet.Mode, error)
	// Mode returns the network protection mode in force, which can change
	// without a bundle; nil where it is what Apply returned last.
	Mode func() fleet.Mode
	// Suspended reports whether an administrator took everything out of
	// force; nil for never.
	Suspended func() bool
	// Report says which settings are worth telling the server and what is
	// wrong for longer than a moment; nil for nothing. See Changed.
	Report func() ([]fleet.SettingReport, []fleet.HealthItem)
	// Answer says what this device makes of a destination. It is called for
	// up to maxAnswers questions at the same time; nil leaves them unanswered.
	Answer func(ctx context.Context, q bundle.Question) bundle.Answer
	// Requests is told of the requests for access of this device's users that
	// are pending or were decided lately: after each connect, and whenever
	// one was decided. Nil if nobody wants to know.
	Requests func([]access.Request)
	// Usage may be nil: then nothing is reported.
	Usage Usage
	// Refused is told of every bundle that was refused, once for each
	// distinct cause until a bundle is good again.
	Refused func(ctx context.Context, h bundle.Header, cause error)
	Spool   Spool
	Health  *health.Set
	Log     *slog.Logger
	// Dial opens connections; nil means the system's.
	Dial dialFunc
}

// Status is how an Uplink is doing.
type Status struct {
	Connected bool `json:"connected"`
	// Since is when that began; zero if there never was a connection.
	Since time.Time `json:"since,omitzero"`
	// Version and Digest are those of the bundle in force, Acknowledged
	// whether the server knows.
	Version      uint64    `json:"bundle_version,omitempty"`
	Digest       string    `json:"bundle_digest,omitempty"`
	IssuedAt     time.Time `json:"bundle_issued_at,omitzero"`
	Acknowledged bool      `json:"acknowledged"`
	// CertificateEnds is when the device's certificate ceases to be valid.
	CertificateEnds time.Time `json:"certificate_ends"`
}

// Uplink keeps an agent in touch with its server.
type Uplink struct {
	cfg    Config
	client *client
	cert   atomic.Pointer[tls.Certificate]

	// nudged holds a token when the server spoke of a new bundle, decided one
	// when it may have decided requests for access.
	nudged, decided chan struct{}
	// hurry holds a token when events that wait are to be sent now.
	hurry chan struct{}
	syncs chan chan error
	// changed holds a token when the server may have to be told anew how this
	// device is doing.
	changed chan struct{}
	// interval is the least time between two uploads of events.
	interval atomic.Int64
	// acknowledge is set when the server wants to hear from us in any case.
	acknowledge atomic.Bool

	// have, mode, acked, refused and unsaved belong to the check loop.
	have    state.Bundle
	mode    fleet.Mode
	acked   fleet.Applied
	refused map[string]bool
	// unsaved is the envelope of have while that could not be written to
	// disk, nil otherwise.
	unsaved *bundle.Envelope

	// mu guards what follows.
	mu     sync.Mutex
	status Status
	// hangUp ends the stream.
	hangUp context.CancelCauseFunc
}

// New returns an Uplink for an enrolled machine.
func New(cfg Config) *Uplink {
	u := &Uplink{
		cfg:     cfg,
		nudged:  make(chan struct{}, 1),
		decided: make(chan struct{}, 1),
		hurry:   make(chan struct{}, 1),
		syncs:   make(chan chan error),
		changed: make(chan struct{}, 1),
		have:    cfg.Have,
		refused: make(map[string]bool),
		hangUp:  func(error) {},
	}
	u.cert.Store(&cfg.Identity.Certificate)
	u.client = newClient(cfg.Identity.ServerURL, mutual(cfg.Identity, u.cert.Load), cfg.Dial)
	u.status = Status{
		Version: cfg.Have.Header.Version, Digest: cfg.Have.Header.Digest, IssuedAt: cfg.Have.Header.IssuedAt,
		CertificateEnds: cfg.Identity.Certificate.Leaf.NotAfter,
	}
	return u
}

// Run keeps in touch until ctx ends, and returns when all of it has stopped.
func (u *Uplink) Run(ctx context.Context, mode fleet.Mode) error {
	u.mode = mode
	g, ctx := errgroup.WithContext(ctx)
	parts := []func(context.Context){u.holdStream, u.checkBundles, u.uploadEvents, u.uploadUsage, u.fetchRequests, u.renewCertificate}
	for _, part := range parts {
		g.Go(func() error {
			part(ctx)
			return nil
		})
	}
	err := g.Wait()
	u.client.close()
	return err
}

// Sync asks the server for the newest bundle now, and returns when it is in
// force and acknowledged.
func (u *Uplink) Sync(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case u.syncs <- done:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Changed has the server told what changed here: that a suspension began or
// ended, or that Report says something else. It does not wait for that. A
// change of Health needs no call.
func (u *Uplink) Changed() { token(u.changed) }

// SetUploadInterval has events sent no more often than every d; 0 means as
// soon as they are there. What waits is sent at once when the stream comes up
// and when Flush is called, whatever the interval.
func (u *Uplink) SetUploadInterval(d time.Duration) {
	if u.interval.Swap(int64(d)) > int64(d) {
		// The pause that began with the longer one is over.
		u.Flush()
	}
}

// Flush has the events that wait sent now. It does not wait for that.
func (u *Uplink) Flush() { token(u.hurry) }

// Request makes a request for access and returns it as the server has it. The
// same one may be sent again.
func (u *Uplink) Request(ctx context.Context, r access.Request) (access.Request, error) {
	var made access.Request
	err := u.client.exchange(ctx, bundle.PathRequests, r, &made)
	return made, err
}

// Unenroll has the server delete this device. It is no error if the server
// has done that before.
func (u *Uplink) Unenroll(ctx context.Context) error {
	return u.client.unenroll(ctx, u.cert.Load().Leaf)
}

// Status returns how the uplink is doing.
func (u *Uplink) Status() Status {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.status
}

func (u *Uplink) update(change func(*Status)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	change(&u.status)
}

// pause waits, and reports false when ctx ended first. A token in wake ends
// the wait early.
func pause(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-wake:
	}
	return true
}

// token puts a token into a channel of capacity one unless it has one.
func token(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
