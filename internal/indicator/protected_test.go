package indicator_test

import (
	"errors"
	"testing"

	"interdict/internal/indicator"
)

func TestProtectedCheck(t *testing.T) {
	const why = "is where agents reach the server"
	p := indicator.NewProtected(
		indicator.Host{Name: "Interdict.Example.com.", Reason: why},
		indicator.Host{Name: "198.51.100.7", Reason: why},
		indicator.Host{Name: "[2001:db8::7]", Reason: why},
		indicator.Host{Name: "server", Reason: why},
	)
	for _, tt := range []struct {
		name   string
		typ    indicator.Type
		value  string
		refuse string
	}{
		{"the server's name", indicator.TypeDomain, "interdict.example.com", "interdict.example.com can only be allowed: it is where agents reach the server"},
		{"a name above it", indicator.TypeDomain, "example.com", "example.com can only be allowed: it covers interdict.example.com, which is where agents reach the server"},
		{"a name below it", indicator.TypeDomain, "other.interdict.example.com", ""},
		{"a sibling", indicator.TypeDomain, "www.example.com", ""},
		{"a name that ends the same", indicator.TypeDomain, "dict.example.com", ""},
		{"a url of the server", indicator.TypeURL, "http://interdict.example.com/x", "http://interdict.example.com/x can only be allowed: it covers interdict.example.com, which is where agents reach the server"},
		{"a url of the name above, which it does not cover", indicator.TypeURL, "https://example.com/", ""},
		{"a name below localhost", indicator.TypeDomain, "app.localhost", "app.localhost can only be allowed: it is this host itself"},
		{"a url below localhost", indicator.TypeURL, "http://app.localhost/", "http://app.localhost/ can only be allowed: it is this host itself"},
		{"the server's address", indicator.TypeIP, "198.51.100.7", "198.51.100.7 can only be allowed: it is where agents reach the server"},
		{"the server's IPv6 address", indicator.TypeIP, "2001:db8::7", "2001:db8::7 can only be allowed: it is where agents reach the server"},
		{"a prefix with the server in it", indicator.TypeCIDR, "198.51.100.0/24", "198.51.100.0/24 can only be allowed: it covers 198.51.100.7, which is where agents reach the server"},
		{"another address", indicator.TypeIP, "198.51.100.8", ""},
		{"loopback", indicator.TypeIP, "127.0.0.53", "127.0.0.53 can only be allowed: it is this host itself"},
		{"IPv6 loopback", indicator.TypeCIDR, "::1/128", "::1/128 can only be allowed: it is this host itself"},
		{"the unspecified address", indicator.TypeIP, "0.0.0.0", "0.0.0.0 can only be allowed: it is this host itself"},
		{"link-local", indicator.TypeIP, "fe80::1", "fe80::1 can only be allowed: it is how hosts on one link find each other and their router"},
		{"multicast", indicator.TypeIP, "224.0.0.251", "224.0.0.251 can only be allowed: it is multicast, which networks need to work"},
		{"broadcast", indicator.TypeIP, "255.255.255.255", "255.255.255.255 can only be allowed: it reaches all hosts on a link"},
		{"all of IPv4", indicator.TypeCIDR, "0.0.0.0/0", "0.0.0.0/0 can only be allowed: it covers 127.0.0.0/8, which is this host itself"},
		{"all of IPv6", indicator.TypeCIDR, "::/0", "::/0 can only be allowed: it covers ::1, which is this host itself"},
		{"a private network", indicator.TypeCIDR, "10.0.0.0/8", ""},
		{"a file", indicator.TypeFileSHA256, "00", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, action := range indicator.Actions() {
				err := p.Check(&indicator.Indicator{Type: tt.typ, Value: tt.value, Action: action})
				if tt.refuse == "" || action == indicator.ActionAllow {
					if err != nil {
						t.Errorf("Check(%s %s) = %v, want nil", action, tt.value, err)
					}
					continue
				}
				var refused *indicator.ProtectedError
				if !errors.As(err, &refused) || err.Error() != tt.refuse {
					t.Errorf("Check(%s %s) = %v, want %s", action, tt.value, err, tt.refuse)
				}
			}
		})
	}
}
