package sniff

import (
	"errors"
	"fmt"
	"math/rand/v2"
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
	for _, text := range r.records {
		text, additional := strings.CutPrefix(text, "+")
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

func checkRefusal(t *testing.T, m *dns.Msg, edns bool) {
	t.Helper()
	if m.Rcode != dns.RcodeNameError || len(m.Answer)+len(m.Ns) > 0 || m.Authoritative || m.AuthenticatedData || m.Truncated {
		t.Errorf("the refusal is %v, want NXDOMAIN without records", m)
	}
	opt := m.IsEdns0()
	if (opt != nil) != edns {
		t.Fatalf("that the refusal has EDNS is %t, want %t", opt != nil, edns)
	}
}

func extendedError(m *dns.Msg) *dns.EDNS0_EDE {
	for _, o := range m.IsEdns0().Option {
		if ede, ok := o.(*dns.EDNS0_EDE); ok {
			return ede
		}
	}
	return nil
}

func TestRefuseDNS(t *testing.T) {
	t.Parallel()
	r := reply{name: "InIt.example.", kind: dns.TypeA, edns: true, records: []string{"init.example. 9 A 192.0.2.7"}}
	long := strings.Repeat("ä", 200)
	tests := []struct {
		name   string
		edns   bool
		reason string
		want   string
	}{
		{"a reason", true, "iTunes is blocked.", "iTunes is blocked."},
		{"no reason", true, "", ""},
		{"a reason that is too long", true, long, long[:maxReason]},
		{"a reason that is not UTF-8", true, "a\xffb", "a?b"},
		{"no EDNS", false, "iTunes is blocked.", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := r
			r.edns = tt.edns
			msg := r.pack(t)
			got, err := RefuseDNS(msg, RefuseOptions{Reason: tt.reason})
			if err != nil {
				t.Fatal(err)
			}
			m := unpack(t, msg, got)
			checkRefusal(t, m, tt.edns)
			if !tt.edns {
				return
			}
			want := &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeBlocked, ExtraText: tt.want}
			if diff := cmp.Diff(want, extendedError(m)); diff != "" {
				t.Errorf("the extended error is (-want +got):\n%s", diff)
			}
			if opt := m.IsEdns0(); !opt.Do() || opt.UDPSize() != 1232 {
				t.Errorf("EDNS is %v, want DO and a size of 1232 as before", opt)
			}
		})
	}
}

func TestRefuseDNSKeepsTheCookie(t *testing.T) {
	t.Parallel()
	m := new(dns.Msg).SetQuestion("a.example.", dns.TypeA)
	m.Response = true
	m.SetEdns0(1232, false)
	want := &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "24a5ac1f2b3c4d5e8f00112233445566"}
	m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_NSID{Code: dns.EDNS0NSID, Nsid: "abcd"}, want}
	msg, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	for _, length := range []int{0, len(msg), len(msg) + 100} {
		got, err := RefuseDNS(msg, RefuseOptions{Reason: "no", Length: length})
		if err != nil {
			t.Fatal(err)
		}
		first := unpack(t, msg, got).IsEdns0().Option[0]
		if c, ok := first.(*dns.EDNS0_COOKIE); !ok || c.Cookie != want.Cookie {
			t.Errorf("with length %d the first option is %v, want the cookie %v", length, first, want)
		}
	}
}

// TestRefuseDNSAtEveryLength asks for all lengths up to far above the
// answer's: each is met, or the error says that it cannot be.
func TestRefuseDNSAtEveryLength(t *testing.T) {
	t.Parallel()
	const header, question, optRecord, filler = 12, 15, 11, 12
	for _, edns := range []bool{true, false} {
		for _, reason := range []string{"", "Blöcked by policy.", strings.Repeat("x", 300)} {
			msg := reply{name: "a.example.", kind: dns.TypeA, edns: edns, records: []string{"a.example. 9 A 192.0.2.7"}}.pack(t)
			for length := 1; length < 1500; length++ {
				got, err := RefuseDNS(msg, RefuseOptions{Reason: reason, Length: length})
				room := length - header - question
				possible := room == 0 || room >= filler
				if edns {
					room -= optRecord
					possible = room == 0 || room >= optionHeader
				}
				switch {
				case !possible && !errors.Is(err, ErrLength):
					t.Fatalf("length %d with edns=%t gives the error %v, want ErrLength", length, edns, err)
				case !possible:
				case err != nil:
					t.Fatalf("length %d with edns=%t: %v", length, edns, err)
				case len(got) != length:
					t.Fatalf("length %d with edns=%t gives %d bytes", length, edns, len(got))
				default:
					checkRefusal(t, unpack(t, msg, got), edns)
				}
			}
		}
	}
}

// TestEveryAnswerCanBeRefusedInItsLength takes the answers that servers give.
func TestEveryAnswerCanBeRefusedInItsLength(t *testing.T) {
	t.Parallel()
	bodies := map[string][]string{
		"an address":    {"a.example. 9 A 192.0.2.7"},
		"an alias":      {"a.example. 9 CNAME b.example.", "b.example. 9 A 192.0.2.7"},
		"an HTTPS":      {`a.example. 60 HTTPS 1 . alpn="h2" ech="AAAA"`},
		"no data":       nil,
		"many":          slices.Repeat([]string{"a.example. 9 AAAA 2001:db8::7"}, 200),
		"a short text":  {`a.example. 9 TXT "x"`},
		"a service":     {"a.example. 9 SRV 1 1 443 b.example."},
		"a negative":    {"a.example. 9 CNAME b.example."},
		"with glue":     {"a.example. 9 NS b.example.", "+b.example. 9 A 192.0.2.7"},
		"an alias only": {"a.example. 9 CNAME ."},
	}
	for name, records := range bodies {
		for _, edns := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, edns=%t", name, edns), func(t *testing.T) {
				t.Parallel()
				msg := reply{name: "A.example.", kind: dns.TypeA, edns: edns, records: records}.pack(t)
				got, err := RefuseDNS(msg, RefuseOptions{Reason: "Blocked by policy.", Length: len(msg)})
				if err != nil {
					t.Fatal(err)
				}
				if len(got) != len(msg) {
					t.Errorf("the refusal has %d bytes, want %d", len(got), len(msg))
				}
				checkRefusal(t, unpack(t, msg, got), edns)
			})
		}
	}
}

func TestStripECH(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		before  string
		after   string // of the record, without the filler
		changed bool
	}{
		{"keys in the middle", `1 . alpn="h2" ech="AAAA" ipv6hint="2001:db8::7"`, `1 . alpn="h2" ipv6hint="2001:db8::7"`, true},
		{"keys alone", `1 . ech="AAECAwQF"`, `1 .`, true},
		{"empty keys", `1 . ech=""`, `1 .`, true},
		{"mandatory keys", `1 . mandatory="ech" ech="AAAA"`, `1 .`, true},
		{"mandatory keys among others", `1 b.example. mandatory="alpn,ech,ipv4hint" alpn="h2" ipv4hint="192.0.2.7" ech="AAAA"`, `1 b.example. mandatory="alpn,ipv4hint" alpn="h2" ipv4hint="192.0.2.7"`, true},
		{"private keys behind", `1 . ech="AAAA" key65280="x" key65300="y"`, `1 . key65280="x" key65300="y"`, true},
		{"no keys", `1 . alpn="h2"`, `1 . alpn="h2"`, false},
		{"an alias", `0 b.example.`, `0 b.example.`, false},
	}
	for _, tt := range tests {
		for _, kind := range []string{"HTTPS", "SVCB"} {
			t.Run(tt.name+", "+kind, func(t *testing.T) {
				t.Parallel()
				msg := reply{name: "A.example.", kind: dns.TypeHTTPS, edns: true, records: []string{
					"a.example. 60 " + kind + " " + tt.before, "b.a.example. 9 A 192.0.2.7", "+c.a.example. 9 A 192.0.2.8",
				}}.pack(t)
				before := slices.Clone(msg)
				got, changed, err := StripECH(msg)
				if err != nil {
					t.Fatal(err)
				}
				if changed != tt.changed || len(got) != len(msg) || !slices.Equal(msg, before) {
					t.Fatalf("changed is %t, want %t; the lengths are %d and %d", changed, tt.changed, len(msg), len(got))
				}
				m := unpack(t, msg, got)
				if m.AuthenticatedData == changed {
					t.Errorf("AD is %t after changed is %t", m.AuthenticatedData, changed)
				}
				want, err := dns.NewRR("a.example. 60 " + kind + " " + tt.after)
				if err != nil {
					t.Fatal(err)
				}
				if got := withoutFiller(t, m.Answer[0], changed); got != want.String() {
					t.Errorf("the record is %s, want %s", got, want)
				}
				if m.Answer[1].Header().Name != "b.a.example." || m.Extra[0].Header().Name != "c.a.example." {
					t.Errorf("other names were moved: %v", m)
				}
			})
		}
	}
}

// withoutFiller returns a record's text after taking its last parameter off,
// if it was changed.
func withoutFiller(t *testing.T, rr dns.RR, changed bool) string {
	t.Helper()
	if !changed {
		return rr.String()
	}
	values := serviceOf(rr)
	n := len(*values) - 1
	filler, ok := (*values)[n].(*dns.SVCBLocal)
	if !ok || filler.KeyCode < paramPrivate || strings.Trim(string(filler.Data), "\x00") != "" {
		t.Fatalf("the last parameter is %v, want a filler", (*values)[n])
	}
	*values = (*values)[:n]
	return rr.String()
}

func serviceOf(rr dns.RR) *[]dns.SVCBKeyValue {
	switch rr := rr.(type) {
	case *dns.HTTPS:
		return &rr.Value
	case *dns.SVCB:
		return &rr.Value
	default:
		return nil
	}
}

func TestStripECHRefuses(t *testing.T) {
	t.Parallel()
	pack := func(params string) []byte {
		return reply{name: "a.example.", kind: dns.TypeHTTPS, records: []string{"a.example. 60 HTTPS 1 . " + params}}.pack(t)
	}
	broken := pack(`ech="AAAA" key65280="x"`)
	broken[len(broken)-2] = 9 // the length of the last parameter
	for name, msg := range map[string][]byte{
		"no key is left":    pack(`ech="AAAA" key65534="x"`),
		"broken parameters": broken,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, changed, err := StripECH(msg); err == nil || changed {
				t.Errorf("changed is %t and the error %v, want an error", changed, err)
			}
		})
	}
}

// TestStripECHKeepsTheRest puts random parameters together.
func TestStripECHKeepsTheRest(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		random := rand.New(rand.NewPCG(seed, 3))
		var all, rest []dns.SVCBKeyValue
		for key := range dns.SVCBKey(12) {
			if key == paramMandatory || random.IntN(2) == 0 {
				continue
			}
			p := &dns.SVCBLocal{KeyCode: key + 1000*dns.SVCBKey(random.IntN(2)), Data: make([]byte, random.IntN(9))}
			if key == paramECH {
				p.KeyCode = key
			} else {
				p.KeyCode += 20
				rest = append(rest, p)
			}
			all = append(all, p)
		}
		m := new(dns.Msg).SetQuestion("a.example.", dns.TypeHTTPS)
		m.Response = true
		header := dns.RR_Header{Name: "a.example.", Rrtype: dns.TypeHTTPS, Class: dns.ClassINET, Ttl: 9}
		m.Answer = []dns.RR{&dns.HTTPS{SVCB: dns.SVCB{Hdr: header, Priority: 1, Target: ".", Value: all}}}
		msg, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		got, changed, err := StripECH(msg)
		if err != nil {
			t.Fatal(err)
		}
		values := *serviceOf(unpack(t, msg, got).Answer[0])
		if changed {
			values = values[:len(values)-1]
		}
		order := func(a, b dns.SVCBKeyValue) int { return int(a.Key()) - int(b.Key()) }
		slices.SortFunc(rest, order)
		diff := cmp.Diff(fmt.Sprint(rest), fmt.Sprint(values))
		if len(got) != len(msg) || diff != "" {
			t.Fatalf("seed %d: %d bytes become %d; the rest differs (-want +got):\n%s", seed, len(msg), len(got), diff)
		}
	}
}

func TestSplitDNSStream(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, stream string
		messages     []string
		rest         string
	}{
		{"nothing", "", nil, ""},
		{"one message", "\x00\x03abc", []string{"abc"}, ""},
		{"several messages", "\x00\x03abc\x00\x00\x00\x01d", []string{"abc", "", "d"}, ""},
		{"an incomplete second message", "\x00\x03abc\x00\x02d", []string{"abc"}, "\x00\x02d"},
		{"half a length", "\x00", nil, "\x00"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, rest := SplitDNSStream([]byte(tt.stream))
			var messages []string
			for _, m := range got {
				messages = append(messages, string(m))
			}
			if diff := cmp.Diff(tt.messages, messages); diff != "" || string(rest) != tt.rest {
				t.Errorf("the rest is %q, want %q; the messages are (-want +got):\n%s", rest, tt.rest, diff)
			}
		})
	}
}
