// Package usage decides what is told to the server of the names that this
// machine's programs connect to: for each name, program and user, how many
// connections there were in five minutes.
//
// A connection is counted when it is judged, whatever the verdict. Names that
// were only looked up are not counted, and neither addresses, nor paths, nor
// what a connection is about are ever kept. Who a connection belongs to is
// found out behind the packets' back, and in a tenth of the time at most: a
// connection whose owner cannot be looked for counts for nobody in particular.
//
// Reports wait in a directory, one file each, named by the ULID under which
// the server takes a report once, however often it is sent:
//
//	01JDCZ5X0B8K3T4M6N7P8Q9RST.json
//
// There are never more of them than a day's, nor more than 16 MiB. The
// connections of a report that had to go, or could not be written, are counted
// as dropped in the next.
package usage

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"interdict/internal/agent/netguard"
	"interdict/internal/agent/process"
	"interdict/internal/bundle"
	"interdict/internal/domainset"
)

const (
	// interval is the span of time of a report.
	interval = 5 * time.Minute
	// maxWaiting bounds the connections whose owner has not been looked for.
	maxWaiting = 1024
	// findFor bounds a look-up. There is one after another for workFor, and
	// then none for restFor times as long as that took, but for minRest at
	// least: waking the worker for each would cost the packets' path most.
	findFor = 100 * time.Millisecond
	workFor = 5 * time.Millisecond
	restFor = 9
	minRest = 20 * time.Millisecond
)

// Config is what New needs. Every field is required.
type Config struct {
	// Dir is where reports wait. It is made if it is missing.
	Dir string
	// Enabled reports whether use is counted now. It is called for each
	// connection, from the packets' path.
	Enabled func() bool
	// Owner finds out whose connection it is, as far as that is known before
	// ctx ends.
	Owner func(ctx context.Context, f netguard.Flow) process.Owner
	Log   *slog.Logger
}

// Collector counts uses and keeps the reports until the server has them. It is
// safe for concurrent use.
type Collector struct {
	cfg     Config
	pending *pending
	tally   *tally
	queue   chan use
	// stop is closed for the worker to end, stopped when it has.
	stop, stopped chan struct{}
	stopOnce      sync.Once
}

// use is a connection that was judged.
type use struct {
	flow netguard.Flow
	host string
}

// New returns a Collector with the reports that an earlier one left. It counts
// from Start on.
func New(cfg Config) (*Collector, error) {
	if cfg.Dir == "" || cfg.Enabled == nil || cfg.Owner == nil || cfg.Log == nil {
		return nil, errors.New("making a collector of uses: Dir, Enabled, Owner and Log are required")
	}
	p, err := openPending(cfg.Dir)
	if err != nil {
		return nil, err
	}
	return &Collector{
		cfg: cfg, pending: p, tally: newTally(time.Now()), queue: make(chan use, maxWaiting),
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}, nil
}

// Start begins to look for owners and to write reports. They end with
// Shutdown.
func (c *Collector) Start(ctx context.Context) {
	c.tally.take(time.Now())
	go func() {
		defer close(c.stopped)
		c.work(ctx)
	}()
}

// Shutdown returns when what was counted since the last report is written, in
// one that ends now. Used must not be called any more.
func (c *Collector) Shutdown() {
	c.stopOnce.Do(func() { close(c.stop) })
	<-c.stopped
}

// Used counts a connection to a host. It does not block.
func (c *Collector) Used(f netguard.Flow, host string) {
	if !c.cfg.Enabled() {
		return
	}
	select {
	case c.queue <- use{f, host}:
	default:
		c.tally.add(keyOf(host, process.Owner{}))
	}
}

// Next returns the oldest report and the ULID that names it, and waits for one
// if there is none. It returns the same report until that is done. There must
// be one caller.
func (c *Collector) Next(ctx context.Context) (key string, r bundle.UsageReport, err error) {
	return c.pending.next(ctx)
}

// Done forgets a report.
func (c *Collector) Done(key string) error { return c.pending.done(key) }

// work is what the Collector's goroutine does.
func (c *Collector) work(ctx context.Context) {
	report := time.NewTicker(interval)
	defer report.Stop()
	rest := time.NewTimer(0)
	defer rest.Stop()
	<-rest.C
	queue := c.queue
	for {
		select {
		case u := <-queue:
			// Connections wait during the rest, or count for nobody.
			queue = nil
			rest.Reset(max(minRest, restFor*c.count(ctx, u)))
		case <-rest.C:
			queue = c.queue
		case <-report.C:
			c.report(ctx)
		case <-c.stop:
			c.drain()
			c.report(ctx)
			return
		}
	}
}

// count counts a connection and those that wait behind it for their owners,
// and returns how long that took.
func (c *Collector) count(ctx context.Context, u use) (took time.Duration) {
	for began := time.Now(); ; {
		c.tally.add(keyOf(u.host, c.owner(ctx, u.flow)))
		if took = time.Since(began); took >= workFor {
			return took
		}
		select {
		case u = <-c.queue:
		default:
			return took
		}
	}
}

func (c *Collector) owner(ctx context.Context, f netguard.Flow) process.Owner {
	ctx, cancel := context.WithTimeout(ctx, findFor)
	defer cancel()
	return c.cfg.Owner(ctx, f)
}

// drain counts what waits for nobody in particular.
func (c *Collector) drain() {
	for {
		select {
		case u := <-c.queue:
			c.tally.add(keyOf(u.host, process.Owner{}))
		default:
			return
		}
	}
}

// report writes down what was counted since the last report. What was counted
// before the report of uses was switched off is not reported.
func (c *Collector) report(ctx context.Context) {
	r := c.tally.take(time.Now())
	if !c.cfg.Enabled() {
		return
	}
	if err := c.pending.add(r); err != nil {
		c.cfg.Log.WarnContext(ctx, "writing a report of use", "error", err)
	}
}

// The longest path and user name that are reported; a longer one is as good as
// none.
const (
	maxPath = 512
	maxUser = 128
)

// key is what uses are counted by.
type key struct{ host, process, user string }

func keyOf(host string, owner process.Owner) key {
	k := key{host: domainset.Normalize(host), process: owner.Process.Path, user: owner.User.Name}
	if k.user == "" && owner.User.UID != nil {
		k.user = strconv.FormatUint(uint64(*owner.User.UID), 10)
	}
	if len(k.process) > maxPath {
		k.process = ""
	}
	if len(k.user) > maxUser {
		k.user = ""
	}
	return k
}
