// Package survey decides how the facts that package doctor examines are found
// out: from /proc, /sys and /etc, from the kernel, from the state directory,
// from a running agent and from its server.
//
// It changes nothing on the machine. What has to be tried out in the kernel is
// tried in a network namespace of its own, which is gone afterwards. Whatever
// cannot be found out, for want of a privilege or because the agent does not
// run, stays empty, and the rest is found out all the same.
package survey

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"interdict/catalog/resolver"
	"interdict/internal/agent"
	"interdict/internal/agent/channel/dropin"
	"interdict/internal/agent/doctor"
	"interdict/internal/agent/netguard"
	"interdict/internal/agent/state"
	"interdict/internal/agent/uplink"
	"interdict/internal/indicator"
	"interdict/internal/version"
)

// Config says what to look at.
type Config struct {
	Dir state.Dir
	// Policy is the directory of drop-in files, unless an agent runs and says
	// which one it reads.
	Policy string
	// Root is the tree of /; it must implement [fs.ReadLinkFS], as os.DirFS
	// does.
	Root fs.FS
}

// Take finds the facts out. It takes as long as the server takes to answer.
func Take(ctx context.Context, c Config) doctor.Facts {
	f := doctor.Facts{
		Now: time.Now(), Version: version.String(), UID: os.Geteuid(),
		Release: release(), Features: features(ctx), Unsynchronised: unsynchronised(),
		Directory: directory(c.Dir),
		Resolving: resolving(c.Root), Interfaces: interfaces(c.Root), Firewalls: firewalls(c.Root), FlushesRules: flushingFiles(c.Root),
	}
	_, err := fs.Stat(c.Root, "run/systemd/journal/socket")
	f.SystemJournal = err == nil
	c.agent(ctx, &f)
	c.device(ctx, &f)
	policy := c.Policy
	if f.Agent != nil {
		policy = cmp.Or(f.Agent.PolicyDir, policy)
	}
	f.RefusedFiles = refusedFiles(policy, f.Identity.Server)
	c.ownPolicy(policy, &f)
	c.connections(&f)
	return f
}

// agent asks the running agent how it is, and compares the kernel's rules with
// what it wants.
func (c Config) agent(ctx context.Context, f *doctor.Facts) {
	client := agent.NewClient(c.Dir)
	status, err := client.Status(ctx)
	if err != nil {
		f.AgentError = err.Error()
		f.Rules = rules(ctx, nil)
		return
	}
	f.Agent, f.AgentPID = &status, listener(c.Dir.Path(state.FileSocket))
	// Between the question and the look at the kernel they may change: what
	// differs twice is different.
	for range 2 {
		wanted, err := client.Kernel(ctx)
		if err != nil {
			f.Rules = rules(ctx, nil)
			return
		}
		if f.Rules = rules(ctx, &wanted); f.Rules.Present == f.Rules.Wanted && len(f.Rules.Drift) == 0 {
			return
		}
	}
}

// device looks at the identity and what depends on it.
func (c Config) device(ctx context.Context, f *doctor.Facts) {
	id, err := c.Dir.Identity()
	switch {
	case errors.Is(err, state.ErrNotEnrolled):
		return
	case err != nil:
		f.Identity.Enrolled, f.Identity.Error = true, err.Error()
		return
	}
	leaf := id.Certificate.Leaf
	f.Identity = doctor.Identity{
		Enrolled: true, Device: id.DeviceID, Server: id.ServerURL, ValidFrom: leaf.NotBefore, ValidTo: leaf.NotAfter,
	}
	reached := uplink.Reach(ctx, id)
	f.Server = &reached
	b, err := c.Dir.VerifyBundle(id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.Bundle.Missing = true
	case err != nil:
		f.Bundle.Error = err.Error()
	default:
		f.Bundle = doctor.Bundle{Version: b.Header.Version, IssuedAt: b.Header.IssuedAt, NotAfter: b.Header.NotAfter}
	}
}

// directory looks at the state directory.
func directory(dir state.Dir) doctor.Directory {
	root := dir.Path("")
	d := doctor.Directory{Path: root}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			// A running agent removes what it has sent.
			return nil
		}
		if err != nil {
			return err
		}
		const others = 0o077
		if info.Mode().Perm()&others != 0 || !owned(info) {
			d.Open = append(d.Open, path)
		}
		if filepath.Dir(path) == dir.Path(state.DirSpool) {
			d.Waiting += info.Size()
		}
		return nil
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.Missing = true
		return d
	case err != nil:
		d.Error = err.Error()
	}
	d.Free = free(root)
	return d
}

// ownPolicy looks for what the machine says itself.
func (c Config) ownPolicy(policy string, f *doctor.Facts) {
	// A directory that is not there has no files.
	read, unread, _ := dropin.Names(policy)
	for _, name := range unread {
		f.UnreadFiles = append(f.UnreadFiles, filepath.Join(policy, name))
	}
	_, err := os.Stat(c.Dir.Path(state.FileSet))
	f.OwnPolicy = len(read) > 0 || err == nil
}

// refusedFiles reads the drop-in files as an agent of a server would that has
// no memory of them.
func refusedFiles(policy, server string) []doctor.RefusedFile {
	// What an agent would keep of the files is nobody's business here.
	kept, err := os.MkdirTemp("", "interdict-doctor-")
	if err != nil {
		return nil
	}
	defer func() { _ = os.RemoveAll(kept) }()
	protected := indicator.NewProtected()
	if u, err := url.Parse(server); err == nil && u.Hostname() != "" {
		protected = indicator.NewProtected(indicator.Host{Name: u.Hostname(), Reason: "is where this agent reaches the server"})
	}
	var refused []doctor.RefusedFile
	for _, fault := range dropin.New(dropin.Config{Dir: policy, Kept: kept, Protected: protected}).Read().Faults {
		refused = append(refused, doctor.RefusedFile{Path: fault.Path, Faults: []string{fault.Error()}})
	}
	return refused
}

// connections looks at who listens to queues, who asks encrypted name services
// and what else runs.
func (c Config) connections(f *doctor.Facts) {
	proc, err := fs.Sub(c.Root, "proc")
	if err != nil {
		return
	}
	read := func(name string) []byte {
		content, err := fs.ReadFile(proc, "thread-self/net/"+name)
		if err != nil && name == "netfilter/nfnetlink_queue" && !errors.Is(err, fs.ErrNotExist) {
			f.QueuesError = err.Error()
		}
		return content
	}
	queues, inodes := parseQueues(read("netfilter/nfnetlink_queue")), parseNetlink(read("netlink"))
	encrypted := encryptedDNS(read)
	wanted := make(map[uint64]bool)
	for _, q := range queues {
		wanted[inodes[q.port]] = true
	}
	for _, e := range encrypted {
		wanted[e.inode] = true
	}
	programs := findPrograms(proc, wanted)
	for _, q := range queues {
		owner := programs.owners[inodes[q.port]]
		q.PID, q.Program = owner.PID, owner.Name
		q.Own = q.Number >= agent.QueueBase && q.Number < agent.QueueBase+netguard.Queues
		f.Queues = append(f.Queues, q.Queue)
	}
	seen := make(map[doctor.Connection]bool)
	for _, e := range encrypted {
		owner := programs.owners[e.inode]
		e.Program, e.PID = owner.Name, owner.PID
		if !seen[e.Connection] {
			seen[e.Connection] = true
			f.EncryptedDNS = append(f.EncryptedDNS, e.Connection)
		}
	}
	f.Programs, f.Namespaces = programs.all, programs.namespaces
}

// encryptedConnection is a connection to an encrypted name service.
type encryptedConnection struct {
	doctor.Connection
	inode uint64
}

// encryptedDNS finds open connections to encrypted name services.
func encryptedDNS(read func(name string) []byte) []encryptedConnection {
	list, err := resolver.Load()
	if err != nil {
		return nil
	}
	var found []encryptedConnection
	for _, name := range []string{"tcp", "tcp6", "udp", "udp6"} {
		for _, c := range parseConnections(read(name)) {
			service := list.ByAddress(c.remote.Addr(), c.remote.Port())
			if service == nil {
				continue
			}
			d := doctor.Connection{Remote: c.remote, Service: service.Name, Protocol: protocolOf(c.remote.Port(), strings.HasPrefix(name, "udp"), service)}
			found = append(found, encryptedConnection{d, c.inode})
		}
	}
	return found
}

// protocolOf says how a service is asked at a port.
func protocolOf(port uint16, datagrams bool, service *resolver.Resolver) string {
	switch {
	case port == resolver.PortDoT && datagrams:
		return "DNS over QUIC"
	case port == resolver.PortDoT:
		return "DNS over TLS"
	case slices.Contains(service.Protocols, resolver.Relay):
		return "a relay"
	default:
		return "DNS over HTTPS"
	}
}
