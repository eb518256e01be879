package conntrack

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	ct "github.com/ti-mo/conntrack"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"interdict/internal/agent/netguard"
)

// readBuffer is the limit of the socket's buffer for events.
const readBuffer = 4 << 20

// Ends is a subscription to the ends of connections. Make one with
// SubscribeEnds, and close it.
type Ends struct{ conn *netlink.Conn }

// SubscribeEnds subscribes to the ends of connections in the network
// namespace of the calling thread, from now on.
func SubscribeEnds() (*Ends, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("opening a ctnetlink socket: %w", explain(err))
	}
	if err := prepare(conn); err != nil {
		return nil, errors.Join(fmt.Errorf("subscribing to the ends of connections: %w", explain(err)), conn.Close())
	}
	return &Ends{conn: conn}, nil
}

func prepare(conn *netlink.Conn) error {
	filter, err := markedOnly()
	if err != nil {
		return err
	}
	if err := conn.SetBPF(filter); err != nil {
		return fmt.Errorf("attaching the filter: %w", err)
	}
	if err := conn.SetReadBuffer(readBuffer); err != nil {
		return fmt.Errorf("setting the receive buffer: %w", err)
	}
	if err := conn.JoinGroup(unix.NFNLGRP_CONNTRACK_DESTROY); err != nil {
		return fmt.Errorf("joining the group: %w", err)
	}
	return nil
}

// markedOnly returns a socket filter that keeps events of connections which
// carry our mark. On a busy host most others never wake the agent.
func markedOnly() ([]bpf.RawInstruction, error) {
	const (
		attributes    = 16 + 4 // struct nlmsghdr and struct nfgenmsg
		attributeMark = 8      // CTA_MARK
	)
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadConstant{Dst: bpf.RegX, Val: attributeMark},
		bpf.LoadConstant{Dst: bpf.RegA, Val: attributes},
		bpf.LoadExtension{Num: bpf.ExtNetlinkAttr},
		// A is the offset of the attribute, zero if there is none.
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 4},
		bpf.TAX{},
		bpf.LoadIndirect{Off: 4, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: netguard.MarkMask, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 30},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return nil, fmt.Errorf("assembling the filter: %w", err)
	}
	return filter, nil
}

// Close ends the subscription.
func (e *Ends) Close() error {
	if err := e.conn.Close(); err != nil {
		return fmt.Errorf("closing the subscription to the ends of connections: %w", err)
	}
	return nil
}

// Run calls ended for each connection with a mark of ours that has ended. It
// returns nil when ctx ends, and may then be called again: what ended in
// between is reported, as far as the kernel kept it. When the kernel had to
// drop events, Run calls lost instead: whoever counts on every end must then
// ask anew. Neither function may block for long, and Run must not run twice at
// the same time.
func (e *Ends) Run(ctx context.Context, ended func(netguard.Flow), lost func()) error {
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		_ = e.conn.SetReadDeadline(time.Unix(1, 0))
	})
	defer func() {
		if !stop() {
			// The next run begins without a deadline.
			<-woken
			_ = e.conn.SetReadDeadline(time.Time{})
		}
	}()
	for {
		messages, err := e.conn.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			lost()
			continue
		case err != nil:
			return fmt.Errorf("receiving the ends of connections: %w", err)
		}
		for _, m := range messages {
			var event ct.Event
			// An event that cannot be read is one of a kind unknown here.
			if err := event.Unmarshal(m); err == nil && event.Type == ct.EventDestroy && event.Flow != nil {
				ended(flowOf(event.Flow))
			}
		}
	}
}
