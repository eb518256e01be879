package sockdiag

import (
	"errors"
	"net/netip"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func open(tb testing.TB) *Conn {
	tb.Helper()
	c, err := Open()
	if err != nil {
		if os.Getenv("CI") != "" {
			tb.Fatalf("the socket monitor must work in CI: %v", err)
		}
		tb.Skipf("SKIPPED, NOTHING TESTED: the socket monitor does not work here: %v", err)
	}
	tb.Cleanup(func() { c.Close() })
	return c
}

// socket is a real socket of a test and what it is expected to be found as.
type socket struct {
	fd    int
	local netip.AddrPort
}

func addrPort(tb testing.TB, sa unix.Sockaddr) netip.AddrPort {
	tb.Helper()
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	default:
		tb.Fatalf("no address: %T", sa)
		return netip.AddrPort{}
	}
}

func sockaddr(family int, a netip.AddrPort) unix.Sockaddr {
	if family == unix.AF_INET {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

func newSocket(tb testing.TB, family, typ int) socket {
	tb.Helper()
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { unix.Close(fd) })
	return socket{fd: fd}
}

func (s *socket) bind(tb testing.TB, family int, addr string) {
	tb.Helper()
	if err := unix.Bind(s.fd, sockaddr(family, netip.AddrPortFrom(netip.MustParseAddr(addr), 0))); err != nil {
		tb.Fatal(err)
	}
	s.name(tb)
}

func (s *socket) connect(tb testing.TB, family int, to netip.AddrPort) {
	tb.Helper()
	if err := unix.Connect(s.fd, sockaddr(family, to)); err != nil {
		tb.Fatal(err)
	}
	s.name(tb)
}

func (s *socket) name(tb testing.TB) {
	tb.Helper()
	sa, err := unix.Getsockname(s.fd)
	if err != nil {
		tb.Fatal(err)
	}
	s.local = addrPort(tb, sa)
}

func (s *socket) check(t *testing.T, got Socket) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(s.fd, &st); err != nil {
		t.Fatal(err)
	}
	cookie, err := unix.GetsockoptUint64(s.fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		t.Fatal(err)
	}
	if got.Inode != st.Ino || got.Cookie != cookie || got.UID != st.Uid {
		t.Errorf("got %+v, want inode %d, cookie %d, user %d", got, st.Ino, cookie, st.Uid)
	}
}

// server listens on TCP and returns its address.
func server(tb testing.TB, family int, addr string) netip.AddrPort {
	tb.Helper()
	s := newSocket(tb, family, unix.SOCK_STREAM)
	s.bind(tb, family, addr)
	if err := unix.Listen(s.fd, 16); err != nil {
		tb.Fatal(err)
	}
	return s.local
}

func TestFindTCP(t *testing.T) {
	c := open(t)
	tests := []struct {
		name                    string
		serverFamily, family    int
		serverAddr, dial, local string
	}{
		{"IPv4", unix.AF_INET, unix.AF_INET, "127.0.0.1", "127.0.0.1", "127.0.0.1"},
		{"IPv6", unix.AF_INET6, unix.AF_INET6, "::1", "::1", "::1"},
		{"IPv4 from an IPv6 socket", unix.AF_INET, unix.AF_INET6, "127.0.0.1", "::ffff:127.0.0.1", "127.0.0.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			to := server(t, tt.serverFamily, tt.serverAddr)
			s := newSocket(t, tt.family, unix.SOCK_STREAM)
			s.connect(t, tt.family, netip.AddrPortFrom(netip.MustParseAddr(tt.dial), to.Port()))
			got, err := c.Find(TCP, s.local, to)
			if err != nil {
				t.Fatal(err)
			}
			s.check(t, got)
			if want := netip.MustParseAddr(tt.local); got.Local.Addr() != want || got.State != 1 {
				t.Errorf("got %+v, want local address %v and state 1 (established)", got, want)
			}
		})
	}

	t.Run("a socket bound to an interface", func(t *testing.T) {
		to := server(t, unix.AF_INET, "127.0.0.1")
		s := newSocket(t, unix.AF_INET, unix.SOCK_STREAM)
		if err := unix.BindToDevice(s.fd, "lo"); err != nil {
			t.Skipf("SKIPPED, NOTHING TESTED: %v", err)
		}
		s.connect(t, unix.AF_INET, to)
		got, err := c.Find(TCP, s.local, to)
		if err != nil {
			t.Fatal(err)
		}
		s.check(t, got)
	})

	t.Run("a listener is not taken for a flow that has none", func(t *testing.T) {
		to := server(t, unix.AF_INET, "127.0.0.1")
		if got, err := c.Find(TCP, to, netip.MustParseAddrPort("127.0.0.1:9")); !errors.Is(err, ErrNotFound) {
			t.Errorf("got %+v, %v; want ErrNotFound", got, err)
		}
	})
}

func TestFindUDP(t *testing.T) {
	c := open(t)
	remote4, remote6 := netip.MustParseAddrPort("127.0.0.1:9"), netip.MustParseAddrPort("[::1]:9")
	tests := []struct {
		name          string
		family        int
		bind          string
		connect       bool
		device        string
		local, remote netip.AddrPort
	}{
		{name: "connected, IPv4", family: unix.AF_INET, connect: true, remote: remote4},
		{name: "connected, IPv6", family: unix.AF_INET6, connect: true, remote: remote6},
		{name: "unconnected, bound to an address", family: unix.AF_INET, bind: "127.0.0.1", remote: remote4},
		{name: "unconnected, any address, IPv4", family: unix.AF_INET, bind: "0.0.0.0", remote: remote4},
		{name: "unconnected, any address, IPv6", family: unix.AF_INET6, bind: "::", remote: remote6},
		{name: "unconnected, IPv4 from an IPv6 socket", family: unix.AF_INET6, bind: "::", remote: remote4},
		{name: "unconnected, bound to an interface", family: unix.AF_INET, bind: "0.0.0.0", device: "lo", remote: remote4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSocket(t, tt.family, unix.SOCK_DGRAM)
			if tt.device != "" {
				if err := unix.BindToDevice(s.fd, tt.device); err != nil {
					t.Skipf("SKIPPED, NOTHING TESTED: %v", err)
				}
			}
			if tt.bind != "" {
				s.bind(t, tt.family, tt.bind)
			}
			if tt.connect {
				s.connect(t, tt.family, tt.remote)
			}
			got, err := c.Find(UDP, netip.AddrPortFrom(tt.remote.Addr(), s.local.Port()), tt.remote)
			if err != nil {
				t.Fatal(err)
			}
			s.check(t, got)
			if tt.device != "" {
				return
			}
			local := netip.AddrPortFrom(tt.remote.Addr(), s.local.Port())
			if _, err = c.lookup(UDP, local, tt.remote); err != nil {
				t.Errorf("found by the slow way only: %v", err)
			}
		})
	}
	t.Run("nobody", func(t *testing.T) {
		if got, err := c.Find(UDP, netip.MustParseAddrPort("127.0.0.1:1"), remote4); !errors.Is(err, ErrNotFound) {
			t.Errorf("got %+v, %v; want ErrNotFound", got, err)
		}
	})
}

func TestFindIsSafeForConcurrentUse(t *testing.T) {
	c := open(t)
	to := server(t, unix.AF_INET, "127.0.0.1")
	var wg sync.WaitGroup
	for range 8 {
		s := newSocket(t, unix.AF_INET, unix.SOCK_STREAM)
		s.connect(t, unix.AF_INET, to)
		wg.Go(func() {
			for range 50 {
				got, err := c.Find(TCP, s.local, to)
				if err != nil {
					t.Error(err)
					return
				}
				s.check(t, got)
				if _, err = c.Find(UDP, netip.MustParseAddrPort("127.0.0.1:1"), to); !errors.Is(err, ErrNotFound) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkFind(b *testing.B) {
	c := open(b)
	to := server(b, unix.AF_INET, "127.0.0.1")
	s := newSocket(b, unix.AF_INET, unix.SOCK_STREAM)
	s.connect(b, unix.AF_INET, to)
	b.Run("found", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Find(TCP, s.local, to); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("not found", func(b *testing.B) {
		for b.Loop() {
			if _, err := c.Find(TCP, netip.MustParseAddrPort("127.0.0.1:1"), to); !errors.Is(err, ErrNotFound) {
				b.Fatal(err)
			}
		}
	})
}
