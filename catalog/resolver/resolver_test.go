package resolver

import (
	"net/netip"
	"strings"
	"testing"
)

func load(t *testing.T) *List {
	t.Helper()
	l, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestTheBuiltInListIsThere(t *testing.T) {
	l := load(t)
	if n := len(l.All()); n < 300 {
		t.Errorf("there are only %d services", n)
	}
	for _, host := range []string{"cloudflare-dns.com", "mozilla.cloudflare-dns.com", "dns.google", "dns.quad9.net", "doh.dns.apple.com", "mask.icloud.com", "abcdef.dns.nextdns.io"} {
		if l.ByName(host) == nil {
			t.Errorf("%s is no service", host)
		}
	}
	for _, host := range []string{"", ".", "google", "cloudflare.com", "icloud.com", "quad9.net", "use-application-dns.net", strings.Repeat("a.", 500) + "example"} {
		if r := l.ByName(host); r != nil {
			t.Errorf("%s is the service %s", host, r.Name)
		}
	}
}

func TestAnAddressIsAServiceAtSomePorts(t *testing.T) {
	l := load(t)
	for _, tt := range []struct {
		addr string
		port uint16
		want string
	}{
		{"9.9.9.9", 443, "dns.quad9.net"},
		{"::ffff:9.9.9.9", 443, "dns.quad9.net"},
		{"2620:fe::fe", 853, "dns.quad9.net"},
		{"1.1.1.1", 8443, "cloudflare-dns.com"},
		{"9.9.9.9", 53, ""},
		{"9.9.9.9", 80, ""},
		{"9.9.9.9", 0, ""},
		{"192.0.2.1", 443, ""},
		{"192.0.2.1", 853, "port-853"},
		{"2001:db8::1", 853, "port-853"},
		{"127.0.0.1", 853, ""},
		{"::ffff:127.0.0.1", 853, ""},
		{"::1", 853, ""},
		// Shared with unrelated sites.
		{"104.16.248.249", 443, ""},
	} {
		got := ""
		if r := l.ByAddress(netip.MustParseAddr(tt.addr), tt.port); r != nil {
			got = r.Name
		}
		if got != tt.want {
			t.Errorf("%s port %d: got the service %q, want %q", tt.addr, tt.port, got, tt.want)
		}
	}
	if r := l.ByAddress(netip.Addr{}, 853); r == nil {
		t.Error("port 853 of an address that is not known is no service")
	}
}

func TestTitle(t *testing.T) {
	l := load(t)
	for want, r := range map[string]*Resolver{
		"Encrypted DNS (Quad9)":         l.ByName("dns.quad9.net"),
		"Encrypted DNS (doh.sandbox)":   {Name: "doh.sandbox", Protocols: []Protocol{DoH}},
		"Encrypted DNS":                 l.ByAddress(netip.Addr{}, PortDoT),
		"Encrypted DNS (Private Relay)": {Name: "a.example", Protocols: []Protocol{Relay}, Operator: "Private Relay"},
	} {
		if got := r.Title(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestFindingDoesNotAllocate(t *testing.T) {
	l := load(t)
	addr := netip.MustParseAddr("203.0.113.7")
	if n := testing.AllocsPerRun(100, func() { l.ByName("www.a.example.com"); l.ByAddress(addr, 443) }); n != 0 {
		t.Errorf("it allocates %v times", n)
	}
}

func TestEveryFaultOfAListIsTold(t *testing.T) {
	_, err := parse(strings.Join([]string{
		"# a comment", "",
		"b.example doh 198.51.100.1 Somebody",
		"a.example doh -",
		"c.example doh",
		"C.example doh -",
		"d.example dnscrypt -",
		"e.example doh 10.0.0.1",
		"f.example doh 2001:0db8::1",
	}, "\n"))
	if err == nil {
		t.Fatal("the list was taken")
	}
	for _, want := range []string{
		"line 4: a.example is out of order", "line 5: name, protocols or addresses are missing", `line 6: "C.example" is no name`,
		`line 7: the protocol "dnscrypt"`, `line 8: "10.0.0.1" is no public address`, `line 9: "2001:0db8::1" is no public address`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
}
