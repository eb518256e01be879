package sockdiag

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// sockDiagByFamily is SOCK_DIAG_BY_FAMILY.
const sockDiagByFamily = 20

// bufferSize holds the largest message the kernel builds for a list.
const bufferSize = 32 << 10

// Conn asks the kernel about the sockets of one network namespace. It is safe
// for concurrent use; questions are answered one after another.
type Conn struct {
	nl *netlink.Conn
}

// Open opens a Conn in the calling thread's network namespace.
func Open() (*Conn, error) { return dial(0) }

// OpenAt opens a Conn in the network namespace that the file at path stands
// for, such as /proc/PID/ns/net. The namespace lives at least until Close.
func OpenAt(path string) (*Conn, error) {
	ns, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the socket monitor of another namespace: %w", err)
	}
	defer ns.Close()
	return dial(int(ns.Fd()))
}

func dial(netns int) (*Conn, error) {
	nl, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, &netlink.Config{NetNS: netns, MessageBufferSize: bufferSize})
	if err != nil {
		return nil, fmt.Errorf("opening the socket monitor: %w", err)
	}
	return &Conn{nl: nl}, nil
}

// Close closes the connection to the kernel.
func (c *Conn) Close() error { return c.nl.Close() }

// Find finds the socket that sends the packets of a TCP or UDP flow. Both
// addresses must be of one family; IPv4-mapped IPv6 addresses count as IPv4.
// The error wraps [ErrNotFound] when there is no such socket (any more).
func (c *Conn) Find(protocol uint8, local, remote netip.AddrPort) (Socket, error) {
	local, remote = unmap(local), unmap(remote)
	s, err := c.lookup(protocol, local, remote)
	if errors.Is(err, ErrNotFound) {
		s, err = c.search(protocol, local, remote)
	}
	if err != nil {
		return Socket{}, fmt.Errorf("finding the socket from %v to %v: %w", local, remote, err)
	}
	return s, nil
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// lookup asks the kernel for the one socket that would get the flow's
// answers.
func (c *Conn) lookup(protocol uint8, local, remote netip.AddrPort) (Socket, error) {
	source, dest := local, remote
	if protocol == UDP {
		// For historical reasons the kernel takes the ends the other way
		// round here (udp_dump_one), in the question only.
		source, dest = remote, local
	}
	found, err := c.ask(netlink.Request, family(local.Addr()), protocol, source, dest)
	if err != nil {
		return Socket{}, err
	}
	return best(found, protocol, local, remote)
}

// search goes through the sockets with the flow's ports, in both families: a
// socket of IPv6 can send IPv4. For UDP the remote port is left open, which
// finds unconnected sockets too.
func (c *Conn) search(protocol uint8, local, remote netip.AddrPort) (Socket, error) {
	dest := remote
	if protocol == UDP {
		dest = netip.AddrPortFrom(remote.Addr(), 0)
	}
	families := []uint8{unix.AF_INET6}
	if local.Addr().Is4() {
		families = []uint8{unix.AF_INET, unix.AF_INET6}
	}
	var found []Socket
	for _, f := range families {
		some, err := c.ask(netlink.Request|netlink.Dump, f, protocol, local, dest)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return Socket{}, err
		}
		found = append(found, some...)
	}
	return best(found, protocol, local, remote)
}

// best picks the socket that matches most closely.
func best(found []Socket, protocol uint8, local, remote netip.AddrPort) (Socket, error) {
	var (
		most   int
		picked Socket
	)
	for _, s := range found {
		if n := match(s, protocol, local, remote); n > most {
			most, picked = n, s
		}
	}
	if most == 0 {
		return Socket{}, ErrNotFound
	}
	return picked, nil
}

func (c *Conn) ask(flags netlink.HeaderFlags, family, protocol uint8, source, dest netip.AddrPort) ([]Socket, error) {
	answers, err := c.nl.Execute(netlink.Message{
		Header: netlink.Header{Type: sockDiagByFamily, Flags: flags},
		Data:   appendRequest(make([]byte, 0, requestSize), family, protocol, source, dest),
	})
	if errors.Is(err, unix.ENOENT) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("asking the socket monitor: %w", err)
	}
	found := make([]Socket, 0, len(answers))
	for _, a := range answers {
		s, err := parseMessage(a.Data)
		if err != nil {
			return nil, err
		}
		found = append(found, s)
	}
	return found, nil
}
