package sniff

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

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
				if changed {
					removeFiller(t, m.Answer[0])
				}
				if got := m.Answer[0].String(); got != want.String() {
					t.Errorf("the record is %s, want %s", got, want)
				}
				if m.Answer[1].Header().Name != "b.a.example." || m.Extra[0].Header().Name != "c.a.example." {
					t.Errorf("other names were moved: %v", m)
				}
			})
		}
	}
}

// removeFiller takes a record's last parameter off, which must be a filler.
func removeFiller(t *testing.T, rr dns.RR) {
	t.Helper()
	values := serviceOf(rr)
	n := len(*values) - 1
	filler, ok := (*values)[n].(*dns.SVCBLocal)
	if !ok || filler.KeyCode < paramPrivate || strings.Trim(string(filler.Data), "\x00") != "" {
		t.Fatalf("the last parameter is %v, want a filler", (*values)[n])
	}
	*values = (*values)[:n]
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
