package agent

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"interdict/internal/agent/netguard"
	"interdict/internal/agent/netguard/conntrack"
	"interdict/internal/agent/process/sockdiag"
)

// cutter cuts connections and knows which of them were open.
type cutter struct {
	conns   *conntrack.Cutter
	sockets *sockdiag.Conn
}

func newCutter() (*cutter, error) {
	conns, err := conntrack.New()
	if err != nil {
		return nil, err
	}
	sockets, err := sockdiag.Open()
	if err != nil {
		return nil, errors.Join(err, conns.Close())
	}
	return &cutter{conns: conns, sockets: sockets}, nil
}

// Close closes the sockets to the kernel.
func (c *cutter) Close() error { return errors.Join(c.conns.Close(), c.sockets.Close()) }

// Cut cuts all flows and returns those that were open. The connection table
// remembers a connection for minutes after its end.
func (c *cutter) Cut(ctx context.Context, flows []netguard.Flow) ([]netguard.Flow, error) {
	var open []netguard.Flow
	for _, f := range flows {
		if c.isOpen(f) {
			open = append(open, f)
		}
	}
	return open, c.conns.Cut(ctx, flows)
}

// isOpen reports whether a connection is open. One that is only forwarded has
// no socket here and counts as open, and so does one about which the kernel
// says nothing.
func (c *cutter) isOpen(f netguard.Flow) bool {
	// States of linux/tcp_states.h: in all others this end has closed.
	const established, synSent, closeWait = 1, 2, 8
	s, err := c.sockets.Find(f.Protocol, f.Source, f.Dest)
	switch {
	case errors.Is(err, sockdiag.ErrNotFound):
		return !isLocal(f.Source.Addr())
	case err != nil || f.Protocol != sockdiag.TCP:
		return true
	}
	return s.State == established || s.State == synSent || s.State == closeWait
}

func isLocal(addr netip.Addr) bool {
	if addr.IsLoopback() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr() == addr.Unmap() {
			return true
		}
	}
	return false
}
