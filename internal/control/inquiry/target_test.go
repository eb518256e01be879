package inquiry

import (
	"net/netip"
	"testing"

	"interdict/internal/explain"
)

func TestParseTarget(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       explain.Subject
		ok         bool
	}{
		{"a host", "WWW.Example.com", explain.Subject{Host: "www.example.com"}, true},
		{"a host with a port", "example.com:8443", explain.Subject{Host: "example.com", Port: 8443}, true},
		{"an https URL, whose path nobody sees", "https://example.com/a", explain.Subject{Host: "example.com"}, true},
		{"an http URL", "http://example.com/a%2Fb", explain.Subject{Host: "example.com", Path: "/a%2Fb", Port: 80}, true},
		{"an address", "192.0.2.1", explain.Subject{IP: netip.MustParseAddr("192.0.2.1")}, true},
		{"an address in brackets", "[2001:db8::1]", explain.Subject{IP: netip.MustParseAddr("2001:db8::1")}, true},
		{"an address with a port", "https://192.0.2.1:853", explain.Subject{IP: netip.MustParseAddr("192.0.2.1"), Port: 853}, true},
		{"a port that there is not", "example.com:70000", explain.Subject{}, false},
		{"nothing", " ", explain.Subject{}, false},
		{"a public suffix", "co.uk", explain.Subject{}, false},
	} {
		if got, ok := parseTarget(test.text); ok != test.ok || got != test.want {
			t.Errorf("%s: parsing %q gives %+v, %v", test.name, test.text, got, ok)
		}
	}
}
