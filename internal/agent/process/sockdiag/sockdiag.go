// Package sockdiag decides which local socket a flow belongs to, by asking
// the kernel's socket monitor (NETLINK_SOCK_DIAG, sock_diag(7)).
//
// A flow is looked up the way the kernel looks up an arriving packet: one
// question, one answer, no list. What cannot be found that way, a socket
// bound to an interface, is searched in the list of the sockets that have the
// flow's ports.
package sockdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// ErrNotFound says that no socket matches a flow.
var ErrNotFound = errors.New("no socket matches")

// IP protocol numbers.
const (
	TCP = 6
	UDP = 17
)

// Socket is what the kernel knows of a socket.
type Socket struct {
	// Inode is the socket's inode, as links in /proc/PID/fd name it. Zero
	// when no descriptor refers to the socket any more.
	Inode uint64
	// Cookie is the socket's id, never used twice while the machine is up.
	Cookie uint64
	// UID is the user that made the socket.
	UID uint32
	// State is the number of its TCP state, as in the kernel's tcp_states.h.
	State uint8
	// Local and Remote are its addresses, IPv4 ones in IPv4 form. Those of
	// an unconnected UDP socket can be unspecified.
	Local, Remote netip.AddrPort
}

// Address families, as the kernel numbers them.
const (
	afInet  = 2
	afInet6 = 10
)

// Sizes of struct inet_diag_req_v2 and struct inet_diag_msg
// (linux/inet_diag.h), and where in both the socket's id begins.
const (
	requestSize = 56
	requestID   = 8
	messageSize = 72
	messageID   = 4
)

// anyCookie says that the cookie is not part of the question
// (INET_DIAG_NOCOOKIE).
const anyCookie = 0xffff_ffff

// allStates has a bit for each TCP state.
const allStates = 0xffff_ffff

// appendRequest appends a struct inet_diag_req_v2 that asks for the socket
// with these ends.
func appendRequest(b []byte, family, protocol uint8, source, dest netip.AddrPort) []byte {
	b = append(b, family, protocol, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, allStates)
	b = binary.BigEndian.AppendUint16(b, source.Port())
	b = binary.BigEndian.AppendUint16(b, dest.Port())
	b = appendAddr(b, source.Addr())
	b = appendAddr(b, dest.Addr())
	b = binary.NativeEndian.AppendUint32(b, 0) // Any interface.
	b = binary.NativeEndian.AppendUint32(b, anyCookie)
	return binary.NativeEndian.AppendUint32(b, anyCookie)
}

// appendAddr appends 16 bytes: an IPv4 address fills the first four.
func appendAddr(b []byte, a netip.Addr) []byte {
	var field [16]byte
	copy(field[:], a.AsSlice())
	return append(b, field[:]...)
}

// parseMessage reads a struct inet_diag_msg.
func parseMessage(b []byte) (Socket, error) {
	if len(b) < messageSize {
		return Socket{}, fmt.Errorf("reading an answer of %d bytes: it is cut short", len(b))
	}
	family, id := b[0], b[messageID:]
	local, err := parseAddr(family, id[4:20])
	if err != nil {
		return Socket{}, err
	}
	remote, err := parseAddr(family, id[20:36])
	if err != nil {
		return Socket{}, err
	}
	ne := binary.NativeEndian
	return Socket{
		Inode:  uint64(ne.Uint32(b[68:])),
		Cookie: uint64(ne.Uint32(id[40:])) | uint64(ne.Uint32(id[44:]))<<32,
		UID:    ne.Uint32(b[64:]),
		State:  b[1],
		Local:  netip.AddrPortFrom(local, binary.BigEndian.Uint16(id[0:])),
		Remote: netip.AddrPortFrom(remote, binary.BigEndian.Uint16(id[2:])),
	}, nil
}

func parseAddr(family uint8, field []byte) (netip.Addr, error) {
	switch family {
	case afInet:
		return netip.AddrFrom4([4]byte(field)), nil
	case afInet6:
		return netip.AddrFrom16([16]byte(field)).Unmap(), nil
	default:
		return netip.Addr{}, fmt.Errorf("reading an answer: address family %d is unknown", family)
	}
}

// match tells how well a socket fits a flow: 0 not at all, more the more of
// its addresses it has in common. Like the kernel we take an unspecified
// address as any, of either family, and only UDP sockets may have one.
func match(s Socket, protocol uint8, local, remote netip.AddrPort) int {
	if s.Local == local && s.Remote == remote {
		return 3
	}
	if protocol != UDP || s.Local.Port() != local.Port() {
		return 0
	}
	score := 1
	switch s.Local.Addr() {
	case local.Addr():
		score = 2
	case netip.IPv6Unspecified():
	case netip.IPv4Unspecified():
		if !local.Addr().Is4() {
			return 0
		}
	default:
		return 0
	}
	if s.Remote == remote || s.Remote.Port() == 0 {
		return score
	}
	return 0
}
