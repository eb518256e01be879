package lab

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
)

// The address plan.
var (
	namePrefix4 = netip.MustParsePrefix("203.0.113.0/24")
	namePrefix6 = netip.MustParsePrefix("2001:db8:1::/64")
	dnsAddr4    = netip.MustParseAddr("203.0.113.1")
)

const (
	// domain is below which the hosts have their names.
	domain = ".lab.example"
	// namespacePrefix starts the names of network namespaces.
	namespacePrefix = "idt-"
	// linkPrefix starts the names of the router's ends of the veth pairs.
	linkPrefix = "to-"
	// hostLink is the host's end.
	hostLink = "eth0"
)

// link is the addresses of a host's veth pair.
type link struct {
	host             string
	router4, router6 netip.Prefix
	host4, host6     netip.Prefix
}

// plan is what has to be configured.
type plan struct {
	hosts []Host
	links []link
}

// newPlan gives each host a network of four IPv4 addresses and a /64.
func newPlan(names []string) plan {
	var p plan
	for i, name := range names {
		l := link{
			host:    name,
			router4: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(4*i + 1)}), 30),
			host4:   netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(4*i + 2)}), 30),
			router6: netip.PrefixFrom(hostAddr6(i, 1), 64),
			host6:   netip.PrefixFrom(hostAddr6(i, 2), 64),
		}
		p.links = append(p.links, l)
		p.hosts = append(p.hosts, Host{
			Name: name, Namespace: namespacePrefix + name, IPv4: l.host4.Addr(), IPv6: l.host6.Addr(),
		})
	}
	return p
}

// hostAddr6 is 2001:db8:2:network::last.
func hostAddr6(network int, last byte) netip.Addr {
	return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, 2, 0, byte(network), 15: last})
}

// configure makes the current network namespace the router and the home of
// the small Internet, and a namespace for every host.
func (p plan) configure(ctx context.Context) error {
	for _, setting := range []struct{ path, value string }{
		{"/proc/sys/net/ipv4/ip_forward", "1"},
		{"/proc/sys/net/ipv6/conf/all/forwarding", "1"},
		// Answers over UDP come from an address that only a local route has.
		{"/proc/sys/net/ipv6/ip_nonlocal_bind", "1"},
		// A link that was down keeps its IPv6 addresses, as it does the IPv4 ones.
		{"/proc/sys/net/ipv6/conf/all/keep_addr_on_down", "1"},
		{"/proc/sys/net/ipv4/conf/all/rp_filter", "0"},
		{"/proc/sys/net/ipv4/conf/default/rp_filter", "0"},
	} {
		if err := os.WriteFile(setting.path, []byte(setting.value), 0o600); err != nil {
			return fmt.Errorf("setting up the router: %w", err)
		}
	}
	// A local route makes every address of a prefix the machine's own.
	commands := []string{
		"link set dev lo up",
		"route add local " + namePrefix4.String() + " dev lo",
		"-6 route add local " + namePrefix6.String() + " dev lo",
	}
	for _, l := range p.links {
		commands = append(commands, l.commands()...)
	}
	for _, command := range commands {
		if err := ip(ctx, strings.Fields(command)...); err != nil {
			return fmt.Errorf("setting up the network: %w", err)
		}
	}
	return nil
}

// commands are the arguments of ip that make a host and its link. Addresses
// count at once: duplicates cannot happen, so nobody looks for them.
func (l link) commands() []string {
	ns, near := namespacePrefix+l.host, linkPrefix+l.host
	in := "-n " + ns + " "
	return []string{
		"netns add " + ns,
		"link add name " + near + " type veth peer name " + hostLink + " netns " + ns,
		"addr add " + l.router4.String() + " dev " + near,
		"addr add " + l.router6.String() + " dev " + near + " nodad",
		"link set dev " + near + " up",
		in + "link set dev lo up",
		in + "addr add " + l.host4.String() + " dev " + hostLink,
		in + "addr add " + l.host6.String() + " dev " + hostLink + " nodad",
		in + "link set dev " + hostLink + " up",
		in + "route add default via " + l.router4.Addr().String(),
		in + "-6 route add default via " + l.router6.Addr().String(),
	}
}

// ip runs the ip command.
func ip(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "ip", args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("running ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}
