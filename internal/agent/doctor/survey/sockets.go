package survey

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"interdict/internal/agent/doctor"
)

// fields yields the fields of every line that has enough of them.
func fields(table []byte, least int) [][]string {
	var rows [][]string
	for lines := bufio.NewScanner(bytes.NewReader(table)); lines.Scan(); {
		if row := strings.Fields(lines.Text()); len(row) >= least {
			rows = append(rows, row)
		}
	}
	return rows
}

// queue is a line of /proc/net/netfilter/nfnetlink_queue.
type queue struct {
	doctor.Queue
	// port is the netlink port of the listener.
	port uint32
}

// parseQueues reads /proc/net/netfilter/nfnetlink_queue: the queue's number,
// the listener's port, how many packets wait, how they are copied, and how
// many were dropped for want of room and of memory (seq_show in
// net/netfilter/nfnetlink_queue.c).
func parseQueues(table []byte) []queue {
	var queues []queue
	for _, row := range fields(table, 7) {
		var n [7]uint64
		var err error
		for _, i := range []int{0, 1, 2, 5, 6} {
			if n[i], err = strconv.ParseUint(row[i], 10, 64); err != nil {
				break
			}
		}
		if err == nil {
			q := doctor.Queue{Number: int(n[0]), Waiting: n[2], Dropped: n[5] + n[6]}
			queues = append(queues, queue{Queue: q, port: uint32(n[1])})
		}
	}
	return queues
}

// parseNetlink reads /proc/net/netlink: the inodes of the sockets of netfilter
// by their port.
func parseNetlink(table []byte) map[uint32]uint64 {
	const netfilter = "12" // NETLINK_NETFILTER
	inodes := make(map[uint32]uint64)
	for _, row := range fields(table, 10) {
		port, err := strconv.ParseUint(row[2], 10, 32)
		inode, err2 := strconv.ParseUint(row[9], 10, 64)
		if row[1] == netfilter && err == nil && err2 == nil {
			inodes[uint32(port)] = inode
		}
	}
	return inodes
}

// connection is a connected socket.
type connection struct {
	remote netip.AddrPort
	inode  uint64
}

// parseConnections reads /proc/net/tcp, tcp6, udp or udp6 and returns the
// sockets that are connected.
func parseConnections(table []byte) []connection {
	const established = "01"
	var found []connection
	for _, row := range fields(table, 10) {
		remote, err := parseEndpoint(row[2])
		inode, err2 := strconv.ParseUint(row[9], 10, 64)
		if row[3] == established && err == nil && err2 == nil {
			found = append(found, connection{remote, inode})
		}
	}
	return found
}

// parseEndpoint reads an address and a port as the kernel writes them: words
// of 32 bits in the host's order, then the port, all in hexadecimal.
func parseEndpoint(text string) (netip.AddrPort, error) {
	host, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(host)
	if err != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, fmt.Errorf("reading the address %q", text)
	}
	for word := range slices.Chunk(raw, 4) {
		binary.NativeEndian.PutUint32(word, binary.BigEndian.Uint32(word))
	}
	addr, ok := netip.AddrFromSlice(raw)
	number, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil {
		return netip.AddrPort{}, fmt.Errorf("reading the address %q", text)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(number)), nil
}
