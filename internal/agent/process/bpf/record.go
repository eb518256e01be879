package bpf

import (
	"bytes"
	"encoding/binary"
	"time"
)

// The records the programs write, in the byte order of the machine.
//
//	owner (64 bytes)                  announcement (840 bytes)
//	 0 u32 process id                   0 owner
//	 4 u32 thread id                   64 u64 length of the arguments
//	 8 u32 user id                     72 arguments (512)
//	12 u32 group id                   584 path, ended by a zero byte (256)
//	16 u64 network namespace cookie
//	24 u64 cgroup id                  tuple key (48 bytes)
//	32 u64 time since boot in ns        0 u64 scope, see encodeTuple
//	40 u64 image                        8 local address (16)
//	48 thread name (16)                24 remote address (16)
//	                                   40 u16 local port, 42 u16 remote port
//	                                   44 u32 protocol
//
// IPv4 addresses are in their IPv4-mapped IPv6 form.
const (
	ownerSize = 64
	argsMax   = 512
	pathMax   = 256
	commSize  = 16

	announceArgsLen = ownerSize
	announceArgs    = announceArgsLen + 8
	announcePath    = announceArgs + argsMax
	announceSize    = announcePath + pathMax

	tupleSize = 48
)

// ne is the byte order of the machine.
var ne = binary.NativeEndian

type (
	ownerValue [ownerSize]byte
	tupleKey   [tupleSize]byte
)

// decodeOwner reads an owner record. b has at least ownerSize bytes.
func decodeOwner(b []byte) Connect {
	return Connect{
		PID:    int(ne.Uint32(b[0:])),
		UID:    ne.Uint32(b[8:]),
		GID:    ne.Uint32(b[12:]),
		NetNS:  ne.Uint64(b[16:]),
		Cgroup: ne.Uint64(b[24:]),
		Since:  time.Duration(ne.Uint64(b[32:])),
		Image:  ne.Uint64(b[40:]),
		Comm:   cString(b[48:ownerSize]),
	}
}

// decodeAnnouncement reads an announcement; ok is false when b is too short
// to be one. The result keeps no part of b.
func decodeAnnouncement(b []byte) (a Announcement, ok bool) {
	if len(b) < announceSize {
		return Announcement{}, false
	}
	n := min(ne.Uint64(b[announceArgsLen:]), argsMax)
	return Announcement{
		Connect: decodeOwner(b),
		Args:    bytes.Clone(b[announceArgs : announceArgs+n]),
		Path:    cString(b[announcePath:announceSize]),
	}, true
}

// encodeTuple makes a tuple's key. The scope keeps a tracker's own network
// namespace, for which it is the namespace's cookie, apart from all others,
// for which it is zero: what is forwarded does not tell where it comes from.
func encodeTuple(scope uint64, t Tuple) tupleKey {
	var k tupleKey
	ne.PutUint64(k[0:], scope)
	local, remote := t.Local.Addr().As16(), t.Remote.Addr().As16()
	copy(k[8:], local[:])
	copy(k[24:], remote[:])
	ne.PutUint16(k[40:], t.Local.Port())
	ne.PutUint16(k[42:], t.Remote.Port())
	ne.PutUint32(k[44:], uint32(t.Protocol))
	return k
}

func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
