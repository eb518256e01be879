package nft

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"interdict/internal/agent/netguard"
)

// Config is what New needs.
type Config struct {
	// Logger is required.
	Logger *slog.Logger
}

// Guard keeps the table of one network namespace: the one that its maker's
// thread was in. Its methods may be called from several goroutines.
type Guard struct {
	logger   *slog.Logger
	queueing Queueing
	table    *nftables.Table

	// mu guards what follows and keeps batches apart.
	mu   sync.Mutex
	conn *nftables.Conn
	// applied is what the table was last made to say, nil while unknown.
	applied *state
	// watch is the socket of a running Watch, told of our own port.
	watch *netlink.Conn
	port  uint32
}

// state is a Config as the kernel has it.
type state struct {
	config netguard.Config
	sets   contents
}

var _ netguard.Guard = (*Guard)(nil)

// New opens the netlink socket and finds out how this kernel queues packets.
// It changes nothing in the kernel.
func New(c Config) (*Guard, error) {
	if c.Logger == nil {
		return nil, errors.New("making the nftables guard: Logger is required")
	}
	g := &Guard{
		logger: c.Logger,
		table:  &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet},
	}
	if err := g.open(); err != nil {
		return nil, err
	}
	q, err := probeQueueing(g.conn)
	if err == nil {
		g.queueing = q
		// A failed probe leaves answers behind in the socket.
		err = g.open()
	}
	if err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// Queueing tells how this kernel hands packets over.
func (g *Guard) Queueing() Queueing { return g.queueing }

// Close closes the socket and leaves the rules in place.
func (g *Guard) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.conn.CloseLasting(); err != nil {
		return fmt.Errorf("closing the nftables socket: %w", err)
	}
	return nil
}

// open replaces the socket by a new one. The caller holds mu.
func (g *Guard) open() error {
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		g.port = c.PID()
		// A batch is one message to the kernel, and 100,000 ranges of
		// IPv6 addresses are seven megabytes. This is a limit, not a
		// reservation.
		const buffer = 128 << 20
		if err := c.SetWriteBuffer(buffer); err != nil {
			return fmt.Errorf("setting the send buffer: %w", err)
		}
		if err := c.SetReadBuffer(buffer); err != nil {
			return fmt.Errorf("setting the receive buffer: %w", err)
		}
		return nil
	}))
	if err != nil {
		return fmt.Errorf("opening an nftables socket: %w", explain(err))
	}
	if g.conn != nil {
		// Nothing waits for the old socket; its answers are of no use.
		_ = g.conn.CloseLasting()
	}
	g.conn = conn
	return g.ignoreOwn()
}

// Set implements netguard.Guard. When only addresses differ from what this
// Guard set before, just these are exchanged; otherwise, or if the table is
// not as it was left, the table is written whole.
func (g *Guard) Set(ctx context.Context, c netguard.Config) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("setting the rules: %w", err)
	}
	if !c.Inspect {
		return g.CleanUp(ctx)
	}
	if err := errors.Join(checkRanges("refused", c.Refused), checkRanges("watched", c.Watched)); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.set(&state{config: c, sets: contentsOf(c)})
}

// set is Set for the holder of mu.
func (g *Guard) set(next *state) error {
	done, err := g.exchange(next)
	if err != nil {
		g.logger.Warn("exchanging addresses failed, writing the table whole", "error", err)
	}
	if !done {
		err = g.writeWhole(next)
	}
	if err != nil {
		g.applied = nil
		return fmt.Errorf("setting the rules: %w", err)
	}
	g.applied = next
	return nil
}

// exchange updates ranges only. It reports false if that is not possible or
// would not be cheaper than to write the table whole.
func (g *Guard) exchange(next *state) (bool, error) {
	if g.applied == nil || !sameRules(g.applied.config, next.config) {
		return false, nil
	}
	changes, moved, whole := next.sets.since(&g.applied.sets)
	if moved == 0 {
		return true, nil
	}
	// Taking an element away costs about as much as adding it.
	if moved > whole {
		return false, nil
	}
	for _, c := range changes {
		if err := c.put(g.conn, g.table); err != nil {
			return false, errors.Join(err, g.open())
		}
	}
	if err := g.flush(); err != nil {
		return false, err
	}
	return true, nil
}

// sameRules tells whether a and b differ in nothing but Refused and Watched.
func sameRules(a, b netguard.Config) bool {
	a.Refused, a.Watched, b.Refused, b.Watched = nil, nil, nil, nil
	return reflect.DeepEqual(a, b)
}

// writeWhole writes the table over what is there. If the kernel does not
// take that, something of the same name and another shape is in the way,
// and the table is deleted in the same batch.
func (g *Guard) writeWhole(s *state) error {
	err := g.batch(s)
	if err == nil || errors.Is(err, unix.EPERM) {
		return err
	}
	g.logger.Warn("replacing a table that cannot be changed in place", "error", err)
	g.conn.AddTable(g.table)
	g.conn.DelTable(g.table)
	if again := g.batch(s); again != nil {
		return errors.Join(err, again)
	}
	return nil
}

func (g *Guard) batch(s *state) error {
	g.conn.AddTable(g.table)
	g.conn.FlushTable(g.table)
	if err := declare(g.conn, g.table); err != nil {
		return err
	}
	p := program{conn: g.conn, table: g.table, queueing: g.queueing, config: s.config}
	p.write()
	if err := s.sets.fill(g.conn, g.table); err != nil {
		return err
	}
	return g.flush()
}

// CleanUp implements netguard.Guard. A table that is not there is no error.
func (g *Guard) CleanUp(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("removing the rules: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.applied = nil
	// Adding first makes deleting succeed whether or not it is there.
	g.conn.AddTable(g.table)
	g.conn.DelTable(g.table)
	if err := g.flush(); err != nil {
		return fmt.Errorf("removing the rules: %w", err)
	}
	return nil
}

// flush sends the batch. After a failure it starts over with a new socket,
// since answers to the old batch may still wait in the old one.
func (g *Guard) flush() error {
	err := g.conn.Flush()
	if err == nil {
		return nil
	}
	return errors.Join(explain(err), g.open())
}

// Counters returns how many packets each counter has seen since the table
// was made. Without a table it returns an empty map.
func (g *Guard) Counters(ctx context.Context) (map[Counter]uint64, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("reading the counters: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	objects, err := g.conn.GetNamedObjects(g.table)
	if errors.Is(err, unix.ENOENT) {
		return map[Counter]uint64{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the counters: %w", explain(err))
	}
	packets := make(map[Counter]uint64, len(objects))
	for _, o := range objects {
		named, ok := o.(*nftables.NamedObj)
		if !ok {
			continue
		}
		if c, ok := named.Obj.(*expr.Counter); ok {
			packets[Counter(named.Name)] = c.Packets
		}
	}
	return packets, nil
}

// explain adds to an error of the kernel what would help.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("nftables needs CAP_NET_ADMIN in this network namespace: %w", err)
	case errors.Is(err, unix.EMSGSIZE), errors.Is(err, unix.ENOBUFS):
		return fmt.Errorf("the rules do not fit the socket buffer; "+
			"raise net.core.wmem_max, or run with CAP_NET_ADMIN in the first user namespace: %w", err)
	case errors.Is(err, unix.EPROTONOSUPPORT):
		return fmt.Errorf("the kernel has no nftables (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET): %w", err)
	}
	return err
}
