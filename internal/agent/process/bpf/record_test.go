package bpf

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// announcement builds what the programs write, on a little-endian machine and
// on a big-endian one alike.
func announcement(args, path string) []byte {
	b := make([]byte, announceSize)
	copy(b[48:], "curl")
	copy(b[announceArgs:], args)
	copy(b[announcePath:], path)
	ne.PutUint32(b[0:], 42)
	ne.PutUint32(b[8:], 1000)
	ne.PutUint32(b[12:], 1001)
	ne.PutUint64(b[16:], 3)
	ne.PutUint64(b[24:], 4)
	ne.PutUint64(b[32:], 5)
	ne.PutUint64(b[40:], 6)
	ne.PutUint64(b[announceArgsLen:], uint64(len(args)))
	return b
}

func TestDecodeAnnouncement(t *testing.T) {
	got, ok := decodeAnnouncement(announcement("curl\x00-s\x00", "/usr/bin/curl"))
	want := Announcement{
		Connect: Connect{
			PID: 42, UID: 1000, GID: 1001, NetNS: 3, Cgroup: 4, Since: 5 * time.Nanosecond, Image: 6, Comm: "curl",
		},
		Path: "/usr/bin/curl",
		Args: []byte("curl\x00-s\x00"),
	}
	if diff := cmp.Diff(want, got); diff != "" || !ok {
		t.Errorf("decodeAnnouncement: %t (-want +got):\n%s", ok, diff)
	}
}

func TestTupleKeyIsTheSameForMappedAddresses(t *testing.T) {
	plain := Tuple{6, netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:2")}
	mapped := Tuple{6, netip.MustParseAddrPort("[::ffff:192.0.2.1]:1"), netip.MustParseAddrPort("[::ffff:192.0.2.2]:2")}
	if encodeTuple(7, plain) != encodeTuple(7, mapped) {
		t.Error("an IPv4-mapped address has another key than the IPv4 address")
	}
	udp := plain
	udp.Protocol = 17
	if encodeTuple(7, plain) == encodeTuple(7, udp) || encodeTuple(7, plain) == encodeTuple(0, plain) {
		t.Error("protocol or scope is not part of the key")
	}
}

func FuzzDecodeAnnouncement(f *testing.F) {
	f.Add(announcement("curl\x00", "/usr/bin/curl"))
	f.Add(bytes.Repeat([]byte{0xff}, announceSize))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := decodeAnnouncement(b)
		if ok && (len(a.Args) > argsMax || len(a.Path) > pathMax || len(a.Comm) > commSize) {
			t.Errorf("decodeAnnouncement(%x) = %+v", b, a)
		}
	})
}
