package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"interdict/internal/agent/netguard"
)

// Layout of linux/inet_diag.h.
const (
	// sockIDLength is the size of struct inet_diag_sockid: two ports, two
	// addresses of 16 bytes, an interface and a cookie of two words.
	sockIDLength = 2 + 2 + 16 + 16 + 4 + 8
	cookieOffset = sockIDLength - 8
	// requestLength is the size of struct inet_diag_req_v2: family,
	// protocol, extensions and padding, a mask of states, and the socket.
	requestLength = 4 + 4 + sockIDLength
)

// States of enum tcp_state (linux/tcp_states.h). In those that are not here
// this end has closed, or is a listener.
const (
	tcpEstablished = 1
	tcpSynSent     = 2
	tcpCloseWait   = 8
	tcpListen      = 10
)

// socket is a local socket: its identity with the kernel's cookie, and whether
// its program still has it open.
type socket struct {
	id   []byte
	open bool
}

// destroy ends the local socket of f and returns it, nil if there was none. It
// asks before it destroys: for a connection that is gone the kernel would
// find, and close, a listener that has taken over the port.
func (c *Cutter) destroy(f netguard.Flow) (*socket, error) {
	for _, family := range families(f.Source.Addr()) {
		s, err := c.find(family, f)
		if err != nil {
			return nil, err
		}
		if s == nil {
			continue
		}
		_, err = c.sockets.Execute(diagRequest(unix.SOCK_DESTROY, family, unix.IPPROTO_TCP, s.id))
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("destroying the socket: %w", err)
		}
		return s, nil
	}
	return nil, nil
}

// families returns the socket families that can have an address: an IPv6
// socket also carries IPv4, in mapped addresses.
func families(a netip.Addr) []byte {
	if a.Is4() {
		return []byte{unix.AF_INET, unix.AF_INET6}
	}
	return []byte{unix.AF_INET6}
}

// find returns the socket whose ends are exactly those of f, or nil if there
// is none.
func (c *Cutter) find(family byte, f netguard.Flow) (*socket, error) {
	want := sockID(family, f)
	// The answer stands for the acknowledgement, which would come after it.
	request := diagRequest(unix.SOCK_DIAG_BY_FAMILY, family, unix.IPPROTO_TCP, want)
	request.Header.Flags = netlink.Request
	replies, err := c.sockets.Execute(request)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for the socket: %w", err)
	}
	for _, m := range replies {
		// struct inet_diag_msg: family, state, timer, retransmissions,
		// and the socket.
		if len(m.Data) < 4+sockIDLength {
			continue
		}
		state := m.Data[1]
		if state == tcpListen {
			continue
		}
		if got := m.Data[4 : 4+sockIDLength]; sameEnds(m.Data[0], got, f) {
			copy(want[cookieOffset:], got[cookieOffset:])
			return &socket{id: want, open: state == tcpEstablished || state == tcpSynSent || state == tcpCloseWait}, nil
		}
	}
	return nil, nil
}

// sends tells whether a local UDP socket sends from the source of f. Of UDP
// the connection table knows no end.
func (c *Cutter) sends(f netguard.Flow) (bool, error) {
	// For UDP the kernel takes the ends the other way round (udp_dump_one).
	swapped := netguard.Flow{Protocol: f.Protocol, Source: f.Dest, Dest: f.Source}
	for _, family := range families(f.Source.Addr()) {
		request := diagRequest(unix.SOCK_DIAG_BY_FAMILY, family, unix.IPPROTO_UDP, sockID(family, swapped))
		request.Header.Flags = netlink.Request
		_, err := c.sockets.Execute(request)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, unix.ENOENT) {
			return true, fmt.Errorf("looking for the socket: %w", err)
		}
	}
	return false, nil
}

// sameEnds tells whether a socket that the kernel described, of the family
// that it is really of, has the ends of f.
func sameEnds(family byte, id []byte, f netguard.Flow) bool {
	address := func(b []byte) netip.Addr {
		if family == unix.AF_INET {
			return netip.AddrFrom4([4]byte(b[:4]))
		}
		return netip.AddrFrom16([16]byte(b[:16])).Unmap()
	}
	source := netip.AddrPortFrom(address(id[4:20]), binary.BigEndian.Uint16(id[0:]))
	dest := netip.AddrPortFrom(address(id[20:36]), binary.BigEndian.Uint16(id[2:]))
	return source == f.Source && dest == f.Dest
}

// sockID encodes struct inet_diag_sockid for a socket with any cookie.
func sockID(family byte, f netguard.Flow) []byte {
	id := make([]byte, sockIDLength)
	binary.BigEndian.PutUint16(id[0:], f.Source.Port())
	binary.BigEndian.PutUint16(id[2:], f.Dest.Port())
	for i, a := range []netip.Addr{f.Source.Addr(), f.Dest.Addr()} {
		field := id[4+16*i:]
		if family == unix.AF_INET6 {
			mapped := a.As16()
			copy(field, mapped[:])
			continue
		}
		copy(field, a.AsSlice())
	}
	// INET_DIAG_NOCOOKIE
	for i := cookieOffset; i < sockIDLength; i++ {
		id[i] = 0xff
	}
	return id
}

func diagRequest(kind netlink.HeaderType, family, protocol byte, id []byte) netlink.Message {
	data := make([]byte, requestLength)
	data[0], data[1] = family, protocol
	const allStates = ^uint32(0)
	binary.NativeEndian.PutUint32(data[4:], allStates)
	copy(data[8:], id)
	return netlink.Message{
		Header: netlink.Header{Type: kind, Flags: netlink.Request | netlink.Acknowledge},
		Data:   data,
	}
}
