package bpf

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

func BenchmarkByTuple(b *testing.B) {
	tr, err := Open(Config{Announce: func(Announcement) {}})
	if err != nil {
		b.Skip(err)
	}
	defer tr.Close()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp4", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	tuple := Tuple{Protocol: protocolTCP, Local: c.LocalAddr().(*net.TCPAddr).AddrPort(), Remote: c.RemoteAddr().(*net.TCPAddr).AddrPort()}
	b.ReportAllocs()
	for b.Loop() {
		if _, err = tr.ByTuple(tuple); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkConnect measures what the programs cost a connecting UDP socket,
// the cheapest connect there is.
func BenchmarkConnect(b *testing.B) {
	run := func(b *testing.B) {
		b.Helper()
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		defer unix.Close(fd)
		to := &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}}
		for b.Loop() {
			if err = unix.Connect(fd, to); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("without", run)
	b.Run("with", func(b *testing.B) {
		tr, err := Open(Config{Announce: func(Announcement) {}})
		if err != nil {
			b.Skip(err)
		}
		defer tr.Close()
		run(b)
	})
}
