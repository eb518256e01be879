package sniff

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// checkRefusal checks that an answer was made into a refusal, and returns it.
func checkRefusal(t *testing.T, msg, refusal []byte) *dns.Msg {
	t.Helper()
	m := unpack(t, msg, refusal)
	if m.Rcode != dns.RcodeNameError || len(m.Answer)+len(m.Ns) > 0 || m.Authoritative || m.AuthenticatedData || m.Truncated {
		t.Errorf("the refusal is %v, want NXDOMAIN without records", m)
	}
	old := new(dns.Msg)
	if err := old.Unpack(msg); err != nil {
		t.Fatal(err)
	}
	if got, want := m.IsEdns0() != nil, old.IsEdns0() != nil; got != want {
		t.Fatalf("that the refusal has EDNS is %t, want %t", got, want)
	}
	return m
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
			m := checkRefusal(t, msg, got)
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
	const header, question, optRecord, filler = 12, 15, 11, 11
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
					checkRefusal(t, msg, got)
				}
			}
		}
	}
}

func TestRefuseDNSKnowsTheLargestMessage(t *testing.T) {
	t.Parallel()
	msg := reply{name: "a.example.", kind: dns.TypeA, edns: true}.pack(t)
	if got, err := RefuseDNS(msg, RefuseOptions{Length: dns.MaxMsgSize}); err != nil || len(got) != dns.MaxMsgSize {
		t.Errorf("the largest message has %d bytes and the error %v, want %d", len(got), err, dns.MaxMsgSize)
	}
	for _, length := range []int{-1, dns.MaxMsgSize + 1} {
		if _, err := RefuseDNS(msg, RefuseOptions{Length: length}); !errors.Is(err, ErrLength) {
			t.Errorf("length %d gives the error %v, want ErrLength", length, err)
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
				checkRefusal(t, msg, got)
			})
		}
	}
}
