// Package resolver carries the public services that answer encrypted DNS: DNS
// over HTTPS (RFC 8484), over TLS (RFC 7858), over QUIC (RFC 9250) and
// oblivious DNS over HTTPS (RFC 9230). A program that uses one gets around the
// name servers of its system, and around what they refuse.
//
// It stands apart from the catalog of apps so that the agent can carry it
// without them.
package resolver

import (
	_ "embed"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

//go:embed resolvers.txt
var text string

// Protocol is a way to ask.
type Protocol string

// The protocols. A relay carries DNS among other things.
const (
	DoH   Protocol = "doh"
	DoT   Protocol = "dot"
	DoQ   Protocol = "doq"
	ODoH  Protocol = "odoh"
	Relay Protocol = "relay"
)

// PortDoT is the port of DNS over TLS and over QUIC, and of nothing else.
const PortDoT = 853

// atPort reports whether the address of a listed service stands for the
// service at a port: at those of the protocols, and at those that services
// took before there was one, or beside it. Plain DNS to the same address is
// not encrypted, and is judged by the names that it asks for.
func atPort(port uint16) bool {
	switch port {
	case 443, 784, PortDoT, 5443, 8443, 8853:
		return true
	default:
		return false
	}
}

// Resolver is a service.
type Resolver struct {
	// Name is where it is reached, in lower case; it stands for all names
	// below it too. It is "port-853" for one that is in no list.
	Name      string
	Protocols []Protocol
	// Addrs may be empty: not all services give theirs, and some share them
	// with unrelated sites.
	Addrs []netip.Addr
	// Operator is who runs it, in people's words; it may be empty.
	Operator string
}

// Title is what people call it: "Encrypted DNS (Quad9)".
func (r *Resolver) Title() string {
	switch {
	case r.Operator != "":
		return "Encrypted DNS (" + r.Operator + ")"
	case len(r.Protocols) == 0:
		return "Encrypted DNS"
	default:
		return "Encrypted DNS (" + r.Name + ")"
	}
}

// List finds services. It never changes and is safe for concurrent use.
type List struct {
	all    []Resolver
	byName map[string]*Resolver
	byAddr map[netip.Addr]*Resolver
	// longest is the length of the longest name.
	longest int
	// unlisted stands for whatever is asked at PortDoT.
	unlisted Resolver
}

// Load returns the built-in list. It fails only if the file that was compiled
// in breaks a rule.
func Load() (*List, error) {
	l, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("reading the list of encrypted name services: %w", err)
	}
	return l, nil
}

// All returns the services, sorted by name.
func (l *List) All() []Resolver { return slices.Clone(l.all) }

// ByName returns the service that a host belongs to; nil if there is none.
// Host is in lower case and has no dot at its end. It does not allocate.
func (l *List) ByName(host string) *Resolver {
	for host != "" {
		if len(host) <= l.longest {
			if r := l.byName[host]; r != nil {
				return r
			}
		}
		_, host, _ = strings.Cut(host, ".")
	}
	return nil
}

// ByAddress returns the service at an address and port; nil if there is none.
// Whatever is at PortDoT is one, but on the host itself: what a program there
// asks in turn is seen again. It does not allocate.
func (l *List) ByAddress(addr netip.Addr, port uint16) *Resolver {
	if !atPort(port) {
		return nil
	}
	if r := l.byAddr[addr.Unmap()]; r != nil {
		return r
	}
	if port == PortDoT && !addr.Unmap().IsLoopback() {
		return &l.unlisted
	}
	return nil
}
