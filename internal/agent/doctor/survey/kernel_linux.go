package survey

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"interdict/internal/agent"
	"interdict/internal/agent/doctor"
	"interdict/internal/agent/netguard"
	"interdict/internal/agent/netguard/conntrack"
	"interdict/internal/agent/netguard/nft"
	"interdict/internal/agent/process"
)

// release is the kernel's.
func release() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}

// unsynchronised reports whether the kernel was told by nobody that its clock
// is right, see adjtimex(2).
func unsynchronised() bool {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return err == nil && (state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0)
}

// free is how many bytes fit on the file system of a path.
func free(path string) uint64 {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return 0
	}
	return fs.Bavail * uint64(fs.Bsize)
}

// everything is rules that use all that a kernel has to offer.
func everything() netguard.Config {
	one := func(addr string) netguard.Range {
		a := netip.MustParseAddr(addr)
		return netguard.Range{From: a, To: a}
	}
	return netguard.Config{
		Inspect: true, QueueBase: agent.QueueBase, Gateway: false,
		Refused: []netguard.Range{one("198.51.100.1"), one("2001:db8::1")},
		Watched: []netguard.Range{one("198.51.100.3"), one("2001:db8::3")},
		Exempt:  []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:443"), netip.MustParseAddrPort("[2001:db8::5]:443")},
	}
}

// features tries out what is tried out of a kernel.
func features(ctx context.Context) map[string]string {
	tried := make(map[string]string)
	note := func(name string, err error) {
		tried[name] = ""
		if err != nil {
			tried[name] = strings.ReplaceAll(err.Error(), "\n", "; ")
		}
	}
	var tables, queues, table, destroy error
	err := inScratch(func() error {
		tables, queues = tryRules(ctx)
		table = tryConntrack(ctx)
		destroy = tryDestroy(ctx)
		return nil
	})
	note("nf_tables", errors.Join(err, tables))
	note("packet_queue", errors.Join(err, queues))
	note("connection_table", errors.Join(err, table))
	note("socket_destroy", errors.Join(err, destroy))
	note("exec_permission", tryExecPermission())
	attribution(note)
	return tried
}

// setRules makes the table of the calling thread's namespace say c.
func setRules(ctx context.Context, c netguard.Config) error {
	guard, err := nft.New(nft.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return errors.Join(guard.Set(ctx, c), guard.Close())
}

func tryRules(ctx context.Context) (tables, queues error) {
	if _, err := readTable(); err != nil {
		return err, err
	}
	return nil, setRules(ctx, everything())
}

func tryConntrack(context.Context) error {
	cutter, err := conntrack.New()
	if err != nil {
		return err
	}
	ends, err := conntrack.SubscribeEnds()
	if err != nil {
		return errors.Join(err, cutter.Close())
	}
	return errors.Join(ends.Close(), cutter.Close())
}

// tryDestroy opens a connection over loopback and has it destroyed.
func tryDestroy(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	defer func() { _ = listener.Close() }()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", listener.Addr().String())
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	defer func() { _ = conn.Close() }()
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return err
	}
	remote, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return err
	}
	cutter, err := conntrack.New()
	if err != nil {
		return err
	}
	_, err = cutter.Cut(ctx, []netguard.Flow{{Protocol: unix.IPPROTO_TCP, Source: local, Dest: remote}})
	if err = errors.Join(err, cutter.Close()); err != nil {
		return err
	}
	if _, err := conn.Write([]byte{0}); err == nil {
		return errors.New("a destroyed connection goes on")
	}
	return nil
}

// tryExecPermission asks to be asked before one file is executed, see
// fanotify(7). The file is nobody's program.
func tryExecPermission() error {
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY)
	if err != nil {
		return fmt.Errorf("opening fanotify: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	f, err := os.CreateTemp("", "interdict-doctor-")
	if err != nil {
		return fmt.Errorf("making a file to try with: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()); _ = f.Close() }()
	if err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD, unix.FAN_OPEN_EXEC_PERM, unix.AT_FDCWD, f.Name()); err != nil {
		return fmt.Errorf("asking for permission events: %w", err)
	}
	return nil
}

// attribution tries the ways in which connections are traced to programs.
func attribution(note func(string, error)) {
	resolver, err := process.New(process.Config{})
	if err != nil {
		note("cgroup_bpf", err)
		note("socket_monitor", err)
		return
	}
	for _, m := range resolver.Status() {
		switch m.Name {
		case "bpf":
			note("cgroup_bpf", m.Err)
		case "sockdiag":
			note("socket_monitor", m.Err)
		}
	}
	_ = resolver.Close()
}

// rules compares the table of this network namespace with what is wanted, nil
// if nobody knows that: the wanted table is written into a namespace of its
// own, so that the kernel's words for it are compared with the kernel's words.
func rules(ctx context.Context, wanted *netguard.Config) doctor.Rules {
	have, err := readTable()
	if err != nil {
		return doctor.Rules{Error: err.Error()}
	}
	r := doctor.Rules{Present: have != nil, Compared: wanted != nil, Wanted: wanted != nil && wanted.Inspect}
	switch {
	case have == nil || wanted != nil && !wanted.Inspect:
		return r
	case wanted != nil:
		r.Drift, err = have.compare(ctx, *wanted)
	default:
		r.Drift, err = have.compareAny(ctx)
	}
	if err != nil {
		return doctor.Rules{Error: err.Error()}
	}
	return r
}

// compare says how a table differs from the one that a configuration makes.
func (found table) compare(ctx context.Context, c netguard.Config) ([]string, error) {
	var want table
	err := inScratch(func() (err error) {
		if err = setRules(ctx, c); err == nil {
			want, err = readTable()
		}
		return err
	})
	return found.driftFrom(want), err
}

// compareAny says how a table differs from the most similar of those that any
// configuration makes, apart from addresses.
func (found table) compareAny(ctx context.Context) ([]string, error) {
	rest := maps.Clone(found)
	maps.DeleteFunc(rest, func(part string, _ []string) bool { return isSet(part) })
	var least []string
	for n, c := range shapes() {
		drift, err := rest.compare(ctx, c)
		if err != nil {
			return nil, err
		}
		drift = slices.DeleteFunc(drift, isSet)
		if n == 0 || len(drift) < len(least) {
			least = drift
		}
	}
	return least, nil
}

// shapes are configurations of which each makes other rules.
func shapes() []netguard.Config {
	var all []netguard.Config
	for n := range 4 {
		c := netguard.Config{Inspect: true, QueueBase: agent.QueueBase}
		c.FailClosed, c.Gateway = n&1 != 0, n&2 != 0
		all = append(all, c)
	}
	return all
}

// owned reports whether a file belongs to root, or to who runs this program.
func owned(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return !ok || stat.Uid == 0 || int(stat.Uid) == os.Geteuid()
}

// listener is the process that listens to a socket of the file system, 0 if
// that is not known, see unix(7).
func listener(path string) int {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer func() { _ = unix.Close(fd) }()
	if err = unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return 0
	}
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0
	}
	return int(peer.Pid)
}
