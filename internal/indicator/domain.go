package indicator

import (
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// maxName and maxLabel are the limits of RFC 1035, section 2.3.4, for a name
// in text without its trailing dot.
const (
	maxName  = 253
	maxLabel = 63
)

// parseDomain returns the canonical form of a domain, or the rule it breaks.
func parseDomain(s string) (domain, rule string) {
	if strings.Contains(s, "*") {
		return "", "must not have a wildcard: a domain covers all its subdomains by itself"
	}
	if strings.Contains(s, "/") {
		return "", "must be a host name alone; a scheme or path is of type url, a prefix length of type cidr"
	}
	name, rule := parseHost(s)
	if rule != "" {
		return "", rule
	}
	// Names of the list's private section, such as github.io, belong to
	// somebody who can be unsanctioned; icann is false for them.
	if suffix, icann := publicsuffix.PublicSuffix(name); icann && suffix == name {
		return "", "must not be a public suffix: everybody's names are below it"
	}
	return name, ""
}

// parseHost returns a host name in canonical form, or the rule it breaks. It
// is what parseDomain and parseURL have in common.
func parseHost(s string) (host, rule string) {
	if _, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return "", "must be a host name; an address is of type ip"
	}
	name := s
	if !isASCII(name) {
		a, err := idna.Lookup.ToASCII(name)
		if err != nil {
			return "", "must be a valid internationalised name (IDNA 2008)"
		}
		name = a
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if len(name) > maxName {
		return "", "must not be longer than 253 characters"
	}
	labels := strings.Split(name, ".")
	for _, l := range labels {
		if rule := checkLabel(l); rule != "" {
			return "", rule
		}
	}
	if len(labels) < 2 {
		return "", "must have at least two labels, such as example.com"
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return "", "must not end in a number: no top-level domain does"
	}
	return name, ""
}

// checkLabel returns the rule that a lower-case label breaks. It is wider
// than the profile of IDNA in two ways in which names in use are: underscores,
// and hyphens in third and fourth place of labels that are no A-labels
// ("r3---sn-4g5e6nez").
func checkLabel(l string) (rule string) {
	switch {
	case l == "":
		return "must not have an empty label"
	case len(l) > maxLabel:
		return "must not have a label of more than 63 characters"
	case l[0] == '-' || l[len(l)-1] == '-':
		return "must not have a label that starts or ends with a hyphen"
	case strings.ContainsFunc(l, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}):
		return "must be a host name of letters, digits, hyphens, underscores and dots"
	case strings.HasPrefix(l, "xn--"):
		if a, err := idna.Lookup.ToASCII(l); err != nil || a != l {
			return "must not have an A-label (xn--) that is no valid internationalised label"
		}
	}
	return ""
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
}
