package conntrack

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/mdlayher/netlink"
	ct "github.com/ti-mo/conntrack"
	"github.com/ti-mo/netfilter"
	"golang.org/x/sys/unix"

	"interdict/internal/agent/netguard"
)

// Cutter ends connections of one network namespace: the one that its maker's
// thread was in. Its methods may be called from several goroutines.
type Cutter struct {
	// mu keeps the questions on the sockets apart.
	mu       sync.Mutex
	sockets  *netlink.Conn
	tracking *netlink.Conn
}

var _ netguard.Cutter = (*Cutter)(nil)

// New opens the netlink sockets.
func New() (*Cutter, error) {
	sockets, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return nil, fmt.Errorf("opening a sock_diag socket: %w", explain(err))
	}
	tracking, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening a ctnetlink socket: %w", explain(err)), sockets.Close())
	}
	return &Cutter{sockets: sockets, tracking: tracking}, nil
}

// Close closes the sockets.
func (c *Cutter) Close() error {
	if err := errors.Join(c.sockets.Close(), c.tracking.Close()); err != nil {
		return fmt.Errorf("closing the cutter: %w", err)
	}
	return nil
}

// Cut implements netguard.Cutter. A local TCP connection loses its socket,
// which resets the far side, and its entry in the connection table. Of any
// other the entry is marked refused, and so is what its client sends next, as
// an acknowledgement: without the mark a QUIC connection would go on, since
// only its first packets are inspected. Cut does all it can and
// returns what failed.
func (c *Cutter) Cut(ctx context.Context, flows []netguard.Flow) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var faults []error
	for _, f := range flows {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(faults, fmt.Errorf("cutting connections: %w", err))...)
		}
		f.Source, f.Dest = plain(f.Source), plain(f.Dest)
		if err := c.cut(f); err != nil {
			faults = append(faults, fmt.Errorf("cutting %v -> %v: %w", f.Source, f.Dest, explain(err)))
		}
	}
	return errors.Join(faults...)
}

// plain returns a with an IPv4 address as such and without a zone, as the
// connection table has it.
func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

func (c *Cutter) cut(f netguard.Flow) error {
	if !f.Source.IsValid() || !f.Dest.IsValid() || f.Source.Addr().Is4() != f.Dest.Addr().Is4() {
		return errors.New("its ends are not two addresses of one family")
	}
	if f.Protocol != unix.IPPROTO_TCP {
		return c.refuse(f)
	}
	destroyed, err := c.destroy(f)
	if err != nil || !destroyed {
		// Forwarded, or gone: if gone, the mark finds nothing either.
		return errors.Join(err, c.refuse(f))
	}
	return c.forget(f)
}

// refuse marks the entry of f as refused and leaves the other bits of its
// mark. No entry is no error.
func (c *Cutter) refuse(f netguard.Flow) error {
	// Message types and attributes of linux/netfilter/nfnetlink_conntrack.h.
	const (
		messageNew        = 0
		attributeMark     = 8
		attributeMarkMask = 21
	)
	err := c.track(f, messageNew,
		netfilter.Attribute{Type: attributeMark, Data: netfilter.Uint32Bytes(netguard.MarkRefuse)},
		netfilter.Attribute{Type: attributeMarkMask, Data: netfilter.Uint32Bytes(netguard.MarkMask)},
	)
	if err != nil {
		return fmt.Errorf("marking the connection refused: %w", err)
	}
	return nil
}

// forget deletes the entry of f. No entry is no error.
func (c *Cutter) forget(f netguard.Flow) error {
	const messageDelete = 2
	if err := c.track(f, messageDelete); err != nil {
		return fmt.Errorf("deleting the connection's entry: %w", err)
	}
	return nil
}

// track sends a request about the entry whose original direction is f.
func (c *Cutter) track(f netguard.Flow, message netfilter.MessageType, attributes ...netfilter.Attribute) error {
	family := netfilter.ProtoIPv6
	if f.Source.Addr().Is4() {
		family = netfilter.ProtoIPv4
	}
	request, err := netfilter.MarshalNetlink(netfilter.Header{
		SubsystemID: netfilter.NFSubsysCTNetlink,
		MessageType: message,
		Family:      family,
		Flags:       netlink.Request | netlink.Acknowledge,
	}, append([]netfilter.Attribute{originalTuple(f)}, attributes...))
	if err != nil {
		return fmt.Errorf("encoding a request: %w", err)
	}
	if _, err := c.tracking.Execute(request); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("asking ctnetlink: %w", err)
	}
	return nil
}

// originalTuple encodes CTA_TUPLE_ORIG.
func originalTuple(f netguard.Flow) netfilter.Attribute {
	const (
		tupleOriginal = 1
		tupleIP       = 1
		tupleProto    = 2
		protoNumber   = 1
		protoSource   = 2
		protoDest     = 3
	)
	ipSource, ipDest := uint16(3), uint16(4)
	if f.Source.Addr().Is4() {
		ipSource, ipDest = 1, 2
	}
	return netfilter.Attribute{Type: tupleOriginal, Nested: true, Children: []netfilter.Attribute{
		{Type: tupleIP, Nested: true, Children: []netfilter.Attribute{
			{Type: ipSource, Data: f.Source.Addr().AsSlice()},
			{Type: ipDest, Data: f.Dest.Addr().AsSlice()},
		}},
		{Type: tupleProto, Nested: true, Children: []netfilter.Attribute{
			{Type: protoNumber, Data: []byte{f.Protocol}},
			{Type: protoSource, Data: netfilter.Uint16Bytes(f.Source.Port())},
			{Type: protoDest, Data: netfilter.Uint16Bytes(f.Dest.Port())},
		}},
	}}
}

// flowOf returns the flow of an entry.
func flowOf(f *ct.Flow) netguard.Flow {
	t := f.TupleOrig
	return netguard.Flow{
		Protocol: t.Proto.Protocol,
		Source:   netip.AddrPortFrom(t.IP.SourceAddress, t.Proto.SourcePort),
		Dest:     netip.AddrPortFrom(t.IP.DestinationAddress, t.Proto.DestinationPort),
	}
}

// explain adds to an error of the kernel what would help.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("ending connections needs CAP_NET_ADMIN in this network namespace: %w", err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("the kernel cannot destroy sockets (CONFIG_INET_DIAG_DESTROY): %w", err)
	}
	return err
}
