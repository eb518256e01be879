package internet

import (
	"bufio"
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func newInternet(t *testing.T) *Internet {
	t.Helper()
	ech, err := newECHKey("outer.example")
	if err != nil {
		t.Fatal(err)
	}
	return &Internet{ech: ech, cfg: Config{
		IPv4:   netip.MustParsePrefix("203.0.113.0/24"),
		IPv6:   netip.MustParsePrefix("2001:db8:1::/64"),
		Hosts:  map[string][]netip.Addr{"hq.lab.example": {netip.MustParseAddr("198.51.100.2")}},
		Logger: slog.New(slog.DiscardHandler),
	}}
}

func TestAddrsAreStableAndInsideThePrefixes(t *testing.T) {
	in := newInternet(t)
	seen := make(map[netip.Addr]bool)
	for _, name := range []string{"a.example", "b.example", "c.example", "d.example"} {
		addrs := in.Addrs(name)
		if len(addrs) != 2 || !in.cfg.IPv4.Contains(addrs[0]) || !in.cfg.IPv6.Contains(addrs[1]) {
			t.Fatalf("Addrs(%q) = %v", name, addrs)
		}
		if again := in.Addrs(strings.ToUpper(name) + "."); again[0] != addrs[0] || again[1] != addrs[1] {
			t.Errorf("Addrs(%q) is %v with capitals and a dot, %v without", name, again, addrs)
		}
		seen[addrs[1]] = true
	}
	if len(seen) != 4 {
		t.Errorf("four names have %d IPv6 addresses", len(seen))
	}
}

func TestAnswer(t *testing.T) {
	in := newInternet(t)
	tests := []struct {
		name    string
		query   string
		qtype   uint16
		rcode   int
		answers int
	}{
		{"an address", "www.example.com.", dns.TypeA, dns.RcodeSuccess, 1},
		{"an IPv6 address", "www.example.com.", dns.TypeAAAA, dns.RcodeSuccess, 1},
		{"a given address", "HQ.lab.example.", dns.TypeA, dns.RcodeSuccess, 1},
		{"a given name has no other family", "hq.lab.example.", dns.TypeAAAA, dns.RcodeSuccess, 0},
		{"a missing name", "missing.example.com.", dns.TypeA, dns.RcodeNameError, 0},
		{"an HTTPS record", "ech.example.com.", dns.TypeHTTPS, dns.RcodeSuccess, 1},
		{"an SVCB record", "ech.example.com.", dns.TypeSVCB, dns.RcodeSuccess, 1},
		{"no HTTPS record", "www.example.com.", dns.TypeHTTPS, dns.RcodeSuccess, 0},
		{"a type nobody has", "www.example.com.", dns.TypeMX, dns.RcodeSuccess, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := new(dns.Msg).SetQuestion(tt.query, tt.qtype)
			a := in.answer(q)
			if a.Rcode != tt.rcode || len(a.Answer) != tt.answers {
				t.Errorf("got rcode %d with %d answers, want %d with %d:\n%s", a.Rcode, len(a.Answer), tt.rcode, tt.answers, a)
			}
			if _, err := a.Pack(); err != nil {
				t.Errorf("packing the answer: %v", err)
			}
			if a.IsEdns0() != nil {
				t.Error("the answer has EDNS, the query has not")
			}
		})
	}
}

func TestAnswerFollowsEDNS(t *testing.T) {
	in := newInternet(t)
	q := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA).SetEdns0(4096, true)
	if opt := in.answer(q).IsEdns0(); opt == nil || !opt.Do() || opt.UDPSize() != udpSize {
		t.Errorf("got OPT %v, want DO and %d", opt, udpSize)
	}
	q.IsEdns0().SetVersion(1)
	if a := in.answer(q); a.Rcode != dns.RcodeBadVers || len(a.Answer) != 0 {
		t.Errorf("EDNS version 1 got rcode %d with %d answers", a.Rcode, len(a.Answer))
	}
}

func TestBadQueriesAreRefused(t *testing.T) {
	in := newInternet(t)
	chaos := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA)
	chaos.Question[0].Qclass = dns.ClassCHAOS
	update := new(dns.Msg).SetUpdate("example.com.")
	for name, q := range map[string]*dns.Msg{"no question": {}, "another class": chaos, "an update": update} {
		if a := in.answer(q); a.Rcode == dns.RcodeSuccess {
			t.Errorf("%s was answered:\n%s", name, a)
		}
	}
}

func TestSOCKSRequest(t *testing.T) {
	tests := []struct {
		name, in, want string // want is empty for an error
	}{
		{"a name", "\x05\x01\x00\x05\x01\x00\x03\x0bwww.example\x01\xbb", "www.example:443"},
		{"an IPv4 address and two methods", "\x05\x02\x00\x02\x05\x01\x00\x01\xcb\x00\x71\x09\x00\x50", "203.0.113.9:80"},
		{"an IPv6 address", "\x05\x01\x00\x05\x01\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x50", "[2001:db8::1]:80"},
		{"version 4", "\x04\x01\x00\x50\xcb\x00\x71\x09\x00", ""},
		{"another command", "\x05\x01\x00\x05\x02\x00\x01\xcb\x00\x71\x09\x00\x50", ""},
		{"another address type", "\x05\x01\x00\x05\x01\x00\x09\x00", ""},
		{"a name that is cut", "\x05\x01\x00\x05\x01\x00\x03\x0bwww", ""},
		{"nothing", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			got, err := socksRequest(bufio.NewReader(strings.NewReader(tt.in)), &out)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func FuzzSOCKSRequest(f *testing.F) {
	f.Add([]byte("\x05\x01\x00\x05\x01\x00\x03\x0bwww.example\x01\xbb"))
	f.Add([]byte("\x05\xff\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		got, err := socksRequest(bufio.NewReader(bytes.NewReader(in)), &out)
		if (err == nil) != (got != "") {
			t.Errorf("got %q with error %v", got, err)
		}
	})
}

func TestLeavesAreKept(t *testing.T) {
	ca, err := NewCA()
	if err != nil {
		t.Fatal(err)
	}
	a, err := ca.Leaf("WWW.example.com.")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := ca.Leaf("www.example.com"); err != nil || a != b {
		t.Errorf("the second certificate of a name is another one, %v", err)
	}
}
