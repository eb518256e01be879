package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"interdict/internal/agent/health"
	"interdict/internal/agent/netguard"
	"interdict/internal/agent/netguard/blockpage"
	"interdict/internal/agent/netguard/conntrack"
	"interdict/internal/agent/netguard/nfqueue"
	"interdict/internal/agent/netguard/nft"
	"interdict/internal/agent/process"
	"interdict/internal/agent/sole"
	"interdict/internal/agent/state"
	"interdict/internal/fault"
	"interdict/internal/fleet"
)

// NewPlatform opens what an agent needs of Linux, in the network namespace of
// the calling thread. It fails only without nftables, and where another agent
// has that namespace. It changes nothing in the kernel but attaches the
// programs that note who connects.
func NewPlatform(log *slog.Logger) (Platform, error) {
	guard, err := nft.New(nft.Config{Logger: log})
	if err != nil {
		return Platform{}, needsRoot(err)
	}
	release, err := sole.Network(log)
	if err != nil {
		return Platform{}, errors.Join(err, guard.Close())
	}
	p := Platform{
		Guard:   guard,
		Missing: make(map[health.Code]error),
		Watch: func(ctx context.Context, restored func(error)) error {
			return guard.Watch(ctx, func(r nft.Restoration) { restored(r.Err) })
		},
		NewCapture: func(h netguard.Handler, fail fleet.FailMode) (Capture, error) {
			return nfqueue.New(nfqueue.Config{
				Base: QueueBase, Handler: h, Logger: log, FailClosed: fail == fleet.FailClosed,
			})
		},
	}
	closers := []func() error{guard.Close, release}
	cutter, err := conntrack.New()
	if err != nil {
		p.Missing[health.CuttingMissing] = fmt.Errorf("connections that are open already cannot be ended: %w", err)
	} else {
		p.Cut = cutter.Cut
		closers = append(closers, cutter.Close)
	}
	if ends, err := conntrack.SubscribeEnds(); err != nil {
		p.Missing[health.CuttingMissing] = fmt.Errorf("the ends of connections are not noticed: %w", err)
	} else {
		p.Ends = func(ctx context.Context, ended func(netguard.Flow)) error {
			// A connection whose end was lost is pushed out by newer ones.
			return ends.Run(ctx, ended, func() {})
		}
		closers = append(closers, ends.Close)
	}
	if resolver, err := process.New(process.Config{Forwarded: ofHost()}); err != nil {
		p.Missing[health.AttributionMissing] = fmt.Errorf("connections cannot be traced to processes: %w", err)
	} else {
		p.Finder = resolver
		closers = append(closers, resolver.Close)
	}
	if sender, err := blockpage.New(); err != nil {
		log.Warn("refused requests will not be answered with a page", "error", err)
	} else {
		p.Replier = sender
		closers = append(closers, sender.Close)
	}
	p.Close = func() error {
		var errs []error
		for _, c := range closers {
			errs = append(errs, c())
		}
		return errors.Join(errs...)
	}
	return p, nil
}

// needsRoot is why the kernel's packet filter cannot be opened. What netlink
// says of a missing privilege is for the log.
func needsRoot(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fault.New(fault.Forbidden, "the kernel's packet filter needs root, or CAP_NET_ADMIN in this network namespace").
			WithHint("run the command as root").Because(err)
	}
	return fmt.Errorf("opening the kernel's packet filter: %w", err)
}

// ofHost reports whether this is the agent of the host, which also sees what
// containers send, and not one inside a namespace.
func ofHost() bool {
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return false
	}
	host, err := os.Readlink("/proc/1/ns/net")
	return err == nil && host == own
}

// EnforcedElsewhere reports whether the kernel's rules here, in the network
// namespace of the calling thread, are those of a running agent with another
// state directory.
func EnforcedElsewhere(dir state.Dir) bool {
	queues, err := os.ReadFile("/proc/thread-self/net/netfilter/nfnetlink_queue")
	if err != nil || !hasQueue(queues, QueueBase) {
		return false
	}
	unlock, err := sole.Directory(dir.Path(state.FileLock))
	if err != nil {
		return false
	}
	unlock()
	return true
}

// hasQueue reports whether somebody listens to a packet queue. Each line of
// the kernel's list begins with the number of one.
func hasQueue(list []byte, number int) bool {
	for line := range strings.Lines(string(list)) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] == strconv.Itoa(number) {
			return true
		}
	}
	return false
}

// CleanUp removes every trace of Interdict from the kernel, in the network
// namespace of the calling thread.
func CleanUp(ctx context.Context, log *slog.Logger) (err error) {
	guard, err := nft.New(nft.Config{Logger: log})
	if err != nil {
		return needsRoot(err)
	}
	defer func() { err = errors.Join(err, guard.Close()) }()
	return guard.CleanUp(ctx)
}
