package indicator

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// ProtectedError says that an indicator would reach what must never be
// refused.
type ProtectedError struct {
	// Value is the indicator's value, Covers what it would reach.
	Value, Covers string
	// Reason is why that is protected, as the end of a sentence that starts
	// with it: "is where agents reach the server".
	Reason string
}

// Error returns a sentence that says what is protected and why.
func (e *ProtectedError) Error() string {
	if e.Value == e.Covers {
		return fmt.Sprintf("%s can only be allowed: it %s", e.Value, e.Reason)
	}
	return fmt.Sprintf("%s can only be allowed: it covers %s, which %s", e.Value, e.Covers, e.Reason)
}

// Protected is the list of what no indicator may refuse or report: what a
// host needs to talk to itself and to find its network, on every device, and
// the hosts that agents need, such as the server's. A device that is cut off
// from its server could not be told to stop. It is immutable.
type Protected struct {
	// hosts are exact names.
	hosts []protectedHost
	// prefixes are the built-in ones and the addresses among the hosts.
	prefixes []protectedPrefix
}

type protectedHost struct{ name, reason string }

type protectedPrefix struct {
	netip.Prefix
	reason string
}

// Host is a host name or an address to protect, and why, as the end of a
// sentence that starts with it: "is where agents reach the server".
type Host struct{ Name, Reason string }

// NewProtected returns the built-in list with hosts added. Names that no
// indicator can have, such as those of one label, need no protection and are
// left out.
func NewProtected(hosts ...Host) *Protected {
	p := &Protected{prefixes: builtIn()}
	for _, h := range hosts {
		name := strings.ToLower(strings.TrimSuffix(strings.Trim(h.Name, "[]"), "."))
		if a, err := netip.ParseAddr(name); err == nil {
			a = a.WithZone("").Unmap()
			p.prefixes = append(p.prefixes, protectedPrefix{netip.PrefixFrom(a, a.BitLen()), h.Reason})
		} else if n, rule := parseHost(name); rule == "" {
			p.hosts = append(p.hosts, protectedHost{n, h.Reason})
		}
	}
	return p
}

// builtIn are the addresses of the special-purpose registries (RFC 6890) that
// do not lead to a host elsewhere. Private networks do, and can be refused.
func builtIn() []protectedPrefix {
	const (
		here      = "is this host itself"
		linkLocal = "is how hosts on one link find each other and their router"
		multicast = "is multicast, which networks need to work"
	)
	return []protectedPrefix{
		{netip.MustParsePrefix("127.0.0.0/8"), here},
		{netip.MustParsePrefix("::1/128"), here},
		{netip.MustParsePrefix("0.0.0.0/8"), here},
		{netip.MustParsePrefix("::/128"), here},
		{netip.MustParsePrefix("169.254.0.0/16"), linkLocal},
		{netip.MustParsePrefix("fe80::/10"), linkLocal},
		{netip.MustParsePrefix("224.0.0.0/4"), multicast},
		{netip.MustParsePrefix("ff00::/8"), multicast},
		{netip.MustParsePrefix("255.255.255.255/32"), "reaches all hosts on a link"},
		{netip.MustParsePrefix("::ffff:0:0/96"), "stands for all of IPv4; name the IPv4 addresses"},
	}
}

// Check returns a *ProtectedError if the indicator would refuse or report
// something that is protected: the name or address itself, a name above it,
// or a prefix that overlaps with it. Every value may be allowed. The value is
// canonical.
func (p *Protected) Check(i *Indicator) error {
	if i.Action == ActionAllow {
		return nil
	}
	switch i.Type {
	case TypeDomain:
		return p.checkName(i, i.Value)
	case TypeURL:
		host, _ := SplitURL(i.Value)
		return p.checkName(i, host)
	case TypeIP, TypeCIDR:
		return p.checkPrefix(i)
	default:
		return nil
	}
}

func (p *Protected) checkName(i *Indicator, host string) error {
	// RFC 6761, section 6.3: every name below localhost is the host itself.
	if strings.HasSuffix(host, ".localhost") {
		return &ProtectedError{Value: i.Value, Covers: i.Value, Reason: "is this host itself"}
	}
	at := slices.IndexFunc(p.hosts, func(h protectedHost) bool {
		return h.name == host || i.Type == TypeDomain && strings.HasSuffix(h.name, "."+host)
	})
	if at < 0 {
		return nil
	}
	h := p.hosts[at]
	return &ProtectedError{Value: i.Value, Covers: h.name, Reason: h.reason}
}

func (p *Protected) checkPrefix(i *Indicator) error {
	prefix, ok := i.Prefix()
	if !ok {
		return nil
	}
	at := slices.IndexFunc(p.prefixes, func(q protectedPrefix) bool { return q.Overlaps(prefix) })
	if at < 0 {
		return nil
	}
	q := p.prefixes[at]
	e := &ProtectedError{Value: i.Value, Covers: q.String(), Reason: q.reason}
	if q.IsSingleIP() {
		e.Covers = q.Addr().String()
	}
	if q.Bits() <= prefix.Bits() {
		e.Covers = i.Value
	}
	return e
}
