package indicator_test

import (
	"errors"
	"strings"
	"testing"

	"interdict/internal/indicator"
)

func TestParseReturnsTheCanonicalForm(t *testing.T) {
	sha256 := strings.Repeat("0123456789abcdef", 4)
	for _, tt := range []struct {
		name        string
		typ         indicator.Type
		value, want string
	}{
		{"a domain as it should be", indicator.TypeDomain, "itunes.apple.com", "itunes.apple.com"},
		{"a domain in upper case", indicator.TypeDomain, "iTunes.Apple.COM", "itunes.apple.com"},
		{"a domain with a trailing dot", indicator.TypeDomain, "example.com.", "example.com"},
		{"a domain in white space", indicator.TypeDomain, " example.com\n", "example.com"},
		{"an internationalised domain", indicator.TypeDomain, "Bücher.example", "xn--bcher-kva.example"},
		{"an internationalised domain with ideographic dots", indicator.TypeDomain, "例え。テスト", "xn--r8jz45g.xn--zckzah"},
		{"A-labels in upper case", indicator.TypeDomain, "XN--BCHER-KVA.example", "xn--bcher-kva.example"},
		{"a name of the list's private section", indicator.TypeDomain, "github.io", "github.io"},
		{"another one, of which a wildcard rule makes many", indicator.TypeDomain, "ngrok-free.app", "ngrok-free.app"},
		{"a name below a public suffix", indicator.TypeDomain, "example.co.uk", "example.co.uk"},
		{"a name below no known suffix", indicator.TypeDomain, "intranet.corp", "intranet.corp"},
		{"underscores", indicator.TypeDomain, "_sip._tcp.example.com", "_sip._tcp.example.com"},
		{"hyphens where A-labels have theirs", indicator.TypeDomain, "r3---sn-4g5e6nez.example.com", "r3---sn-4g5e6nez.example.com"},
		{"the longest label", indicator.TypeDomain, strings.Repeat("a", 63) + ".example", strings.Repeat("a", 63) + ".example"},

		{"a url without a path", indicator.TypeURL, "http://example.com", "http://example.com/"},
		{"a url with a path", indicator.TypeURL, "http://example.com/a/b", "http://example.com/a/b"},
		{"a url in upper case", indicator.TypeURL, "HTTP://Example.COM./Path", "http://example.com/Path"},
		{"a slash at the end of a path", indicator.TypeURL, "http://example.com/a/", "http://example.com/a"},
		{"dot segments and empty ones", indicator.TypeURL, "http://example.com//a/./b/../c", "http://example.com/a/c"},
		{"dot segments above the root", indicator.TypeURL, "http://example.com/../../a", "http://example.com/a"},
		{"needless percent-encoding", indicator.TypeURL, "http://example.com/%61%2e%2E/%7euser", "http://example.com/a../~user"},
		{"percent-encoding that must stay", indicator.TypeURL, "http://example.com/a%2fb%20c", "http://example.com/a%2Fb%20c"},
		{"characters to encode", indicator.TypeURL, "http://example.com/ä b", "http://example.com/%C3%A4%20b"},
		{"the default port", indicator.TypeURL, "http://example.com:80/a", "http://example.com/a"},
		{"an internationalised host", indicator.TypeURL, "https://bücher.example", "https://xn--bcher-kva.example/"},
		{"https without a path", indicator.TypeURL, "https://example.com", "https://example.com/"},
		{"https with a slash and its port", indicator.TypeURL, "https://example.com:443/", "https://example.com/"},

		{"an IPv4 address", indicator.TypeIP, "192.0.2.1", "192.0.2.1"},
		{"an IPv6 address in full", indicator.TypeIP, "2001:0DB8:0:0:0:0:0:1", "2001:db8::1"},
		{"an IPv4 address mapped into IPv6", indicator.TypeIP, "::ffff:192.0.2.1", "192.0.2.1"},
		{"a prefix", indicator.TypeCIDR, "192.0.2.0/24", "192.0.2.0/24"},
		{"a prefix with host bits", indicator.TypeCIDR, "192.0.2.77/24", "192.0.2.0/24"},
		{"an IPv6 prefix", indicator.TypeCIDR, "2001:DB8:1::1/32", "2001:db8::/32"},
		{"a prefix of one address", indicator.TypeCIDR, "192.0.2.1/32", "192.0.2.1/32"},
		{"an IPv4 prefix mapped into IPv6", indicator.TypeCIDR, "::ffff:192.0.2.1/120", "192.0.2.0/24"},

		{"a certificate's SHA-256", indicator.TypeCertificate, sha256, sha256},
		{"a certificate's SHA-1 with colons in upper case", indicator.TypeCertificate, strings.Repeat("AB:", 19) + "CD", strings.Repeat("ab", 19) + "cd"},
		{"a file's SHA-256 in upper case", indicator.TypeFileSHA256, strings.ToUpper(sha256), sha256},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := indicator.Parse(tt.typ, tt.value)
			if err != nil || got != tt.want {
				t.Fatalf("Parse(%s, %q) = %q, %v, want %q", tt.typ, tt.value, got, err, tt.want)
			}
			if again, err := indicator.Parse(tt.typ, got); err != nil || again != got {
				t.Errorf("Parse(%s, %q) = %q, %v, want it unchanged", tt.typ, got, again, err)
			}
		})
	}
}

func TestParseNamesTheBrokenRule(t *testing.T) {
	for _, tt := range []struct {
		name  string
		typ   indicator.Type
		value string
		rule  string
	}{
		{"an unknown type", "hostname", "example.com", "the types are domain, url"},
		{"nothing", indicator.TypeDomain, "", "empty label"},
		{"one label", indicator.TypeDomain, "localhost", "at least two labels"},
		{"a top-level domain", indicator.TypeDomain, "com.", "at least two labels"},
		{"a public suffix", indicator.TypeDomain, "co.uk", "public suffix"},
		{"a public suffix by a wildcard rule", indicator.TypeDomain, "anything.ck", "public suffix"},
		{"a wildcard", indicator.TypeDomain, "*.example.com", "wildcard"},
		{"an address as a domain", indicator.TypeDomain, "192.0.2.1", "type ip"},
		{"an IPv6 address as a domain", indicator.TypeDomain, "[2001:db8::1]", "type ip"},
		{"a url as a domain", indicator.TypeDomain, "http://example.com", "type url"},
		{"a prefix as a domain", indicator.TypeDomain, "192.0.2.0/24", "type cidr"},
		{"a port", indicator.TypeDomain, "example.com:443", "letters, digits"},
		{"a number at the end", indicator.TypeDomain, "example.123", "end in a number"},
		{"an empty label", indicator.TypeDomain, "a..example.com", "empty label"},
		{"two trailing dots", indicator.TypeDomain, "example.com..", "empty label"},
		{"a hyphen at the start", indicator.TypeDomain, "-a.example.com", "hyphen"},
		{"a hyphen at the end", indicator.TypeDomain, "a-.example.com", "hyphen"},
		{"a space inside", indicator.TypeDomain, "a b.example.com", "letters, digits"},
		{"a label too long", indicator.TypeDomain, strings.Repeat("a", 64) + ".example", "63 characters"},
		{"a name too long", indicator.TypeDomain, strings.Repeat("a.", 124) + "example", "253 characters"},
		{"a damaged A-label", indicator.TypeDomain, "xn--a.example", "A-label"},
		{"a label that starts with a combining mark", indicator.TypeDomain, "\u0301a.example", "internationalised"},
		{"bytes that are no text", indicator.TypeDomain, "\xff.example", "internationalised"},

		{"no scheme", indicator.TypeURL, "example.com/a", "start with http"},
		{"another scheme", indicator.TypeURL, "ftp://example.com/a", "start with http"},
		{"https with a path", indicator.TypeURL, "https://example.com/a", "inside the encryption"},
		{"https with a path below dots", indicator.TypeURL, "https://example.com/../a", "inside the encryption"},
		{"a query", indicator.TypeURL, "http://example.com/a?b", "query"},
		{"an empty query", indicator.TypeURL, "http://example.com/a?", "query"},
		{"a fragment", indicator.TypeURL, "http://example.com/a#b", "fragment"},
		{"an empty fragment", indicator.TypeURL, "http://example.com/a#", "fragment"},
		{"a user", indicator.TypeURL, "http://user@example.com/", "user name"},
		{"a port of its own", indicator.TypeURL, "http://example.com:8080/", "port"},
		{"the port of the other scheme", indicator.TypeURL, "http://example.com:443/", "port"},
		{"an empty port", indicator.TypeURL, "http://example.com:/", "port"},
		{"an address as a url's host", indicator.TypeURL, "http://192.0.2.1/a", "type ip"},
		{"a url's host of one label", indicator.TypeURL, "http://intranet/a", "two labels"},
		{"damaged percent-encoding", indicator.TypeURL, "http://example.com/%zz", "must be a URL"},
		{"a control character", indicator.TypeURL, "http://example.com/\x01", "must be a URL"},

		{"a name as an address", indicator.TypeIP, "example.com", "IPv4 or IPv6"},
		{"a zone", indicator.TypeIP, "fe80::1%eth0", "zone"},
		{"a prefix as an address", indicator.TypeIP, "192.0.2.0/24", "type cidr"},
		{"leading zeros", indicator.TypeIP, "192.0.2.010", "IPv4 or IPv6"},
		{"an address as a prefix", indicator.TypeCIDR, "192.0.2.1", "prefix length"},
		{"a url too long", indicator.TypeURL, "http://example.com/" + strings.Repeat("a", indicator.MaxURL), "2048 bytes"},
		{"a url that is too long once it is encoded", indicator.TypeURL, "http://example.com/" + strings.Repeat("ä", 400), "2048 bytes"},
		{"a prefix too long", indicator.TypeCIDR, "192.0.2.1/33", "prefix length"},

		{"a hash too short", indicator.TypeFileSHA256, "abcd", "64 hexadecimal"},
		{"a SHA-1 of a file", indicator.TypeFileSHA256, strings.Repeat("a", 40), "64 hexadecimal"},
		{"no hexadecimal", indicator.TypeCertificate, strings.Repeat("g", 64), "64 or 40"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := indicator.Parse(tt.typ, tt.value)
			var v *indicator.ValueError
			if !errors.As(err, &v) {
				t.Fatalf("Parse(%s, %q) = %q, %v, want a ValueError", tt.typ, tt.value, got, err)
			}
			if !strings.Contains(v.Rule, tt.rule) {
				t.Errorf("Parse(%s, %q): it %s; want it to say %q", tt.typ, tt.value, v.Rule, tt.rule)
			}
		})
	}
}

// FuzzParse checks that a canonical form is canonical, fits on a line of a
// bundle, and can be taken apart.
func FuzzParse(f *testing.F) {
	for _, v := range []string{
		"Bücher.example.", "xn--bcher-kva.example", "xn--a.example", "*.a.b", "co.uk", "faß.de", "a．b。c",
		"http://example.com:80/%41%2f/../%zz//?q#f", "https://example.com", "http://[::1]/", "HTTP://a.b/\t",
		"::ffff:192.0.2.1", "fe80::1%eth0", "192.0.2.77/24", "::ffff:0.0.0.0/95", "::/0",
		strings.Repeat("AB:", 19) + "CD", strings.Repeat("0", 64),
	} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, value string) {
		for _, typ := range indicator.Types() {
			canonical, err := indicator.Parse(typ, value)
			if err != nil {
				continue
			}
			if again, err := indicator.Parse(typ, canonical); err != nil || again != canonical {
				t.Errorf("Parse(%s, %q) = %q, which parses to %q, %v", typ, value, canonical, again, err)
			}
			if strings.ContainsFunc(canonical, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
				t.Errorf("Parse(%s, %q) = %q, which is not printable ASCII", typ, value, canonical)
			}
			i := indicator.Indicator{Type: typ, Value: canonical}
			if _, ok := i.Prefix(); ok != (typ == indicator.TypeIP || typ == indicator.TypeCIDR) {
				t.Errorf("the %s %q has a prefix: %t", typ, canonical, ok)
			}
			if host, path := indicator.SplitURL(canonical); typ == indicator.TypeURL && (host == "" || path != indicator.CanonicalPath(path)) {
				t.Errorf("SplitURL(%q) = %q, %q", canonical, host, path)
			}
		}
	})
}

func TestPathCovers(t *testing.T) {
	for _, tt := range []struct {
		rule, request string
		want          bool
	}{
		{"/", "/", true},
		{"/", "/anything?at=all", true},
		{"/a", "/a", true},
		{"/a", "/a/", true},
		{"/a", "/a/b", true},
		{"/a", "/a?b", true},
		{"/a", "/%61", true},
		{"/a", "//a//b", true},
		{"/a", "/x/../a", true},
		{"/a", "/ab", false},
		{"/a", "/A", false},
		{"/a/b", "/a", false},
		{"/a", "/", false},
		{"/a", "", false},
		{"/a", "/x?/a", false},
		{"/a%2Fb", "/a%2fb", true},
		{"/a%2Fb", "/a/b", false},
	} {
		if got := indicator.PathCovers(tt.rule, indicator.CanonicalPath(tt.request)); got != tt.want {
			t.Errorf("PathCovers(%q, %q) = %t, want %t", tt.rule, tt.request, got, tt.want)
		}
	}
}
