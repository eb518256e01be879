package sniff

import (
	"net/netip"
	"strings"
	"testing"

	"interdict/internal/event"
)

func TestSOCKSAndTunnels(t *testing.T) {
	t.Parallel()
	inside := string(records(hello{name: "a.example"}.message(), maxRecord))
	named := Finding{State: Named, Host: "a.example", Port: 443, Evidence: event.EvidenceSOCKS5}
	address := Finding{Addr: documentation, Port: 443, Evidence: event.EvidenceSOCKS5}
	v6 := address
	v6.Addr = netip.MustParseAddr("2001:db8::7")
	through := Finding{State: Named, Host: "a.example", Addr: documentation, Port: 443, Evidence: event.EvidenceTLSSNI}
	connected := through
	connected.Port = 8443
	nothingInside := address
	nothingInside.State, nothingInside.Reason = Nameless, ReasonProtocol

	const (
		greeting = "\x05\x01\x00"
		byIPv4   = "\x05\x01\x00\x01\xc0\x00\x02\x07\x01\xbb"
		connect  = "CONNECT 192.0.2.7:8443 HTTP/1.1\r\nHost: b.example\r\n\r\n"
	)
	tests := []struct {
		name   string
		stream string
		want   Finding
	}{
		{"a domain", greeting + "\x05\x01\x00\x03\x09A.Example\x01\xbb", named},
		{"a domain behind a password", "\x05\x02\x00\x02\x01\x04user\x06secret\x05\x01\x00\x03\x09a.example\x01\xbb", named},
		{"an address spelt as a domain", greeting + "\x05\x01\x00\x03\x09192.0.2.7\x01\xbb", address},
		{"an IPv4 address", greeting + byIPv4, address},
		{"an IPv6 address", greeting + "\x05\x01\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07\x01\xbb", v6},
		{"TLS through an address", greeting + byIPv4 + inside, through},
		{"nothing known through an address", greeting + byIPv4 + "\x00\x01", nothingInside},
		{"SOCKS4 with an address", "\x04\x01\x01\xbb\xc0\x00\x02\x07user\x00" + inside, through},
		{"SOCKS4a", "\x04\x01\x01\xbb\x00\x00\x00\x01\x00a.example\x00", named},
		{"TLS through a CONNECT to an address", connect + inside, connected},
		{"SOCKS through a CONNECT", connect + greeting + byIPv4 + inside, through},
		{"a chain of CONNECT without end", strings.Repeat(connect, maxTunnels+1), Finding{State: Nameless, Addr: documentation, Port: 8443, Evidence: event.EvidenceHTTPConnect, Reason: ReasonAddress}},
		{"a bad domain", greeting + "\x05\x01\x00\x03\x03a b\x01\xbb", Finding{State: Nameless, Port: 443, Evidence: event.EvidenceSOCKS5, Reason: ReasonBadName}},
		{"UDP", greeting + "\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00", nameless(ReasonMalformed)},
		{"no methods", "\x05\x00", nameless(ReasonMalformed)},
		{"an unknown kind of address", greeting + "\x05\x01\x00\x02", nameless(ReasonMalformed)},
		{"another version in the request", greeting + "\x04", nameless(ReasonMalformed)},
		{"another command of SOCKS4", "\x04\x09", nameless(ReasonMalformed)},
		{"a SOCKS4 user without end", "\x04\x01\x01\xbb\xc0\x00\x02\x07" + strings.Repeat("u", 300), nameless(ReasonMalformed)},
		{"a SOCKS4a domain without end", "\x04\x01\x01\xbb\x00\x00\x00\x01\x00" + strings.Repeat("u", 300), nameless(ReasonMalformed)},
		{"half a greeting", "\x05", Finding{}},
		{"half a password", "\x05\x01\x02\x01\x04us", Finding{}},
		{"half a request", greeting + "\x05\x01\x00\x03\x09a.ex", Finding{}},
		{"half a SOCKS4a request", "\x04\x01\x01\xbb\x00\x00\x00\x01\x00a.ex", Finding{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{1, 7, len(tt.stream)} {
				if got := addAll([]byte(tt.stream), size); got != tt.want {
					t.Errorf("in segments of %d bytes the finding is %+v, want %+v", size, got, tt.want)
				}
			}
		})
	}
}
