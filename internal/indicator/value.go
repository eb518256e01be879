package indicator

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
)

// ValueError says which rule a value breaks.
type ValueError struct {
	Type  Type
	Value string
	// Rule is the end of a sentence that starts with the value: "must have
	// at least two labels".
	Rule string
}

// Error returns the value with the rule it breaks.
func (e *ValueError) Error() string {
	return fmt.Sprintf("reading %s %q: it %s", e.Type, e.Value, e.Rule)
}

// Parse returns the canonical form of a value of type t; white space around
// it is ignored. Two values that match the same are the same in canonical
// form, except that a url keeps its scheme, and Parse of a canonical form
// returns it unchanged. Every error is a *ValueError.
//
//   - domain: A-labels in lower case without a trailing dot, at least two,
//     and no ICANN public suffix. It covers its subdomains.
//   - url: "http://HOST/PATH" or "https://HOST/", see [SplitURL].
//   - ip: an address without a zone, IPv4 where it is mapped into IPv6.
//   - cidr: a prefix whose host bits are zero, IPv4 where it is mapped into
//     IPv6. One of a single address is as good as the ip.
//   - certificate: the SHA-256 or SHA-1 of its DER in lower-case hexadecimal.
//   - file_sha256: 64 lower-case hexadecimal digits.
func Parse(t Type, value string) (canonical string, err error) {
	v := strings.TrimSpace(value)
	var rule string
	switch t {
	case TypeDomain:
		v, rule = parseDomain(v)
	case TypeURL:
		v, rule = parseURL(v)
	case TypeIP:
		v, rule = parseIP(v)
	case TypeCIDR:
		v, rule = parseCIDR(v)
	case TypeCertificate:
		v, rule = parseHash(strings.ReplaceAll(v, ":", ""), "must be the SHA-256 or SHA-1 of the certificate, 64 or 40 hexadecimal digits", 64, 40)
	case TypeFileSHA256:
		v, rule = parseHash(v, "must be a SHA-256, 64 hexadecimal digits", 64)
	default:
		rule = "is of no known type; the types are " + list(Types())
	}
	if rule != "" {
		return "", &ValueError{Type: t, Value: value, Rule: rule}
	}
	return v, nil
}

func parseIP(s string) (ip, rule string) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil && strings.Contains(s, "/"):
		return "", "must be one address; a prefix is of type cidr"
	case err != nil:
		return "", "must be an IPv4 or IPv6 address"
	case a.Zone() != "":
		return "", "must not have a zone: another host's zones mean nothing here"
	}
	return a.Unmap().String(), ""
}

func parseCIDR(s string) (cidr, rule string) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return "", "must be an address and a prefix length, such as 192.0.2.0/24 or 2001:db8::/32"
	}
	return unmapPrefix(p).Masked().String(), ""
}

// unmapPrefix returns the IPv4 prefix that p is mapped from, or p.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

func parseHash(s, rule string, lengths ...int) (hash, broken string) {
	for _, n := range lengths {
		if len(s) != n {
			continue
		}
		if _, err := hex.DecodeString(s); err == nil {
			return strings.ToLower(s), ""
		}
	}
	return "", rule
}

// Prefix returns the addresses an ip or cidr indicator matches; ok is false
// for other types and for values that are not canonical.
func (i *Indicator) Prefix() (p netip.Prefix, ok bool) {
	switch i.Type {
	case TypeIP:
		a, err := netip.ParseAddr(i.Value)
		if err != nil || a.Is4In6() || a.Zone() != "" {
			return netip.Prefix{}, false
		}
		return netip.PrefixFrom(a, a.BitLen()), true
	case TypeCIDR:
		p, err := netip.ParsePrefix(i.Value)
		if err != nil || p != p.Masked() || p != unmapPrefix(p) {
			return netip.Prefix{}, false
		}
		return p, true
	default:
		return netip.Prefix{}, false
	}
}

func list[S ~string](values []S) string {
	text := make([]string, len(values))
	for i, v := range values {
		text[i] = string(v)
	}
	return strings.Join(text, ", ")
}
