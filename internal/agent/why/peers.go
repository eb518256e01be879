package why

import (
	"errors"
	"fmt"
	"net/netip"

	"interdict/internal/agent/process/sockdiag"
)

// errGone says that a client's socket has been closed.
var errGone = errors.New("the client is gone")

// Peers tells whose connections on this machine are.
type Peers struct{ conn *sockdiag.Conn }

// OpenPeers opens Peers for the network namespace of the calling thread.
func OpenPeers() (*Peers, error) {
	conn, err := sockdiag.Open()
	if err != nil {
		return nil, err
	}
	return &Peers{conn}, nil
}

// UID returns the user who made the socket at the client's end of a TCP
// connection.
func (p *Peers) UID(client, server netip.AddrPort) (uint32, error) {
	s, err := p.conn.Find(sockdiag.TCP, client, server)
	if err != nil {
		return 0, err
	}
	// The kernel says root of a socket that has been closed.
	if s.Inode == 0 {
		return 0, fmt.Errorf("asking whose connection from %s it is: %w", client, errGone)
	}
	return s.UID, nil
}

// Close closes the connection to the kernel.
func (p *Peers) Close() error { return p.conn.Close() }
