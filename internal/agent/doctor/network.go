package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// nameServers says how programs look names up, and what of that can be seen.
func nameServers(f *Facts) []Finding {
	r := f.Resolving
	if len(r.Servers) == 0 {
		return warn("%s names no name server", orUnknown(r.File)).means("programs may not be able to look names up").mend("cat /etc/resolv.conf")
	}
	var servers []string
	for _, s := range r.Servers {
		servers = append(servers, s.String())
	}
	text := "asked: " + strings.Join(shorten(servers, 4), ", ")
	switch {
	case r.Resolved && r.Bus && encrypts(r.Encrypted):
		return info("%s; systemd-resolved asks over TLS and programs ask it by its own protocol", text).
			means("no answers are seen: connections that say no name are not recognised, all others are").alone()
	case r.Resolved && encrypts(r.Encrypted):
		return info("%s; systemd-resolved asks over TLS", text).
			means("its answers to programs are seen, those to itself are not").alone()
	case r.Resolved && r.Bus:
		return info("%s; programs ask systemd-resolved by its own protocol", text).
			means("which program looked a name up is not seen; that it was is").alone()
	default:
		return ok("%s", text)
	}
}

func orUnknown(s string) string {
	if s == "" {
		return "/etc/resolv.conf"
	}
	return s
}

// encrypts reports whether a value of DNSOverTLS, see resolved.conf(5), has
// names looked up over TLS.
func encrypts(value string) bool {
	return slices.Contains([]string{"yes", "true", "1", "on", "opportunistic"}, strings.ToLower(value))
}

func encryptedDNS(f *Facts) []Finding {
	var found []Finding
	for _, c := range f.EncryptedDNS {
		service := c.Remote.String()
		if c.Service != "" {
			service = fmt.Sprintf("%s (%s)", c.Service, c.Remote)
		}
		if strings.HasPrefix(c.Program, "systemd-resolve") {
			found = append(found, info("systemd-resolved asks %s by %s", service, c.Protocol))
			continue
		}
		found = append(found, warn("%s asks %s by %s", programText(c.Program, c.PID), service, c.Protocol).
			means("names it looks up are not seen; its connections are recognised by what they say themselves").
			mend("interdict-agent set bypass-protection block")...)
	}
	if len(found) == 0 {
		return ok("no program has a connection to an encrypted name service now")
	}
	return found
}

// firewallPrograms are programs that share the kernel's packet filter with the
// agent, by the name the kernel knows them by, which has 15 bytes at most.
func firewallPrograms() map[string]string {
	return map[string]string{
		"firewalld": "firewalld", "dockerd": "Docker", "containerd": "containerd", "kube-proxy": "kube-proxy", "kubelet": "Kubernetes",
		"calico-node": "Calico", "cilium-agent": "Cilium", "libvirtd": "libvirt", "crowdsec-firewa": "CrowdSec", "fail2ban-server": "Fail2ban",
	}
}

func firewallManagers(f *Facts) []Finding {
	var found []Finding
	var names []string
	for name := range programsOf(f, firewallPrograms()) {
		names = append(names, name)
	}
	names = append(names, f.Firewalls...)
	slices.Sort(names)
	if len(names) > 0 {
		found = append(found, info("in use: %s", strings.Join(names, ", ")).
			means("they keep to tables of their own; what they delete of the agent's it puts back"))
	}
	for _, file := range f.FlushesRules {
		found = append(found, info("%s deletes all rules when it is loaded", file).
			means("a running agent puts its own back at once; without one they stay away"))
	}
	if len(found) == 0 {
		return ok("none that is known is in use")
	}
	return found
}

// programsOf returns, by what they are called, the programs of a table that run.
func programsOf(f *Facts, table map[string]string) map[string]int {
	found := make(map[string]int)
	for _, p := range f.Programs {
		if name := table[p.Name]; name != "" {
			found[name] = p.PID
		}
	}
	return found
}

// securityPrograms are programs that look at connections or at starts of
// programs in the same places as the agent.
func securityPrograms() map[string]string {
	return map[string]string{
		"opensnitchd": "OpenSnitch", "portmaster-core": "Portmaster", "falcon-sensor": "CrowdStrike Falcon", "wdavdaemon": "Microsoft Defender for Endpoint",
		"s1-agent": "SentinelOne", "cbagentd": "Carbon Black", "ds_agent": "Trend Micro Deep Security", "suricata": "Suricata", "snort": "Snort",
		"fapolicyd": "fapolicyd", "falco": "Falco", "tetragon": "Tetragon", "clamonacc": "ClamAV", "sophosd": "Sophos", "esets_daemon": "ESET",
	}
}

func securitySoftware(f *Facts) []Finding {
	var found []Finding
	programs := programsOf(f, securityPrograms())
	var names []string
	for name := range programs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		found = append(found, info("%s runs (process %d)", name, programs[name]).
			means("it may hook packets or program starts too: where something is refused and no event says so, ask it"))
	}
	if len(found) == 0 {
		return ok("no other that is known runs")
	}
	return found
}

func vpn(f *Facts) []Finding {
	var names []string
	for _, i := range f.Interfaces {
		tunnel := i.Kind == "wireguard" || i.Kind == "tun" || i.Kind == "ppp" || hasPrefix(i.Name, "tun", "tap", "wg", "ppp", "tailscale", "utun")
		if i.Up && tunnel {
			names = append(names, i.Name)
		}
	}
	if len(names) == 0 {
		return ok("no tunnel is up")
	}
	return info("tunnels that are up: %s", strings.Join(names, ", ")).
		means("what programs here send through them is inspected before it is encrypted; what a program tunnels by itself is not").alone()
}

func hasPrefix(name string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// networkNamespaces names programs whose connections may not pass the agent.
func networkNamespaces(f *Facts) []Finding {
	if len(f.Namespaces) == 0 {
		return ok("all programs use this one")
	}
	var programs []string
	for _, n := range f.Namespaces {
		programs = append(programs, programText(n.Program, n.PID))
	}
	var past []string
	for _, i := range f.Interfaces {
		if slices.Contains([]string{"macvlan", "ipvlan", "macvtap"}, i.Kind) {
			past = append(past, i.Name)
		}
	}
	found := info("other ones: %d, of %s", len(programs), strings.Join(shorten(programs, 3), ", ")).
		means("what they send through this host (veth, bridge) is inspected; over macvlan, ipvlan or hardware of their own it is not")
	if len(past) > 0 {
		return warn("other ones: %d, and %s leads past this host's rules", len(programs), strings.Join(past, ", ")).
			means("connections over it are not inspected").mend("ip -d link")
	}
	return found.alone()
}
