package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"time"

	"interdict/internal/agent/process/bpf"
	"interdict/internal/agent/process/procfs"
	"interdict/internal/agent/process/sockdiag"
)

const (
	// flowsMax answers are kept for flowAge: several packets of one
	// connection ask at once, and an application that was refused tries
	// again from another port.
	flowsMax = 1024
	flowAge  = 2 * time.Second

	// scansMax searches through all processes may run at once.
	scansMax = 2

	// defaultHashWait is long enough to hash most programs.
	defaultHashWait = 100 * time.Millisecond
)

// Config says how a Resolver works. The zero value is good for an agent that
// looks after its own network namespace only.
type Config struct {
	// Forwarded says that connections of other network namespaces, which
	// this host forwards for its containers, are attributed too.
	Forwarded bool
	// HashWait is how long Find waits for the SHA-256 of a program that is
	// not known yet: 100 ms if zero, not at all if negative.
	HashWait time.Duration
	// WithoutBPF leaves the kernel's connection records out.
	WithoutBPF bool
}

// Mechanism is one way of finding owners, and whether it works.
type Mechanism struct {
	// Name is "bpf", "bpf_types", "sockdiag" or "procfs".
	Name string
	// Err says why the mechanism is not in use, nil if it is.
	Err error
}

// Resolver finds the owners of connections. It is the [Finder] of this
// system, and safe for concurrent use.
//
// It asks the kernel's connection records first: they name a process that has
// exited, cost a few microseconds, and also know the connections of other
// network namespaces. What they do not have, connections older than the
// agent and those accepted by a server, is found by the socket and a search
// through all processes. Where one mechanism is refused the other works
// alone; see Status.
//
// Process.SHA256 is filled in by Find: programs are hashed once each, in the
// background, when they are first asked for, and Find waits for that only as
// long as Config.HashWait and its context allow. Programs over 512 MiB and
// those that were gone before they could be looked at have none.
type Resolver struct {
	hashWait time.Duration
	proc     *procfs.FS
	hasher   *procfs.Hasher
	images   *images
	spaces   *namespaces
	flows    *cache[Flow, answer]
	scans    chan struct{}

	// sockets and tracker are nil where their errors are not.
	sockets    *sockdiag.Conn
	socketsErr error
	tracker    *bpf.Tracker
	trackerErr error
}

// found is an owner and where its program is.
type found struct {
	owner Owner
	file  procfs.FileID
}

// answer is what Find found for a flow.
type answer struct {
	found
	err error
	at  time.Time
}

// New starts a Resolver in the network namespace of the calling thread. It
// fails only if no mechanism works. Close ends it.
func New(cfg Config) (*Resolver, error) {
	proc, err := procfs.New(procfs.Config{Proc: os.DirFS("/proc"), Etc: os.DirFS("/etc")})
	if err != nil {
		return nil, fmt.Errorf("starting attribution: %w", err)
	}
	r := &Resolver{
		hashWait: cfg.HashWait,
		proc:     proc,
		images:   newImages(proc),
		spaces:   newNamespaces(),
		flows:    newCache[Flow, answer](flowsMax),
		scans:    make(chan struct{}, scansMax),
	}
	if r.hashWait == 0 {
		r.hashWait = defaultHashWait
	}
	r.sockets, r.socketsErr = sockdiag.Open()
	if cfg.WithoutBPF {
		r.trackerErr = errors.New("switched off")
	} else {
		scope := bpf.ScopeNamespace
		if cfg.Forwarded {
			scope = bpf.ScopeMachine
		}
		r.tracker, r.trackerErr = bpf.Open(bpf.Config{Scope: scope, Announce: r.announce})
	}
	if r.socketsErr != nil && r.trackerErr != nil {
		return nil, fmt.Errorf("starting attribution: %w", errors.Join(r.socketsErr, r.trackerErr))
	}
	r.hasher = procfs.NewHasher()
	return r, nil
}

func (r *Resolver) announce(a bpf.Announcement) {
	r.images.announce(a)
	r.spaces.announce(a)
}

// Close ends all work and detaches from the kernel. Find must not be running
// or called again.
func (r *Resolver) Close() error {
	var errs []error
	if r.tracker != nil {
		errs = append(errs, r.tracker.Close())
	}
	if r.sockets != nil {
		errs = append(errs, r.sockets.Close())
	}
	r.hasher.Close()
	return errors.Join(errs...)
}

// Status tells which mechanisms are in use, and why the others are not.
func (r *Resolver) Status() []Mechanism {
	types := r.trackerErr
	if r.tracker != nil {
		types = r.tracker.Types()
	}
	_, procErr := r.proc.Describe(os.Getpid())
	return []Mechanism{
		{"bpf", r.trackerErr},
		{"bpf_types", types},
		{"sockdiag", r.socketsErr},
		{"procfs", procErr},
	}
}

// Find implements [Finder]. Where only the kernel's record of a process is
// left, Command is the name of the thread in brackets and Path is empty.
func (r *Resolver) Find(ctx context.Context, f Flow) (Owner, error) {
	f.Local = netip.AddrPortFrom(f.Local.Addr().Unmap().WithZone(""), f.Local.Port())
	f.Remote = netip.AddrPortFrom(f.Remote.Addr().Unmap().WithZone(""), f.Remote.Port())
	a, ok := r.flows.get(f)
	if !ok || time.Since(a.at) > flowAge {
		a = answer{at: time.Now()}
		a.found, a.err = r.find(ctx, f)
		if a.err == nil || errors.Is(a.err, ErrNotFound) {
			r.flows.put(f, a)
		}
	}
	if a.err != nil {
		return a.owner, fmt.Errorf("finding the owner of %v to %v: %w", f.Local, f.Remote, a.err)
	}
	a.owner.Process.SHA256 = r.hash(ctx, a.found)
	return a.owner, nil
}

func (r *Resolver) find(ctx context.Context, f Flow) (found, error) {
	if err := context.Cause(ctx); err != nil {
		return found{}, err
	}
	if f.Protocol == sockdiag.TCP {
		if got, ok := r.byTuple(f.Protocol, f.Local, f.Remote); ok {
			return got, nil
		}
	}
	got, err := r.bySocket(ctx, f)
	if !errors.Is(err, sockdiag.ErrNotFound) {
		return got, err
	}
	if f.Protocol != sockdiag.UDP || r.tracker == nil {
		return found{}, ErrNotFound
	}
	if got, ok := r.byClosedSocket(f); ok {
		return got, nil
	}
	if f.Local.Addr().IsLoopback() {
		return found{}, ErrNotFound // Loopback is never forwarded.
	}
	s, err := r.spaces.find(r.tracker.NetNS(), f)
	if err != nil {
		return found{}, ErrNotFound
	}
	return r.ofSocket(ctx, s)
}

func (r *Resolver) byTuple(protocol uint8, local, remote netip.AddrPort) (found, bool) {
	if r.tracker == nil {
		return found{}, false
	}
	c, err := r.tracker.ByTuple(bpf.Tuple{Protocol: protocol, Local: local, Remote: remote})
	if err != nil {
		return found{}, false
	}
	return r.images.owner(c), true
}

// byClosedSocket finds the UDP socket that had the flow, which may not have
// been connected or bound to one address.
func (r *Resolver) byClosedSocket(f Flow) (found, bool) {
	any4, any6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	ends := [][2]netip.AddrPort{{f.Local, f.Remote}}
	for _, a := range []netip.Addr{f.Local.Addr(), any4, any6} {
		none := netip.AddrPortFrom(any6, 0)
		if a.Is4() {
			none = netip.AddrPortFrom(any4, 0)
		}
		ends = append(ends, [2]netip.AddrPort{netip.AddrPortFrom(a, f.Local.Port()), none})
	}
	for _, e := range ends {
		if got, ok := r.byTuple(f.Protocol, e[0], e[1]); ok {
			return got, true
		}
	}
	return found{}, false
}

// bySocket finds the owner by the flow's open socket. The error wraps
// sockdiag.ErrNotFound when there is none.
func (r *Resolver) bySocket(ctx context.Context, f Flow) (found, error) {
	if r.sockets == nil {
		return found{}, sockdiag.ErrNotFound
	}
	s, err := r.sockets.Find(f.Protocol, f.Local, f.Remote)
	if err != nil {
		return found{}, err
	}
	return r.ofSocket(ctx, s)
}

// ofSocket finds the owner of a socket.
func (r *Resolver) ofSocket(ctx context.Context, s sockdiag.Socket) (found, error) {
	if r.tracker != nil {
		if c, err := r.tracker.ByCookie(s.Cookie); err == nil {
			return r.images.owner(c), nil
		}
	}
	return r.byScan(ctx, s)
}

// byScan searches the process that has a socket open. Without success the
// user is still known.
func (r *Resolver) byScan(ctx context.Context, s sockdiag.Socket) (found, error) {
	partly := found{owner: Owner{User: r.proc.User(s.UID)}}
	if s.Inode == 0 {
		return partly, ErrNotFound // Closed by its process; the kernel finishes.
	}
	select {
	case r.scans <- struct{}{}:
		defer func() { <-r.scans }()
	case <-ctx.Done():
		return partly, context.Cause(ctx)
	}
	pid, err := r.proc.FindInode(ctx, s.Inode, s.UID)
	if errors.Is(err, procfs.ErrNoProcess) {
		return partly, ErrNotFound
	}
	if err != nil {
		return partly, err
	}
	d, err := r.proc.Describe(pid)
	if errors.Is(err, fs.ErrNotExist) {
		return partly, ErrNotFound // It has ended in between.
	}
	if err != nil {
		return partly, err
	}
	partly.owner.Process, partly.file = d.Process, d.File
	return partly, nil
}

// hash gives the SHA-256 of an owner's program, empty if it is not known in
// time.
func (r *Resolver) hash(ctx context.Context, f found) string {
	if f.file == (procfs.FileID{}) {
		return ""
	}
	sum, err := r.hasher.Sum(ctx, r.hashWait, f.file, func() (fs.File, error) { return r.open(f) })
	if err != nil {
		return ""
	}
	return sum
}

// open opens the program of a process. When the process has ended the file
// at its path is as good, if it is still the same: the hasher sees to that.
func (r *Resolver) open(f found) (fs.File, error) {
	if file, err := r.proc.OpenExe(f.owner.Process.PID); err == nil {
		return file, nil
	}
	return procfs.OpenSame(f.owner.Process.Path, f.file)
}
