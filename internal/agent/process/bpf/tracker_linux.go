package bpf

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
)

// Sizes of the maps. They bound the kernel's memory to about 9 MiB; the
// oldest record makes room for a new one.
const (
	ownersMax = 32768
	tuplesMax = 32768
	recentMax = 4096
	eventsMax = 256 << 10
)

// Tracker records who opens sockets until it is closed. It is safe for
// concurrent use.
type Tracker struct {
	netns uint64
	types error

	links  []link.Link
	maps   []*ebpf.Map
	owners *ebpf.Map
	tuples *ebpf.Map
	events *ringbuf.Reader
	done   chan struct{}
}

// Open loads and attaches the programs and starts to record. It must be
// called in the network namespace to watch. The error names what the kernel
// or the process lacks; then nothing is left behind.
func Open(cfg Config) (*Tracker, error) {
	if cfg.Announce == nil {
		return nil, errors.New("opening the connection tracker: Announce is missing")
	}
	t := &Tracker{done: make(chan struct{})}
	if err := t.open(cfg); err != nil {
		return nil, errors.Join(explain(err), t.free())
	}
	go t.read(cfg.Announce)
	return t, nil
}

// explain adds to a kernel's refusal what usually lies behind it.
func explain(err error) error {
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w (needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, or root of the host)", err)
	case errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("%w (needs Linux 5.14 with CONFIG_CGROUP_BPF)", err)
	default:
		return err
	}
}

func (t *Tracker) open(cfg Config) (err error) {
	if err = requireInitialPIDs(); err != nil {
		return err
	}
	if t.netns, err = netnsCookie(); err != nil {
		return err
	}
	if err = rlimit.RemoveMemlock(); err != nil {
		return fmt.Errorf("raising the limit of locked memory: %w", err)
	}
	p := program{scope: cfg.Scope, netns: t.netns}
	p.image, p.sock, t.types = findOffsets()
	if err = t.makeMaps(&p); err != nil {
		return err
	}
	if t.events, err = ringbuf.NewReader(p.events); err != nil {
		return fmt.Errorf("reading announcements: %w", err)
	}
	cgroup, err := openCgroup()
	if err != nil {
		return errors.Join(err, t.events.Close())
	}
	defer cgroup.Close()
	if err = t.attachAll(&p, int(cgroup.Fd())); err != nil {
		return errors.Join(err, t.events.Close())
	}
	return nil
}

func (t *Tracker) makeMaps(p *program) error {
	for _, m := range []struct {
		to   **ebpf.Map
		spec ebpf.MapSpec
	}{
		{&p.owners, ebpf.MapSpec{Name: "idt_owners", Type: ebpf.LRUHash, KeySize: 8, ValueSize: ownerSize, MaxEntries: ownersMax}},
		{&p.tuples, ebpf.MapSpec{Name: "idt_tuples", Type: ebpf.LRUHash, KeySize: tupleSize, ValueSize: 8, MaxEntries: tuplesMax}},
		{&p.recent, ebpf.MapSpec{Name: "idt_recent", Type: ebpf.LRUHash, KeySize: recentKeySize, ValueSize: 8, MaxEntries: recentMax}},
		{&p.events, ebpf.MapSpec{Name: "idt_events", Type: ebpf.RingBuf, MaxEntries: eventsMax}},
	} {
		made, err := ebpf.NewMap(&m.spec)
		if err != nil {
			return fmt.Errorf("making the map %s: %w", m.spec.Name, err)
		}
		t.maps = append(t.maps, made)
		*m.to = made
	}
	t.owners, t.tuples = p.owners, p.tuples
	return nil
}

func (t *Tracker) attachAll(p *program, cgroup int) error {
	type hook struct {
		name   string
		typ    ebpf.ProgramType
		attach ebpf.AttachType
		code   asm.Instructions
	}
	// Tuples first, so that no connection is recorded by half.
	hooks := []hook{
		{"idt_handshake", ebpf.SockOps, ebpf.AttachCGroupSockOps, p.handshake()},
		{"idt_connect4", ebpf.CGroupSockAddr, ebpf.AttachCGroupInet4Connect, p.connect()},
		{"idt_connect6", ebpf.CGroupSockAddr, ebpf.AttachCGroupInet6Connect, p.connect()},
		{"idt_sendmsg4", ebpf.CGroupSockAddr, ebpf.AttachCGroupUDP4Sendmsg, p.sendmsg()},
		{"idt_sendmsg6", ebpf.CGroupSockAddr, ebpf.AttachCGroupUDP6Sendmsg, p.sendmsg()},
	}
	if p.sock != nil {
		hooks = append(hooks, hook{"idt_release", ebpf.CGroupSock, ebpf.AttachCgroupInetSockRelease, p.release()})
	}
	for _, a := range hooks {
		spec := &ebpf.ProgramSpec{
			Name: a.name, Type: a.typ, AttachType: a.attach, Instructions: a.code, License: license,
		}
		if err := t.attach(spec, cgroup); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tracker) attach(spec *ebpf.ProgramSpec, cgroup int) error {
	prog, err := ebpf.NewProgram(spec)
	if err != nil {
		return fmt.Errorf("loading the program %s: %w", spec.Name, err)
	}
	defer prog.Close() // The link keeps it.
	l, err := link.AttachRawLink(link.RawLinkOptions{Target: cgroup, Program: prog, Attach: spec.AttachType})
	if err != nil {
		return fmt.Errorf("attaching the program %s to the cgroup tree: %w", spec.Name, err)
	}
	t.links = append(t.links, l)
	return nil
}

func (t *Tracker) read(announce func(Announcement)) {
	defer close(t.done)
	var rec ringbuf.Record
	// The only errors are that of a closed reader and that of a broken
	// ring, after which nothing can be read either.
	for t.events.ReadInto(&rec) == nil {
		if a, ok := decodeAnnouncement(rec.RawSample); ok {
			announce(a)
		}
	}
}

// NetNS is the cookie of the network namespace that Open was called in.
func (t *Tracker) NetNS() uint64 { return t.netns }

// Types says why the kernel's type information cannot be used: then programs
// that follow each other in one process cannot be told apart, no snapshots
// are taken and closed UDP sockets are not remembered. It is nil if it can.
func (t *Tracker) Types() error { return t.types }

// ByCookie finds who used the socket with this cookie. The error wraps
// [ErrNotFound] when there is no record.
func (t *Tracker) ByCookie(cookie uint64) (Connect, error) {
	var v ownerValue
	if err := lookup(t.owners, &cookie, &v); err != nil {
		return Connect{}, fmt.Errorf("looking up socket %d: %w", cookie, err)
	}
	return decodeOwner(v[:]), nil
}

// ByTuple finds who opened the TCP connection or used the closed UDP socket
// with these ends, first among those of the tracker's own network namespace,
// then among those of all others. Open UDP sockets are not found, and of the
// others' namespaces only connected ones that are not on loopback: several can
// have the same of those. The error wraps [ErrNotFound] when there is no
// record.
func (t *Tracker) ByTuple(tuple Tuple) (Connect, error) {
	scopes := []uint64{t.netns, 0}
	if tuple.Remote.Port() == 0 || tuple.Local.Addr().Unmap().IsLoopback() {
		scopes = scopes[:1]
	}
	for _, scope := range scopes {
		key := encodeTuple(scope, tuple)
		var cookie uint64
		err := lookup(t.tuples, &key, &cookie)
		if err == nil {
			return t.ByCookie(cookie)
		}
		if !errors.Is(err, ErrNotFound) {
			return Connect{}, fmt.Errorf("looking up %v to %v: %w", tuple.Local, tuple.Remote, err)
		}
	}
	return Connect{}, fmt.Errorf("looking up %v to %v: %w", tuple.Local, tuple.Remote, ErrNotFound)
}

func lookup(m *ebpf.Map, key, value any) error {
	err := m.Lookup(key, value)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return ErrNotFound
	}
	return err
}

// Close detaches the programs, ends the announcements and frees the maps. It
// is called once.
func (t *Tracker) Close() error {
	err := t.events.Close()
	<-t.done
	return errors.Join(err, t.free())
}

// free detaches the programs, then frees their maps.
func (t *Tracker) free() error {
	var errs []error
	for _, l := range t.links {
		errs = append(errs, l.Close())
	}
	for _, m := range t.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}
