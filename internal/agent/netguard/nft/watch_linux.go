package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Tuning of Watch.
const (
	// settle is how long changes must have paused before the table is
	// written a second time: firewalls come in bursts. It doubles with
	// each time after that.
	settle = 50 * time.Millisecond
	// calm is how long the table must have stayed before a restoration
	// counts as the first again, which is made at once.
	calm = 10 * time.Second
	// slowest bounds the pause in a quarrel with another program.
	slowest = 30 * time.Second
)

// Restoration tells that another program had changed or removed the table
// and that it was written again.
type Restoration struct {
	// Took is the time from the first notice to the rules being back.
	Took time.Duration
	// Err is why writing failed, nil if it did not. The next change is the
	// next occasion.
	Err error
}

// Watch writes the table again whenever another program has changed or
// removed it, and reports each time to restored, which must not block. It
// runs on the kernel's notices, not on a timer, and never sees this Guard's
// own changes. It returns nil when ctx ends.
func (g *Guard) Watch(ctx context.Context, restored func(Restoration)) error {
	conn, err := g.startWatch()
	if err != nil {
		return err
	}
	// The past as a deadline ends a Receive that is waiting.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer g.endWatch(conn)
	defer stop()

	var (
		pause time.Duration
		last  time.Time
	)
	for {
		first, err := g.awaitForeign(ctx, conn, time.Time{})
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watching the rules: %w", err)
		}
		if time.Since(last) > calm {
			pause = 0
		} else {
			pause = min(max(settle, 2*pause), slowest)
		}
		if pause > 0 && !g.awaitQuiet(ctx, conn, pause) {
			return nil
		}
		last = time.Now()
		if done, err := g.restore(); done {
			restored(Restoration{Took: time.Since(first), Err: err})
		}
	}
}

func (g *Guard) startWatch() (*netlink.Conn, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("opening a socket to watch the rules: %w", explain(err))
	}
	g.mu.Lock()
	g.watch = conn
	err = g.ignoreOwn()
	g.mu.Unlock()
	if err == nil {
		err = conn.JoinGroup(unix.NFNLGRP_NFTABLES)
	}
	if err != nil {
		g.endWatch(conn)
		return nil, fmt.Errorf("subscribing to changes of the rules: %w", explain(err))
	}
	return conn, nil
}

func (g *Guard) endWatch(conn *netlink.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.watch == conn {
		g.watch = nil
	}
	// Nothing is written on this socket, so closing has nothing to lose.
	_ = conn.Close()
}

// ignoreOwn makes the kernel keep from the watching socket what our own
// socket caused: all notices of one batch carry its sender's port. Our
// batches are large, and must neither fill the buffer nor answer themselves.
// The caller holds mu.
func (g *Guard) ignoreOwn() error {
	if g.watch == nil {
		return nil
	}
	// Socket filters load in network order; struct nlmsghdr is in the host's.
	port := binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, g.port))
	const portOffset = 12
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: portOffset, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: port, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 30},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return fmt.Errorf("assembling the filter of own changes: %w", err)
	}
	if err := g.watch.SetBPF(filter); err != nil {
		return fmt.Errorf("attaching the filter of own changes: %w", err)
	}
	return nil
}

// awaitForeign waits until another program has touched our table and returns
// when it learned of it, once all notices of that change have come. Notices
// that were lost count as such a change.
func (g *Guard) awaitForeign(ctx context.Context, conn *netlink.Conn, until time.Time) (time.Time, error) {
	if err := conn.SetReadDeadline(until); err != nil {
		return time.Time{}, fmt.Errorf("setting a deadline: %w", err)
	}
	var learned time.Time
	for {
		// ctx may have ended before the deadline was set anew.
		if err := ctx.Err(); err != nil {
			return time.Time{}, fmt.Errorf("waiting for changes: %w", err)
		}
		messages, err := conn.Receive()
		if errors.Is(err, unix.ENOBUFS) {
			return time.Now(), nil
		}
		if err != nil {
			return time.Time{}, fmt.Errorf("receiving changes: %w", err)
		}
		touched, complete := read(messages, !learned.IsZero())
		if touched && learned.IsZero() {
			learned = time.Now()
		}
		if complete {
			return learned, nil
		}
	}
}

// read tells whether our table has been touched by what touched says before
// or by one of the messages, and whether that batch has ended since.
func read(messages []netlink.Message, touched bool) (_, complete bool) {
	for _, m := range messages {
		if concernsTable(m) {
			touched = true
		}
		if m.Header.Type == generation {
			complete = touched
		}
	}
	return touched, complete
}

// generation is the type of the notice that ends those of a batch.
const generation netlink.HeaderType = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWGEN

// awaitQuiet returns true once no foreign change has come for pause, but
// after ten pauses in any case, and false when ctx has ended.
func (g *Guard) awaitQuiet(ctx context.Context, conn *netlink.Conn, pause time.Duration) bool {
	for range 10 {
		_, err := g.awaitForeign(ctx, conn, time.Now().Add(pause))
		if ctx.Err() != nil {
			return false
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return true
		}
	}
	return true
}

// restore writes the table as it was last set. It reports false if there is
// nothing to restore.
func (g *Guard) restore() (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.applied
	if s == nil {
		return false, nil
	}
	if err := g.writeWhole(s); err != nil {
		return true, fmt.Errorf("restoring the rules: %w", err)
	}
	return true, nil
}

// concernsTable tells whether a notice is about our table or something in
// it. In every such message the first attribute type names the table.
func concernsTable(m netlink.Message) bool {
	const header = 4 // struct nfgenmsg: family, version, resource
	if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || m.Header.Type == generation || len(m.Data) < header {
		return false
	}
	if nftables.TableFamily(m.Data[0]) != nftables.TableFamilyINet {
		return false
	}
	attributes, err := netlink.NewAttributeDecoder(m.Data[header:])
	if err != nil {
		return false
	}
	for attributes.Next() {
		if attributes.Type() == unix.NFTA_TABLE_NAME {
			return attributes.String() == tableName
		}
	}
	return false
}
