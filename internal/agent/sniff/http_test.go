package sniff

import (
	"net/netip"
	"strings"
	"testing"

	"interdict/internal/event"
)

func TestHTTP(t *testing.T) {
	t.Parallel()
	host := func(name, path string) Finding {
		return Finding{State: Named, Host: name, Path: path, Evidence: event.EvidenceHTTPHost}
	}
	absolute := func(name, path string, port uint16) Finding {
		f := host(name, path)
		f.Port = port
		return f
	}
	bad := Finding{State: Nameless, Path: "/", Reason: ReasonBadName, Evidence: event.EvidenceHTTPHost}
	tests := []struct {
		name   string
		stream string
		want   Finding
	}{
		{"origin form", "GET /a/b?c=d HTTP/1.1\r\nAccept: */*\r\nHost: A.Example\r\n\r\n", host("a.example", "/a/b")},
		{"a port in Host", "POST / HTTP/1.1\r\nhost:a.example:8080\r\n\r\n", host("a.example", "/")},
		{"any method", "M-SEARCH / HTTP/1.1\r\nHOST: a.example\r\n\r\n", host("a.example", "/")},
		{"asterisk form", "OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n", host("a.example", "")},
		{"bare line feeds", "GET / HTTP/1.0\nHost: a.example\n\n", host("a.example", "/")},
		{"empty lines in front", "\r\n\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n", host("a.example", "/")},
		{"a folded Host", "GET / HTTP/1.1\r\nHost:\r\n a.example\r\n\r\n", host("a.example", "/")},
		{"a folded header before Host", "GET / HTTP/1.1\r\nX: y\r\n\tHost: b.example\r\nHost: a.example\r\n\r\n", host("a.example", "/")},
		{"white space around", "GET / HTTP/1.1\r\nHost \t: \t a.example \t\r\n\r\n", host("a.example", "/")},
		{"two Host fields", "GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n", host("a.example", "/")},
		{"absolute form", "GET http://a.example/x?y HTTP/1.1\r\nHost: b.example\r\n\r\n", absolute("a.example", "/x", 80)},
		{"absolute form with everything", "GET HTTPS://u:p@A.example:8443?q HTTP/1.1\r\n\r\n", absolute("a.example", "/", 8443)},
		{"absolute form without a path", "GET wss://a.example HTTP/1.1\r\n\r\n", absolute("a.example", "/", 443)},
		{"absolute form of another scheme", "GET ftp://a.example/f HTTP/1.1\r\n\r\n", absolute("a.example", "/f", 0)},
		{"a URL in the path", "GET /http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", host("a.example", "/http://b.example/")},
		{"CONNECT", "CONNECT a.example:443 HTTP/1.1\r\n", Finding{State: Named, Host: "a.example", Port: 443, Evidence: event.EvidenceHTTPConnect}},
		{"CONNECT with a wrong port", "CONNECT a.example:99999 HTTP/1.1\r\n", nameless(ReasonBadName)},
		{"an IPv4 address", "GET / HTTP/1.1\r\nHost: 192.0.2.7:80\r\n\r\n", Finding{State: Nameless, Addr: documentation, Path: "/", Reason: ReasonAddress, Evidence: event.EvidenceHTTPHost}},
		{"an IPv6 address", "GET / HTTP/1.1\r\nHost: [2001:db8::7]:80\r\n\r\n", Finding{State: Nameless, Addr: netip.MustParseAddr("2001:db8::7"), Path: "/", Reason: ReasonAddress, Evidence: event.EvidenceHTTPHost}},
		{"no Host", "GET / HTTP/1.0\r\nAccept: */*\r\n\r\n", Finding{State: Nameless, Path: "/", Reason: ReasonNoName}},
		{"an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", Finding{State: Nameless, Path: "/", Reason: ReasonNoName}},
		{"a Host with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", bad},
		{"a Host with an empty label", "GET / HTTP/1.1\r\nHost: a..example\r\n\r\n", bad},
		{"a Host with a long label", "GET / HTTP/1.1\r\nHost: " + strings.Repeat("a", 64) + ".example\r\n\r\n", bad},
		{"a Host that is too long", "GET / HTTP/1.1\r\nHost: " + strings.Repeat("a.", 127) + "a\r\n\r\n", bad},
		{"a number for a Host", "GET / HTTP/1.1\r\nHost: 2130706433\r\n\r\n", bad},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", nameless(ReasonHTTP2)},
		{"HTTP/0.9", "GET /\r\n", nameless(ReasonProtocol)},
		{"a target of no form", "GET a.example HTTP/1.1\r\n", nameless(ReasonMalformed)},
		{"SSH", "SSH-2.0-OpenSSH_9.2p1 Debian\r\n", nameless(ReasonProtocol)},
		{"SMTP", "EHLO client.example\r\n", nameless(ReasonProtocol)},
		{"a long word", strings.Repeat("A", 30), nameless(ReasonProtocol)},
		{"binary", "\x00\x01\x02", nameless(ReasonProtocol)},
		{"a request line without end", "GET /" + strings.Repeat("a", MaxHeld), nameless(ReasonLimit)},
		{"half a request", "GET / HTTP/1.1\r\nHost: a.exam", Finding{}},
		{"a Host that may go on", "GET / HTTP/1.1\r\nHost: a.example\r\n", Finding{}},
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
