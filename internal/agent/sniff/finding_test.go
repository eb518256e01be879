package sniff

import (
	"net/netip"
	"strings"
	"testing"
)

// TestWordsAreDistinct goes through states and reasons until the first that
// has no word.
func TestWordsAreDistinct(t *testing.T) {
	t.Parallel()
	check := func(last string, word func(int) string) {
		seen := make(map[string]bool)
		for i := 0; word(i) != "unknown"; i++ {
			if seen[word(i)] {
				t.Errorf("the word %q is there twice", word(i))
			}
			seen[word(i)] = true
		}
		if !seen[last] {
			t.Errorf("the words %v end before %q", seen, last)
		}
	}
	check(Nameless.String(), func(i int) string { return State(i).String() })
	check(ReasonLimit.String(), func(i int) string { return Reason(i).String() })
}

func TestParseHost(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in, name, addr string
		reason         Reason
	}{
		{"Example.COM", "example.com", "", ReasonNone},
		{"example.com.", "example.com", "", ReasonNone},
		{"localhost", "localhost", "", ReasonNone},
		{"_dmarc.xn--bcher-kva.example", "_dmarc.xn--bcher-kva.example", "", ReasonNone},
		{"1.2.3.4a", "1.2.3.4a", "", ReasonNone},
		{strings.Repeat("a", 63) + ".example", strings.Repeat("a", 63) + ".example", "", ReasonNone},
		{"192.0.2.7", "", "192.0.2.7", ReasonAddress},
		{"192.0.2.7.", "", "192.0.2.7", ReasonAddress},
		{"2001:DB8::7", "", "2001:db8::7", ReasonAddress},
		{"[2001:db8::7]", "", "2001:db8::7", ReasonAddress},
		{"[fe80::1%eth0]", "", "fe80::1", ReasonAddress},
		{"[::ffff:192.0.2.7]", "", "192.0.2.7", ReasonAddress},
		{"", "", "", ReasonBadName},
		{".", "", "", ReasonBadName},
		{"..", "", "", ReasonBadName},
		{".example", "", "", ReasonBadName},
		{"a..example", "", "", ReasonBadName},
		{"example.com..", "", "", ReasonBadName},
		{"bücher.example", "", "", ReasonBadName},
		{"a/b", "", "", ReasonBadName},
		{"[]", "", "", ReasonBadName},
		{"[example.com]", "", "", ReasonBadName},
		{"999.0.2.7", "", "", ReasonBadName},
		{"1", "", "", ReasonBadName},
		{strings.Repeat("a", 64) + ".example", "", "", ReasonBadName},
		{strings.Repeat("a.", 126) + "ab", "", "", ReasonBadName},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			t.Parallel()
			var want netip.Addr
			if tt.addr != "" {
				want = netip.MustParseAddr(tt.addr)
			}
			name, addr, reason := parseHost([]byte(tt.in))
			if name != tt.name || addr != want || reason != tt.reason {
				t.Errorf("parseHost(%q) = %q, %v, %v; want %q, %v, %v", tt.in, name, addr, reason, tt.name, want, tt.reason)
			}
		})
	}
}
