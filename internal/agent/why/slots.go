package why

import (
	"net"
	"net/netip"
	"sync"
)

// slots bound the connections of each user, so that nobody keeps others out.
type slots struct {
	net.Listener
	// uid returns whose a connection is.
	uid func(client netip.AddrPort) (uint32, error)

	mu    sync.Mutex // Guards taken.
	taken map[uint32]int
	all   int
}

// Accept returns the next connection of a user who has not too many. One
// above that, or of nobody, is closed.
func (s *slots) Accept() (net.Conn, error) {
	for {
		c, err := s.Listener.Accept()
		if err != nil {
			// It is the server's to read, which knows what goes by.
			return nil, err
		}
		if held := s.hold(c); held != nil {
			return held, nil
		}
		_ = c.Close()
	}
}

// hold takes a slot for a connection until it is closed; nil where there is
// none.
func (s *slots) hold(c net.Conn) net.Conn {
	client, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return nil
	}
	uid, err := s.uid(client)
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken[uid] >= maxConnectionsUser || s.all >= maxConnections {
		return nil
	}
	s.taken[uid]++
	s.all++
	return &slot{Conn: c, release: sync.OnceFunc(func() { s.release(uid) })}
}

func (s *slots) release(uid uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.taken[uid]--; s.taken[uid] == 0 {
		delete(s.taken, uid)
	}
}

// slot is a connection that is counted.
type slot struct {
	net.Conn
	release func()
}

// Close closes the connection and makes room for another.
func (s *slot) Close() error {
	defer s.release()
	return s.Conn.Close()
}
