package inquiry

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"interdict/internal/cloudapp"
	"interdict/internal/explain"
	"interdict/internal/indicator"
)

// parseTarget reads a host, an address or a URL, with or without a port.
func parseTarget(text string) (explain.Subject, bool) {
	text = strings.TrimSpace(text)
	if len(text) > indicator.MaxURL {
		return explain.Subject{}, false
	}
	if ip, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return explain.Subject{IP: ip.Unmap().WithZone("")}, true
	}
	if !strings.Contains(text, "://") {
		// So that a host with a port is not taken for a scheme.
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Scheme == "" {
		return explain.Subject{}, false
	}
	port, ok := portOf(u)
	if !ok {
		return explain.Subject{}, false
	}
	if ip, none := netip.ParseAddr(u.Hostname()); none == nil {
		return explain.Subject{IP: ip.Unmap().WithZone(""), Port: port}, true
	}
	host, err := indicator.Parse(indicator.TypeDomain, u.Hostname())
	if err != nil || net.ParseIP(host) != nil {
		return explain.Subject{}, false
	}
	s := explain.Subject{Host: host, Port: port}
	if strings.EqualFold(u.Scheme, "http") && u.EscapedPath() != "" && u.EscapedPath() != "/" {
		s.Path = indicator.CanonicalPath(u.EscapedPath())
	}
	return s, true
}

// portOf returns the port that a URL names, or that of http; 0 for that of
// https, which goes without saying.
func portOf(u *url.URL) (port uint16, ok bool) {
	if u.Port() == "" {
		if strings.EqualFold(u.Scheme, "http") {
			return 80, true
		}
		return 0, true
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	return uint16(n), err == nil
}

// owners are the apps of domains.
type owners map[string][]owner

type owner struct {
	id, name string
	shared   bool
}

func newOwners(apps []cloudapp.App) owners {
	o := make(owners)
	for _, a := range apps {
		for _, d := range a.Domains {
			o[d.Name] = append(o[d.Name], owner{a.ID, a.Name, d.Shared})
		}
	}
	return o
}

// of returns the app with the longest domain that a host is, or is below; nil
// if there is none. Of a shared domain it is one of the apps.
func (o owners) of(host string) *explain.App {
	for name := host; name != ""; {
		if found := o[name]; len(found) > 0 {
			return &explain.App{ID: found[0].id, Name: found[0].name, Domain: name, Shared: found[0].shared || len(found) > 1}
		}
		_, name, _ = strings.Cut(name, ".")
	}
	return nil
}
