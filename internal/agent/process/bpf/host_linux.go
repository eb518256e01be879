package bpf

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// initialPIDNamespace is the inode of the first process namespace
// (PROC_PID_INIT_INO in the kernel's proc_ns.h).
const initialPIDNamespace = 0xeffffffc

// requireInitialPIDs fails where /proc counts processes from another start
// than the kernel's programs do.
func requireInitialPIDs() error {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
		return fmt.Errorf("asking for the process namespace: %w", err)
	}
	if st.Ino != initialPIDNamespace {
		return errors.New("this process runs in a process namespace of its own; the agent needs the host's")
	}
	return nil
}

// netnsCookie is the id of the calling thread's network namespace.
func netnsCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("opening a socket: %w", err)
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("asking for the network namespace's cookie (Linux 5.14): %w", err)
	}
	return cookie, nil
}

// openCgroup opens the root of the cgroup2 tree: where it is mounted by
// custom, or by a mount of our own that no path leads to and that is gone
// when the file is closed.
func openCgroup() (*os.File, error) {
	for _, path := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(path, &st) != nil || st.Type != unix.CGROUP2_SUPER_MAGIC {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("opening the cgroup2 tree: %w", err)
		}
		return f, nil
	}
	return mountCgroup()
}

func mountCgroup() (*os.File, error) {
	fsfd, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("no cgroup2 tree is mounted; opening one: %w", err)
	}
	defer unix.Close(fsfd)
	if err = unix.FsconfigCreate(fsfd); err != nil {
		return nil, fmt.Errorf("no cgroup2 tree is mounted; making one: %w", err)
	}
	mount, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("no cgroup2 tree is mounted; mounting one: %w", err)
	}
	defer unix.Close(mount)
	// The mount itself is open as a place only (O_PATH).
	fd, err := unix.Openat(mount, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("no cgroup2 tree is mounted; opening our own: %w", err)
	}
	return os.NewFile(uintptr(fd), "cgroup2"), nil
}

// findOffsets asks the kernel's type information where it keeps the memory of
// a process and the ends of a socket.
func findOffsets() (*imageOffsets, *sockOffsets, error) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, nil, fmt.Errorf("reading the kernel's types: %w", err)
	}
	var (
		image imageOffsets
		sock  sockOffsets
	)
	for _, m := range []struct {
		in, name string
		to       *uint32
	}{
		{"task_struct", "mm", &image.taskMM},
		{"mm_struct", "arg_start", &image.argStart},
		{"mm_struct", "arg_end", &image.argEnd},
		{"mm_struct", "env_end", &image.envEnd},
		// The first member of struct sock.
		{"sock_common", "skc_rcv_saddr", &sock.local4},
		{"sock_common", "skc_daddr", &sock.remote4},
		{"sock_common", "skc_v6_rcv_saddr", &sock.local6},
		{"sock_common", "skc_v6_daddr", &sock.remote6},
		{"sock_common", "skc_num", &sock.localPort},
		{"sock_common", "skc_dport", &sock.remotePort},
	} {
		var in *btf.Struct
		if err = spec.TypeByName(m.in, &in); err != nil {
			return nil, nil, fmt.Errorf("reading the kernel's types: %w", err)
		}
		offset, ok := memberOffset(in, m.name)
		if !ok {
			return nil, nil, fmt.Errorf("reading the kernel's types: %s has no %s", m.in, m.name)
		}
		*m.to = offset
	}
	return &image, &sock, nil
}

// memberOffset finds a member by name, in bytes, also inside members without
// a name.
func memberOffset(t btf.Type, name string) (uint32, bool) {
	var members []btf.Member
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		members = t.Members
	case *btf.Union:
		members = t.Members
	}
	for _, m := range members {
		if m.Name == name {
			return m.Offset.Bytes(), true
		}
		if m.Name != "" {
			continue
		}
		if inner, ok := memberOffset(m.Type, name); ok {
			return m.Offset.Bytes() + inner, true
		}
	}
	return 0, false
}
