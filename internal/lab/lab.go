// Package lab builds a private network for the demo and the end-to-end tests:
// hosts with networks of their own, and a small Internet between them.
//
//	host "anna" ──veth── ┐
//	host "ben"  ──veth── ┼── the lab's own network: router, DNS, web servers
//	host "hq"   ──veth── ┘
//
// Everything happens inside namespaces that only the lab's processes see:
// network, mounts and, for an ordinary user, user ids. Enter starts the
// program again inside them. There the program is root, /run is an empty file
// system in memory, the resolver's configuration points to the lab's DNS, and
// the accounts are those of the lab's users. Hosts share their files.
// Nothing on the machine itself is changed, so that nothing is left when the
// last process ends, however it ends; programs on hosts die with the process
// that started them.
//
// Addresses are those that are reserved for documentation: names live in
// 203.0.113.0/24 and 2001:db8:1::/64, hosts in 198.51.100.0/24 and below
// 2001:db8:2::/48.
package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"interdict/internal/lab/internet"
)

// maxHosts is how many hosts the address plan has room for.
const maxHosts = 60

const (
	// runDir is where /run is hidden by an empty file system inside the lab.
	runDir = "/run"
	// labDir is Lab.Dir.
	labDir = runDir + "/lab"
)

// nameRule says in words what validName checks.
const nameRule = "1 to 8 letters a-z or digits"

// Config says which lab to build.
type Config struct {
	// Hosts are the names of the hosts: 1 to 8 letters a-z and digits each.
	Hosts []string
	// Users have accounts on every host. Without any the machine's own
	// accounts show.
	Users []User
	// Logger is required.
	Logger *slog.Logger
}

// Host is a machine of the lab: a network namespace with a veth pair.
type Host struct {
	Name string
	// Namespace is the name that ip netns knows it by.
	Namespace string
	IPv4      netip.Addr
	IPv6      netip.Addr
}

// Lab is a running lab.
type Lab struct {
	// Dir is a directory for the files of this run. It is in memory and gone
	// with the lab's last process.
	Dir   string
	hosts []Host
	users []User
	ca    *internet.CA
	net   *internet.Internet
}

// New builds a lab. It can be called once in a process, after Enter only.
func New(ctx context.Context, cfg Config) (*Lab, error) {
	if !Inside() {
		return nil, errors.New("building the lab: the process has not entered the lab")
	}
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("building the lab: %w", err)
	}
	ca, err := internet.NewCA()
	if err != nil {
		return nil, fmt.Errorf("building the lab: %w", err)
	}
	l := &Lab{Dir: labDir, ca: ca}
	if err := l.build(ctx, cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("building the lab: %w", err), l.Close())
	}
	return l, nil
}

func (c Config) validate() error {
	var errs []error
	if c.Logger == nil {
		errs = append(errs, errors.New("a logger must be given"))
	}
	if len(c.Hosts) > maxHosts {
		errs = append(errs, fmt.Errorf("%d hosts are more than %d", len(c.Hosts), maxHosts))
	}
	for i, name := range c.Hosts {
		if !validName(name) {
			errs = append(errs, fmt.Errorf("host name %q must be %s", name, nameRule))
		}
		if slices.Contains(c.Hosts[:i], name) {
			errs = append(errs, fmt.Errorf("host name %q is there twice", name))
		}
	}
	return errors.Join(append(errs, validateUsers(c.Users))...)
}

// validName reports whether a name is one that nothing has to quote.
func validName(name string) bool {
	return name != "" && len(name) <= 8 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// build makes everything in order. Close undoes what was made.
func (l *Lab) build(ctx context.Context, cfg Config) error {
	if err := hideMachine(); err != nil {
		return err
	}
	if err := makePublicDir(l.Dir); err != nil {
		return fmt.Errorf("making the lab's directory: %w", err)
	}
	if err := writePublic(l.CAFile(), l.ca.PEM()); err != nil {
		return fmt.Errorf("writing the demo CA: %w", err)
	}
	if err := hideFiles(l.Dir, resolverFiles(dnsAddr4)); err != nil {
		return err
	}
	if err := l.addUsers(cfg.Users); err != nil {
		return err
	}
	plan := newPlan(cfg.Hosts)
	if err := plan.configure(ctx); err != nil {
		return err
	}
	l.hosts = plan.hosts
	names := make(map[string][]netip.Addr)
	for _, h := range plan.hosts {
		names[h.Name+domain] = []netip.Addr{h.IPv4, h.IPv6}
	}
	var err error
	l.net, err = internet.Start(ctx, internet.Config{
		IPv4: namePrefix4, IPv6: namePrefix6, Hosts: names, CA: l.ca, Logger: cfg.Logger,
	})
	return err
}

// resolverFiles make ordinary programs look names up in the files of the host
// and at a DNS server.
func resolverFiles(server netip.Addr) map[string]string {
	return map[string]string{
		"/etc/resolv.conf":   "nameserver " + server.String() + "\noptions timeout:2 attempts:2\n",
		"/etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
	}
}

// Close ends the small Internet and every process that still runs on a host.
// The namespaces themselves end with the process.
func (l *Lab) Close() error {
	var errs []error
	for _, h := range l.hosts {
		errs = append(errs, endProcesses(h.Namespace))
	}
	if l.net != nil {
		errs = append(errs, l.net.Close())
	}
	return errors.Join(errs...)
}

// CAFile is the certificate of the demo CA, as curl --cacert takes it.
func (l *Lab) CAFile() string { return filepath.Join(l.Dir, "ca.pem") }

// CA is the demo CA.
func (l *Lab) CA() *internet.CA { return l.ca }

// Addrs returns the addresses that a name has in the lab.
func (l *Lab) Addrs(name string) []netip.Addr { return l.net.Addrs(name) }

// Host returns the host with a name. It panics if there is none: the names are
// the caller's own.
func (l *Lab) Host(name string) Host {
	i := slices.IndexFunc(l.hosts, func(h Host) bool { return h.Name == name })
	if i < 0 {
		panic(fmt.Sprintf("the lab has no host %q", name))
	}
	return l.hosts[i]
}

// Command prepares a program to run on a host. The program is killed when the
// context ends or this process dies.
func (l *Lab) Command(ctx context.Context, host, program string, args ...string) *exec.Cmd {
	return inNamespace(ctx, l.Host(host).Namespace, program, args)
}

// SetLink connects a host to the lab's network, or disconnects it.
func (l *Lab) SetLink(ctx context.Context, host string, state LinkState) error {
	h := l.Host(host)
	if err := ip(ctx, "link", "set", "dev", linkPrefix+h.Name, string(state)); err != nil {
		return fmt.Errorf("setting the link of host %q %s: %w", host, state, err)
	}
	return nil
}

// makePublicDir makes a directory, with its parents, that every user can read.
func makePublicDir(dir string) error {
	return os.MkdirAll(dir, 0o755) //nolint:gosec // programs of any user on a host look here
}

// writePublic writes a file that every user can read.
func writePublic(path string, data []byte) error {
	return os.WriteFile(path, data, 0o644) //nolint:gosec // programs of any user on a host read it
}

// LinkState is the state of a host's link.
type LinkState string

// The states of a link.
const (
	LinkUp   LinkState = "up"
	LinkDown LinkState = "down"
)

// ShellFunction returns a shell function that runs a command on a host of the
// lab from outside: NAME HOST COMMAND.
func (l *Lab) ShellFunction(name string) string {
	enter := "nsenter --mount"
	switch {
	case CurrentPrivilege() == PrivilegeUserNamespace:
		enter = "nsenter --user --preserve-credentials --mount"
	case os.Getenv("SUDO_UID") != "":
		enter = "sudo nsenter --mount"
	}
	return fmt.Sprintf(`%s() { %s --target %d -- nsenter --net=%s/netns/%s"$1" -- "${@:2}"; }`,
		name, enter, os.Getpid(), runDir, namespacePrefix)
}
