package server

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"interdict/internal/fault"
)

// place is where a server is.
type place struct {
	// url is where agents reach it, local where commands on this machine do.
	url, local string
	// hosts are the names and addresses it is reached under: those that its
	// certificate is for, and that no indicator may cover.
	hosts []string
}

// findPlace finds out where a server that listens on addr is.
func findPlace(ctx context.Context, addr net.Addr, c Config) (place, error) {
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return place{}, fmt.Errorf("reading the address %q that is listened on: %w", addr, err)
	}
	port := fmt.Sprint(ap.Port())
	everywhere := ap.Addr().Unmap().IsUnspecified()
	p := place{url: c.URL, local: "https://" + net.JoinHostPort(ap.Addr().Unmap().String(), port)}
	if everywhere {
		p.local = "https://" + net.JoinHostPort("127.0.0.1", port)
	}
	name, err := os.Hostname()
	if err != nil {
		name = ""
	}
	own := ownAddresses()
	if p.url == "" {
		p.url = p.local
		if everywhere {
			p.url = "https://" + net.JoinHostPort(reachable(ctx, name, own), port)
		}
	}
	u, err := parseURL(p.url)
	if err != nil {
		return place{}, err
	}
	p.url = "https://" + u.Host
	hosts := append([]string{u.Hostname(), "localhost", "127.0.0.1", "::1", name}, c.Hosts...)
	if everywhere {
		hosts = append(hosts, own...)
	} else {
		hosts = append(hosts, ap.Addr().Unmap().WithZone("").String())
	}
	slices.Sort(hosts)
	p.hosts = slices.DeleteFunc(slices.Compact(hosts), func(h string) bool { return h == "" })
	return p, nil
}

// parseURL reads the URL that agents reach a server under.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" {
		return nil, fault.New(fault.Invalid, "the server's URL %q is not of the form https://host:port", text).
			WithHint("write it like https://interdict.example.com:8443")
	}
	return u, nil
}

// reachable returns the name or address that other machines most likely reach
// this one under: its name if it resolves, else its first address.
func reachable(ctx context.Context, name string, own []string) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if addrs, err := net.DefaultResolver.LookupHost(ctx, name); err == nil && len(addrs) > 0 {
		return name
	}
	if len(own) > 0 {
		return own[0]
	}
	return "127.0.0.1"
}

// ownAddresses returns the machine's addresses that others can reach, as far
// as they can be found out.
func ownAddresses() []string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var out []string
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsGlobalUnicast() {
			out = append(out, p.Addr().Unmap().String())
		}
	}
	return out
}
