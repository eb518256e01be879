package sniff

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/miekg/dns"
)

// reply describes an answer to be built. Records are in zone file syntax, a
// leading "+" puts one into the additional section.
type reply struct {
	name    string
	kind    uint16
	rcode   int
	edns    bool
	plain   bool // without name compression
	records []string
}

func (r reply) pack(tb testing.TB) []byte {
	tb.Helper()
	m := new(dns.Msg).SetQuestion(r.name, r.kind)
	m.Id = 0x1234
	m.Response, m.RecursionAvailable, m.AuthenticatedData, m.Authoritative = true, true, true, true
	m.Rcode = r.rcode
	m.Compress = !r.plain
	for _, line := range r.records {
		text, additional := strings.CutPrefix(line, "+")
		rr, err := dns.NewRR(text)
		if err != nil {
			tb.Fatalf("reading %q: %v", text, err)
		}
		if additional {
			m.Extra = append(m.Extra, rr)
		} else {
			m.Answer = append(m.Answer, rr)
		}
	}
	if r.edns {
		m.SetEdns0(1232, true)
	}
	b, err := m.Pack()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func TestParseDNSAnswer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		reply reply
		want  DNSAnswer
	}{
		{
			"addresses, the name in mixed case",
			reply{name: "Init.iTunes.Apple.com.", kind: dns.TypeA, records: []string{
				"init.itunes.apple.com. 300 A 192.0.2.7", "init.itunes.apple.com. 200 A 192.0.2.8", "init.itunes.apple.com. 400 A 192.0.2.7",
			}},
			DNSAnswer{Name: peerHost, Type: dns.TypeA, Addrs: addrs("192.0.2.7", "192.0.2.8"), TTL: 200 * time.Second},
		},
		{
			"a chain of aliases",
			reply{name: "a.example.", kind: dns.TypeAAAA, records: []string{
				"a.example. 9 CNAME b.example.", "b.example. 5 CNAME C.Example.", "c.example. 7 AAAA 2001:db8::7", "c.example. 7 AAAA ::ffff:192.0.2.7",
			}},
			DNSAnswer{Name: "a.example", Type: dns.TypeAAAA, Addrs: addrs("2001:db8::7", "192.0.2.7"), Chain: []string{"b.example", "c.example"}, TTL: 5 * time.Second},
		},
		{
			"a chain out of order",
			reply{name: "a.example.", kind: dns.TypeA, plain: true, records: []string{
				"c.example. 9 A 192.0.2.7", "b.example. 9 CNAME c.example.", "a.example. 9 CNAME b.example.",
			}},
			DNSAnswer{Name: "a.example", Type: dns.TypeA, Addrs: addrs("192.0.2.7"), Chain: []string{"b.example", "c.example"}, TTL: 9 * time.Second},
		},
		{
			"a loop of aliases",
			reply{name: "a.example.", kind: dns.TypeA, records: []string{"a.example. 9 CNAME b.example.", "b.example. 9 CNAME a.example."}},
			DNSAnswer{Name: "a.example", Type: dns.TypeA, Chain: []string{"b.example"}, TTL: 9 * time.Second},
		},
		{
			"addresses of other names",
			reply{name: "a.example.", kind: dns.TypeA, records: []string{"b.example. 9 A 192.0.2.7", "a.example. 9 CH A 192.0.2.8"}},
			DNSAnswer{Name: "a.example", Type: dns.TypeA},
		},
		{
			"hints and keys of an HTTPS record",
			reply{name: "a.example.", kind: dns.TypeHTTPS, edns: true, records: []string{
				`a.example. 60 HTTPS 1 . alpn="h2,h3" ipv4hint="192.0.2.7,192.0.2.8" ech="AAAA" ipv6hint="2001:db8::7"`,
			}},
			DNSAnswer{Name: "a.example", Type: dns.TypeHTTPS, Addrs: addrs("192.0.2.7", "192.0.2.8", "2001:db8::7"), HasECH: true, TTL: time.Minute},
		},
		{
			"keys of another name in the additional section",
			reply{name: "a.example.", kind: dns.TypeHTTPS, records: []string{
				"a.example. 60 HTTPS 0 b.example.", `+b.example. 60 HTTPS 1 . ech="AAAA"`,
			}},
			DNSAnswer{Name: "a.example", Type: dns.TypeHTTPS, Chain: []string{"b.example"}, HasECH: true, TTL: time.Minute},
		},
		{
			"a service elsewhere, with its address",
			reply{name: "a.example.", kind: dns.TypeHTTPS, records: []string{
				"a.example. 60 HTTPS 0 svc.example.", "+svc.example. 30 A 192.0.2.7",
			}},
			DNSAnswer{Name: "a.example", Type: dns.TypeHTTPS, Addrs: addrs("192.0.2.7"), Chain: []string{"svc.example"}, TTL: 30 * time.Second},
		},
		{"a TTL of a week", reply{name: "a.example.", kind: dns.TypeA, records: []string{"a.example. 604800 A 192.0.2.7"}}, DNSAnswer{Name: "a.example", Type: dns.TypeA, Addrs: addrs("192.0.2.7"), TTL: maxTTL}},
		{"a TTL of zero", reply{name: "a.example.", kind: dns.TypeA, records: []string{"a.example. 0 A 192.0.2.7", "a.example. 9 A 192.0.2.8"}}, DNSAnswer{Name: "a.example", Type: dns.TypeA, Addrs: addrs("192.0.2.7", "192.0.2.8")}},
		{"a TTL that is negative", reply{name: "a.example.", kind: dns.TypeA, records: []string{"a.example. 4294967295 A 192.0.2.7"}}, DNSAnswer{Name: "a.example", Type: dns.TypeA, Addrs: addrs("192.0.2.7")}},
		{"no such name", reply{name: "a.example.", kind: dns.TypeA, rcode: dns.RcodeNameError}, DNSAnswer{Name: "a.example", Type: dns.TypeA, RCode: 3}},
		{"a response code that needs EDNS", reply{name: "a.example.", kind: dns.TypeA, rcode: dns.RcodeBadVers, edns: true}, DNSAnswer{Name: "a.example", Type: dns.TypeA, RCode: 16}},
		{"a dot inside a label", reply{name: `a\.b.example.`, kind: dns.TypeA}, DNSAnswer{Name: `a\.b.example`, Type: dns.TypeA}},
		{"the root", reply{name: ".", kind: dns.TypeNS}, DNSAnswer{Type: dns.TypeNS}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseDNSAnswer(tt.reply.pack(t))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("the answer is (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBrokenDNSIsAnError(t *testing.T) {
	t.Parallel()
	good := reply{name: "a.example.", kind: dns.TypeA, records: []string{"a.example. 9 A 192.0.2.7"}}.pack(t)
	with := func(off int, b ...byte) []byte {
		m := slices.Clone(good)
		copy(m[off:], b)
		return m
	}
	tests := []struct {
		name string
		msg  []byte
		want string
	}{
		{"nothing", nil, "less than a header"},
		{"another opcode", with(2, 0xa8), "opcode 5"},
		{"no question", with(4, 0, 0), "0 questions"},
		{"a compressed question", with(12, 0xc0, 12), "question is broken"},
		{"a label of an unknown kind", with(12, 0x40), "question is broken"},
		{"another class", with(len(good)-18, 0, 3), "class 3"},
		{"more records than there are", with(6, 0, 9), "record 2 of 9"},
		{"half a record", good[:len(good)-1], "record 1 of 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, parseErr := ParseDNSAnswer(tt.msg)
			_, refuseErr := RefuseDNS(tt.msg, RefuseOptions{})
			_, _, stripErr := StripECH(tt.msg)
			for _, err := range []error{parseErr, refuseErr, stripErr} {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("the error is %v, want one with %q", err, tt.want)
				}
			}
		})
	}
	if _, err := ParseDNSAnswer(with(2, 0x01)); err == nil {
		t.Error("a query is taken for an answer")
	}
}

// unpack reads a message with miekg/dns and checks what all rewritten
// messages have in common with the old one.
func unpack(t *testing.T, old, rewritten []byte) *dns.Msg {
	t.Helper()
	before, after := new(dns.Msg), new(dns.Msg)
	if err := before.Unpack(old); err != nil {
		t.Fatal(err)
	}
	if err := after.Unpack(rewritten); err != nil {
		t.Fatalf("unpacking %x: %v", rewritten, err)
	}
	if after.Id != before.Id || !after.Response || after.RecursionDesired != before.RecursionDesired ||
		after.RecursionAvailable != before.RecursionAvailable || after.CheckingDisabled != before.CheckingDisabled {
		t.Errorf("the header is %+v, was %+v", after.MsgHdr, before.MsgHdr)
	}
	if diff := cmp.Diff(before.Question, after.Question); diff != "" {
		t.Errorf("the question differs (-before +after):\n%s", diff)
	}
	return after
}
