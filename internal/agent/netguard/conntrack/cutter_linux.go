package conntrack

import (
	"context"
	"errors"
	"fmt"
	"net"
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
	entries  *ct.Conn
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
	entries, err := ct.Dial(nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening a ctnetlink socket: %w", explain(err)), sockets.Close(), tracking.Close())
	}
	return &Cutter{sockets: sockets, tracking: tracking, entries: entries}, nil
}

// Close closes the sockets.
func (c *Cutter) Close() error {
	if err := errors.Join(c.sockets.Close(), c.tracking.Close(), c.entries.Close()); err != nil {
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
func (c *Cutter) Cut(ctx context.Context, flows []netguard.Flow) (open []netguard.Flow, _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var faults []error
	var others []netguard.Flow // those without a local TCP socket
	for _, given := range flows {
		if err := ctx.Err(); err != nil {
			return open, errors.Join(append(faults, fmt.Errorf("cutting connections: %w", err))...)
		}
		local, err := c.cutLocal(normal(given))
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("cutting %v -> %v: %w", given.Source, given.Dest, explain(err)))
		case local == nil:
			others = append(others, given)
		case local.open:
			open = append(open, given)
		}
	}
	stillOpen, err := c.refuseAll(others)
	return append(open, stillOpen...), errors.Join(append(faults, err)...)
}

// refuseAll marks the entries of flows as refused and returns the flows that
// were open.
func (c *Cutter) refuseAll(flows []netguard.Flow) (open []netguard.Flow, _ error) {
	if len(flows) == 0 {
		return nil, nil
	}
	// Before they are refused, since that ends them.
	tracked, fault := c.tracked()
	here, unknown := localAddresses()
	faults := []error{fault, unknown}
	for _, given := range flows {
		f := normal(given)
		if err := c.refuse(f); err != nil {
			faults = append(faults, fmt.Errorf("cutting %v -> %v: %w", f.Source, f.Dest, explain(err)))
		}
		if tracked[f] && c.mayBeOpen(f, here) {
			open = append(open, given)
		}
	}
	return open, errors.Join(faults...)
}

// mayBeOpen tells whether somebody can still use a connection that the table
// has: of one over UDP from an address that is here, only if its socket is.
func (c *Cutter) mayBeOpen(f netguard.Flow, here map[netip.Addr]bool) bool {
	if f.Protocol != unix.IPPROTO_UDP || !here[f.Source.Addr()] {
		return true
	}
	sends, err := c.sends(f)
	return sends || err != nil
}

// localAddresses are the addresses of this network namespace.
func localAddresses() (map[netip.Addr]bool, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("listing this machine's addresses: %w", err)
	}
	here := make(map[netip.Addr]bool, len(addrs))
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			here[p.Addr().Unmap()] = true
		}
	}
	return here, nil
}

// normal returns f with its addresses as the connection table has them: an
// IPv4 address as such, and none with a zone.
func normal(f netguard.Flow) netguard.Flow {
	plain := func(a netip.AddrPort) netip.AddrPort {
		return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
	}
	return netguard.Flow{Protocol: f.Protocol, Source: plain(f.Source), Dest: plain(f.Dest)}
}

// cutLocal ends a connection of this host's own over TCP. It returns nil for
// any other: one that is forwarded, that has gone, or that is not TCP.
func (c *Cutter) cutLocal(f netguard.Flow) (*socket, error) {
	if !f.Source.IsValid() || !f.Dest.IsValid() || f.Source.Addr().Is4() != f.Dest.Addr().Is4() {
		return nil, errors.New("its ends are not two addresses of one family")
	}
	if f.Protocol != unix.IPPROTO_TCP {
		return nil, nil
	}
	local, err := c.destroy(f)
	if err != nil {
		return nil, errors.Join(err, c.refuse(f))
	}
	if local == nil {
		return nil, nil
	}
	return local, c.forget(f)
}

// tracked returns the connections that were let through and, as far as the
// connection table knows, are open. An entry outlives its TCP connection by up
// to two minutes.
func (c *Cutter) tracked() (map[netguard.Flow]bool, error) {
	// In states of enum tcp_conntrack from this one on either end has closed.
	const finWait = 4
	filter := ct.NewFilter().Mark(netguard.MarkAccept).MarkMask(netguard.MarkMask)
	entries, err := c.entries.DumpFilter(filter, nil)
	if err != nil {
		return nil, fmt.Errorf("reading the connection table: %w", explain(err))
	}
	open := make(map[netguard.Flow]bool)
	for i := range entries {
		if tcp := entries[i].ProtoInfo.TCP; tcp == nil || tcp.State < finWait {
			open[flowOf(&entries[i])] = true
		}
	}
	return open, nil
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
