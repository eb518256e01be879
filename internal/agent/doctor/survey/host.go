package survey

import (
	"bufio"
	"bytes"
	"io/fs"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"interdict/internal/agent/doctor"
)

// resolving reads how programs look names up: resolv.conf(5),
// nsswitch.conf(5) and resolved.conf(5).
func resolving(root fs.FS) doctor.Resolving {
	var r doctor.Resolving
	const file = "etc/resolv.conf"
	r.File = "/" + file
	if target, err := fs.ReadLink(root, file); err == nil {
		if !path.IsAbs(target) {
			target = path.Join("/etc", target)
		}
		r.File = target
	}
	content, err := fs.ReadFile(root, strings.TrimPrefix(r.File, "/"))
	if err == nil {
		r.Servers = parseServers(content)
	}
	_, err = fs.Stat(root, "run/systemd/resolve/resolv.conf")
	r.Resolved = err == nil
	if content, err := fs.ReadFile(root, "etc/nsswitch.conf"); err == nil {
		r.Bus = r.Resolved && hasResolve(content)
	}
	r.Encrypted = encrypted(root)
	return r
}

func parseServers(content []byte) []netip.Addr {
	var servers []netip.Addr
	for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
		row := strings.Fields(lines.Text())
		if len(row) < 2 || row[0] != "nameserver" {
			continue
		}
		if addr, err := netip.ParseAddr(row[1]); err == nil {
			servers = append(servers, addr)
		}
	}
	return servers
}

// hasResolve reports whether hosts are looked up by nss-resolve.
func hasResolve(nsswitch []byte) bool {
	for lines := bufio.NewScanner(bytes.NewReader(nsswitch)); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) > 0 && words[0] == "hosts:" && slices.Contains(words, "resolve") {
			return true
		}
	}
	return false
}

// encrypted returns DNSOverTLS as resolved.conf and its drop-in files have it,
// of which a later one counts.
func encrypted(root fs.FS) string {
	files := []string{"etc/systemd/resolved.conf"}
	for _, dir := range []string{"usr/lib/systemd/resolved.conf.d", "run/systemd/resolved.conf.d", "etc/systemd/resolved.conf.d"} {
		more, err := fs.Glob(root, dir+"/*.conf")
		if err == nil {
			files = append(files, more...)
		}
	}
	value := ""
	for _, file := range files {
		content, err := fs.ReadFile(root, file)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
			if v, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), "DNSOverTLS="); ok {
				value = strings.TrimSpace(v)
			}
		}
	}
	return value
}

// interfaces reads /sys/class/net.
func interfaces(root fs.FS) []doctor.Interface {
	const dir = "sys/class/net"
	entries, err := fs.ReadDir(root, dir)
	if err != nil {
		return nil
	}
	var found []doctor.Interface
	for _, entry := range entries {
		i := doctor.Interface{Name: entry.Name()}
		flags, err := fs.ReadFile(root, path.Join(dir, i.Name, "flags"))
		if err != nil {
			continue
		}
		const up = 1 // IFF_UP of netdevice(7)
		bits, _ := strconv.ParseUint(strings.TrimPrefix(strings.TrimSpace(string(flags)), "0x"), 16, 32)
		i.Up = bits&up != 0
		if content, err := fs.ReadFile(root, path.Join(dir, i.Name, "uevent")); err == nil {
			i.Kind = kindOf(content)
		}
		if _, err := fs.Stat(root, path.Join(dir, i.Name, "tun_flags")); err == nil {
			i.Kind = "tun"
		}
		found = append(found, i)
	}
	return found
}

func kindOf(uevent []byte) string {
	for lines := bufio.NewScanner(bytes.NewReader(uevent)); lines.Scan(); {
		if kind, ok := strings.CutPrefix(lines.Text(), "DEVTYPE="); ok {
			return kind
		}
	}
	return ""
}

// firewalls returns those that write their rules once and do not run: ufw(8),
// services that load rules when the machine starts, and whoever left rules of
// the old iptables.
func firewalls(root fs.FS) []string {
	var found []string
	if content, err := fs.ReadFile(root, "etc/ufw/ufw.conf"); err == nil && slices.Contains(strings.Fields(string(content)), "ENABLED=yes") {
		found = append(found, "ufw")
	}
	for _, unit := range []string{"nftables.service", "netfilter-persistent.service", "iptables.service", "shorewall.service"} {
		if enabled(root, unit) {
			found = append(found, unit)
		}
	}
	for _, tables := range []string{"ip_tables_names", "ip6_tables_names"} {
		if content, err := fs.ReadFile(root, "proc/thread-self/net/"+tables); err == nil && len(content) > 0 {
			return append(found, "legacy iptables")
		}
	}
	return found
}

// enabled reports whether a unit of systemd is wanted by a target.
func enabled(root fs.FS, unit string) bool {
	wanted, err := fs.Glob(root, "etc/systemd/system/*.wants/"+unit)
	return err == nil && len(wanted) > 0
}

// flushingFiles returns the files of firewalls, as far as they are in use,
// that delete all rules when they are loaded.
func flushingFiles(root fs.FS) []string {
	var found []string
	// Debian and Arch load the first, Fedora the second.
	for _, f := range []struct{ file, unit string }{
		{"etc/nftables.conf", "nftables.service"},
		{"etc/sysconfig/nftables.conf", "nftables.service"},
	} {
		content, err := fs.ReadFile(root, f.file)
		if err != nil || !flushes(content) {
			continue
		}
		if enabled(root, f.unit) {
			found = append(found, "/"+f.file)
		}
	}
	return found
}

func flushes(content []byte) bool {
	for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
		if strings.HasPrefix(strings.TrimSpace(lines.Text()), "flush ruleset") {
			return true
		}
	}
	return false
}
