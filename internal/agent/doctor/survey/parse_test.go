package survey

import (
	"encoding/binary"
	"io/fs"
	"net/netip"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"interdict/internal/agent/doctor"
)

func TestQueuesAreReadWithTheirListeners(t *testing.T) {
	const table = " 5770   4711     2 2  65531     3     1       12  1\n" +
		"   40 3141592653     0 2   1500     0     0        0  1\n" +
		"damaged\n"
	want := []queue{
		{doctor.Queue{Number: 5770, Waiting: 2, Dropped: 4}, 4711},
		{doctor.Queue{Number: 40}, 3141592653},
	}
	if diff := cmp.Diff(want, parseQueues([]byte(table)), cmp.AllowUnexported(queue{})); diff != "" {
		t.Errorf("queues (-want +got):\n%s", diff)
	}
	const sockets = `sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
0000000000000000 0   4711       00000000 0        0        0     2        0        11
0000000000000000 12  4711       00000000 0        0        0     2        0        22
0000000000000000 12  3141592653 00000000 0        0        0     2        0        33
`
	if diff := cmp.Diff(map[uint32]uint64{4711: 22, 3141592653: 33}, parseNetlink([]byte(sockets))); diff != "" {
		t.Errorf("inodes by port (-want +got):\n%s", diff)
	}
}

// word writes 32 bits of an address as this machine's kernel does.
func word(a, b, c, d byte) uint32 { return binary.NativeEndian.Uint32([]byte{a, b, c, d}) }

func TestOnlyConnectedSocketsCount(t *testing.T) {
	if word(1, 0, 0, 0) != 1 {
		t.Skip("the table below is of a little-endian machine")
	}
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 100 1 0
   1: 0A0200C0:A3E2 087100CB:0355 01 00000000:00000000 00:00000000 00000000  1000        0 101 1 0
   2: 0A0200C0:A3E4 087100CB:01BB 06 00000000:00000000 00:00000000 00000000     0        0 0 1 0
   3: 00000000000000000000000000000000:0000 B80D0120000000000000000008000000:01BB 01 00000000:00000000 00:00000000 00000000     0        0 102 1 0
`
	want := []connection{
		{netip.MustParseAddrPort("203.0.113.8:853"), 101},
		{netip.MustParseAddrPort("[2001:db8::8]:443"), 102},
	}
	got := parseConnections([]byte(table))
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(connection{}), cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("connections (-want +got):\n%s", diff)
	}
}

func FuzzTables(f *testing.F) {
	f.Add([]byte(" 5770   4711     2 2  65531     3     1       12  1\n"))
	f.Add([]byte("   1: 0A0200C0:A3E2 087100CB:0355 01 0:0 0:0 0  1000        0 101 1 0\n"))
	f.Add([]byte("0000000000000000 12  4711       00000000 0        0        0     2        0        22\n"))
	f.Add([]byte("nameserver 192.0.2.53\nhosts: files resolve\nDEVTYPE=wireguard\nflush ruleset\n"))
	f.Fuzz(func(_ *testing.T, table []byte) {
		parseQueues(table)
		parseNetlink(table)
		parseConnections(table)
		parseServers(table)
		hasResolve(table)
		kindOf(table)
		flushes(table)
	})
}

func text(content string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(content)} }

func link(target string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
}

func TestHowNamesAreLookedUpIsRead(t *testing.T) {
	stub := "nameserver 127.0.0.53\noptions edns0\n"
	for name, test := range map[string]struct {
		root fstest.MapFS
		want doctor.Resolving
	}{
		"a plain file": {
			fstest.MapFS{"etc/resolv.conf": text("# by hand\nnameserver 192.0.2.53\nnameserver 2001:db8::53\nnameserver x\n")},
			doctor.Resolving{File: "/etc/resolv.conf", Servers: []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("2001:db8::53")}},
		},
		"the stub of systemd-resolved": {
			fstest.MapFS{
				"etc/resolv.conf": link("../run/systemd/resolve/stub-resolv.conf"), "run/systemd/resolve/stub-resolv.conf": text(stub),
				"run/systemd/resolve/resolv.conf": text(""), "etc/nsswitch.conf": text("passwd: files\nhosts: files dns\n"),
			},
			doctor.Resolving{File: "/run/systemd/resolve/stub-resolv.conf", Servers: []netip.Addr{netip.MustParseAddr("127.0.0.53")}, Resolved: true},
		},
		"systemd-resolved by its own protocol, over TLS": {
			fstest.MapFS{
				"etc/resolv.conf": link("/run/systemd/resolve/stub-resolv.conf"), "run/systemd/resolve/stub-resolv.conf": text(stub),
				"run/systemd/resolve/resolv.conf": text(""), "etc/nsswitch.conf": text("hosts: mymachines resolve [!UNAVAIL=return] files dns\n"),
				"etc/systemd/resolved.conf": text("[Resolve]\n#DNSOverTLS=no\nDNSOverTLS=no\n"), "etc/systemd/resolved.conf.d/50.conf": text("DNSOverTLS=yes\n"),
			},
			doctor.Resolving{
				File: "/run/systemd/resolve/stub-resolv.conf", Servers: []netip.Addr{netip.MustParseAddr("127.0.0.53")},
				Resolved: true, Bus: true, Encrypted: "yes",
			},
		},
		"nothing at all": {fstest.MapFS{}, doctor.Resolving{File: "/etc/resolv.conf"}},
	} {
		if diff := cmp.Diff(test.want, resolving(test.root), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestInterfacesAreReadWithTheirKind(t *testing.T) {
	root := fstest.MapFS{
		"sys/class/net/lo/flags": text("0x9\n"), "sys/class/net/lo/uevent": text("INTERFACE=lo\nIFINDEX=1\n"),
		"sys/class/net/wg0/flags": text("0x10091\n"), "sys/class/net/wg0/uevent": text("DEVTYPE=wireguard\nINTERFACE=wg0\n"),
		"sys/class/net/vpn/flags": text("0x1090\n"), "sys/class/net/vpn/tun_flags": text("0x1001\n"),
	}
	want := []doctor.Interface{{Name: "lo", Up: true}, {Name: "vpn", Kind: "tun"}, {Name: "wg0", Kind: "wireguard", Up: true}}
	if diff := cmp.Diff(want, interfaces(root)); diff != "" {
		t.Errorf("interfaces (-want +got):\n%s", diff)
	}
}

func TestAFirewallThatDeletesAllRulesIsNamedIfItIsUsed(t *testing.T) {
	const wants = "etc/systemd/system/sysinit.target.wants/nftables.service"
	flushing := text("#!/usr/sbin/nft -f\n\nflush ruleset\n")
	for name, test := range map[string]struct {
		root fstest.MapFS
		want []string
	}{
		"used":              {fstest.MapFS{"etc/nftables.conf": flushing, wants: text("")}, []string{"/etc/nftables.conf"}},
		"not used":          {fstest.MapFS{"etc/nftables.conf": flushing}, nil},
		"used and harmless": {fstest.MapFS{"etc/nftables.conf": text("# flush ruleset\n"), wants: text("")}, nil},
	} {
		if diff := cmp.Diff(test.want, flushingFiles(test.root)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestFirewallsThatDoNotRunAreFound(t *testing.T) {
	for name, test := range map[string]struct {
		root fstest.MapFS
		want []string
	}{
		"none":           {fstest.MapFS{"etc/ufw/ufw.conf": text("ENABLED=no\n")}, nil},
		"ufw":            {fstest.MapFS{"etc/ufw/ufw.conf": text("# ufw\nENABLED=yes\nLOGLEVEL=low\n")}, []string{"ufw"}},
		"a service":      {fstest.MapFS{"etc/systemd/system/multi-user.target.wants/netfilter-persistent.service": text("")}, []string{"netfilter-persistent.service"}},
		"old iptables":   {fstest.MapFS{"proc/thread-self/net/ip_tables_names": text("filter\n")}, []string{"legacy iptables"}},
		"unused modules": {fstest.MapFS{"proc/thread-self/net/ip_tables_names": text("")}, nil},
	} {
		if diff := cmp.Diff(test.want, firewalls(test.root)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestProgramsAreFoundWithTheirSocketsAndNamespaces(t *testing.T) {
	proc := fstest.MapFS{
		"thread-self/ns/net": link("net:[1]"),
		"1/comm":             text("systemd\n"), "1/ns/net": link("net:[1]"),
		"7/comm": text("suricata\n"), "7/ns/net": link("net:[1]"), "7/fd/3": link("socket:[55]"), "7/fd/4": link("/dev/null"), "7/fd/5": link("socket:[56]"),
		"2/comm": text("kthreadd\n"), "2/ns/net": link("net:[3]"), "2/cmdline": text(""),
		"8/comm": text("nginx\n"), "8/ns/net": link("net:[2]"), "8/cmdline": text("nginx\x00"),
		"9/comm": text("nginx\n"), "9/ns/net": link("net:[2]"),
		"self/comm": text("x\n"), "10/stat": text(""),
	}
	got := findPrograms(proc, map[uint64]bool{55: true})
	if diff := cmp.Diff(map[uint64]doctor.Program{55: {PID: 7, Name: "suricata"}}, got.owners); diff != "" {
		t.Errorf("owners (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]doctor.Namespace{{Program: "nginx", PID: 8}}, got.namespaces); diff != "" {
		t.Errorf("namespaces (-want +got):\n%s", diff)
	}
	if len(got.all) != 5 {
		t.Errorf("got %+v, want five programs", got.all)
	}
}
