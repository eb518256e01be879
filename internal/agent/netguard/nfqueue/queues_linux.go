package nfqueue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	florianl "github.com/florianl/go-nfqueue/v2"
	"golang.org/x/sys/unix"

	"interdict/internal/agent/netguard"
)

// DefaultDeadline is how long a handler may take by default.
const DefaultDeadline = 250 * time.Millisecond

// Sizes of a queue.
const (
	// maxWaiting is how many packets may wait in the kernel for an answer.
	maxWaiting = 4096
	// readBuffer is the limit of the socket's buffer; what comes beyond it
	// passes uninspected and is counted.
	readBuffer = 16 << 20
)

// Config is what New needs.
type Config struct {
	// Base is the number of the first of netguard.Queues consecutive
	// queues, as in netguard.Config.QueueBase.
	Base uint16
	// Handler judges the packets. Required.
	Handler netguard.Handler
	// Logger is required.
	Logger *slog.Logger
	// Deadline is how long the handler may take for a packet;
	// DefaultDeadline if zero.
	Deadline time.Duration
	// FailClosed says what becomes of a packet that the handler does not
	// answer in time and of one that does not fit the queue: it passes, or
	// if FailClosed is set its connection is refused, or it is dropped.
	FailClosed bool
}

// Stats counts what happened since Start.
type Stats struct {
	// Received is the number of packets per queue.
	Received [netguard.Queues]uint64
	// Late packets were not answered in time.
	Late uint64
	// Panics of the handler; the packets passed.
	Panics uint64
	// Repeated answers to a packet that had one, ignored.
	Repeated uint64
	// Overruns tells how often the socket's buffer was full, so that an
	// unknown number of packets was not seen.
	Overruns uint64
	// Unsent answers were not taken by the kernel.
	Unsent uint64
	// Waiting packets have no answer yet.
	Waiting int64
}

// Queues are the open queues of one agent.
type Queues struct {
	config Config
	resets *resetter

	received                                 [netguard.Queues]atomic.Uint64
	late, panics, repeated, overruns, unsent atomic.Uint64
	waiting                                  atomic.Int64
	panicLogged                              sync.Once

	// Set by Start, read by Shutdown.
	queues [netguard.Queues]*queue
	cancel context.CancelFunc
}

// queue is one kernel queue.
type queue struct {
	*Queues
	kind netguard.Queue
	nf   *florianl.Nfqueue
	// last is the id of the newest packet.
	last atomic.Uint32
}

// New checks c. It opens nothing.
func New(c Config) (*Queues, error) {
	var faults []error
	if c.Handler == nil {
		faults = append(faults, errors.New("the handler is required"))
	}
	if c.Logger == nil {
		faults = append(faults, errors.New("the logger is required"))
	}
	if c.Base > math.MaxUint16-netguard.Queues+1 {
		faults = append(faults, fmt.Errorf("base %d leaves no room for %d queues", c.Base, netguard.Queues))
	}
	if c.Deadline < 0 {
		faults = append(faults, fmt.Errorf("deadline %v is negative", c.Deadline))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("making the packet queues: %w", err)
	}
	if c.Deadline == 0 {
		c.Deadline = DefaultDeadline
	}
	return &Queues{config: c}, nil
}

// Start opens the queues of the calling thread's network namespace and
// returns when packets are handled. The queues outlive ctx; Shutdown ends
// them.
func (q *Queues) Start(ctx context.Context) error {
	resets, err := newResetter()
	if err != nil {
		q.config.Logger.WarnContext(ctx, "the far side of refused connections will not be told", "error", err)
	}
	q.resets = resets
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	q.cancel = cancel
	for kind := range netguard.Queue(netguard.Queues) {
		one, err := q.open(serving, kind)
		if err != nil {
			return errors.Join(err, q.Shutdown(ctx))
		}
		q.queues[kind] = one
	}
	return nil
}

// copyRange is how much of a packet the agent needs to see. Addresses are in
// the headers; an answer may have to be replaced whole; and the names of a
// connection are in its first few kilobytes, however much the kernel has put
// into one unsegmented buffer.
func copyRange(kind netguard.Queue) uint32 {
	switch kind {
	case netguard.QueueAddress:
		return 256
	case netguard.QueueDNS:
		return math.MaxUint16
	default:
		return 16 << 10
	}
}

func (q *Queues) open(ctx context.Context, kind netguard.Queue) (*queue, error) {
	number := q.config.Base + uint16(kind)
	// Segments come as the kernel has them, whole, with the user who owns
	// the socket.
	flags := uint32(florianl.NfQaCfgFlagGSO | florianl.NfQaCfgFlagUIDGid)
	if !q.config.FailClosed {
		flags |= florianl.NfQaCfgFlagFailOpen
	}
	nf, err := florianl.Open(&florianl.Config{
		NfQueue:      number,
		MaxPacketLen: copyRange(kind),
		MaxQueueLen:  maxWaiting,
		Copymode:     florianl.NfQnlCopyPacket,
		Flags:        flags,
		AfFamily:     unix.AF_UNSPEC,
	})
	if err != nil {
		return nil, fmt.Errorf("opening queue %d: %w", number, explain(err))
	}
	one := &queue{Queues: q, kind: kind, nf: nf}
	if err := one.serve(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("serving queue %d: %w", number, explain(err)), nf.Close())
	}
	return one, nil
}

func (q *queue) serve(ctx context.Context) error {
	if err := q.nf.Con.SetReadBuffer(readBuffer); err != nil {
		return fmt.Errorf("setting the receive buffer: %w", err)
	}
	err := q.nf.RegisterWithErrorFunc(ctx, q.handle, func(err error) int {
		if ctx.Err() != nil {
			return 1
		}
		if errors.Is(err, unix.ENOBUFS) {
			q.overruns.Add(1)
			return 0
		}
		if errors.Is(err, unix.ENOENT) {
			// The answer came too late: an interface went down, and its
			// packets with it, or nothing waits any more at the end.
			q.unsent.Add(1)
			return 0
		}
		q.config.Logger.ErrorContext(ctx, "receiving from a packet queue failed", "queue", q.kind, "error", err)
		return 1
	})
	if err != nil {
		return fmt.Errorf("binding: %w", err)
	}
	return nil
}

// Shutdown closes the queues. What waits in them passes, or is dropped if
// FailClosed is set; answers that come later are ignored.
func (q *Queues) Shutdown(ctx context.Context) error {
	if q.cancel == nil {
		return nil
	}
	if !q.config.FailClosed {
		for _, one := range q.queues {
			one.passAll()
		}
	}
	q.cancel()
	var faults []error
	for _, one := range q.queues {
		if one == nil {
			continue
		}
		if err := one.nf.Close(); err != nil {
			faults = append(faults, fmt.Errorf("closing queue %d: %w", q.config.Base+uint16(one.kind), err))
		}
	}
	faults = append(faults, q.resets.close())
	if err := ctx.Err(); err != nil {
		faults = append(faults, fmt.Errorf("closing the packet queues: %w", err))
	}
	return errors.Join(faults...)
}

// passAll accepts all packets that are waiting in the kernel.
func (q *queue) passAll() {
	if q == nil {
		return
	}
	// Ids only grow, and no packet can be further ahead than this.
	if err := q.nf.SetVerdictBatch(q.last.Load()+maxWaiting, florianl.NfAccept); err != nil {
		q.unsent.Add(1)
	}
}

// Stats returns the counts.
func (q *Queues) Stats() Stats {
	s := Stats{
		Late:     q.late.Load(),
		Panics:   q.panics.Load(),
		Repeated: q.repeated.Load(),
		Overruns: q.overruns.Load(),
		Unsent:   q.unsent.Load(),
		Waiting:  q.waiting.Load(),
	}
	for i := range s.Received {
		s.Received[i] = q.received[i].Load()
	}
	return s
}

// explain adds to an error of the kernel what would help.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("packet queues need CAP_NET_ADMIN in this network namespace: %w", err)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("another program listens to this queue: %w", err)
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("the kernel may lack CONFIG_NETFILTER_NETLINK_QUEUE: %w", err)
	}
	return err
}
