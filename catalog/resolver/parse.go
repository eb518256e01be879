package resolver

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"interdict/internal/indicator"
)

// parse reads a list. The error joins all faults there are.
func parse(text string) (*List, error) {
	var faults []error
	l := &List{
		byName: make(map[string]*Resolver), byAddr: make(map[netip.Addr]*Resolver),
		unlisted: Resolver{Name: "port-853"},
	}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		r, err := parseLine(line)
		if err == nil && len(l.all) > 0 && r.Name <= l.all[len(l.all)-1].Name {
			err = fmt.Errorf("%s is out of order, or twice there", r.Name)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("line %d: %w", number, err))
			continue
		}
		l.all = append(l.all, r)
	}
	for i := range l.all {
		l.add(&l.all[i])
	}
	return l, errors.Join(faults...)
}

// add makes a service known by its name, and by the addresses that no service
// before it has.
func (l *List) add(r *Resolver) {
	l.byName[r.Name] = r
	l.longest = max(l.longest, len(r.Name))
	for _, a := range r.Addrs {
		if l.byAddr[a] == nil {
			l.byAddr[a] = r
		}
	}
}

func parseLine(line string) (Resolver, error) {
	f := strings.Fields(line)
	if len(f) < 3 {
		return Resolver{}, errors.New("name, protocols or addresses are missing")
	}
	r := Resolver{Name: f[0], Operator: strings.Join(f[3:], " ")}
	if canonical, err := indicator.Parse(indicator.TypeDomain, r.Name); err != nil || canonical != r.Name {
		return Resolver{}, fmt.Errorf("%q is no name, or not in its canonical form", r.Name)
	}
	for p := range strings.SplitSeq(f[1], ",") {
		if !slices.Contains([]Protocol{DoH, DoT, DoQ, ODoH, Relay}, Protocol(p)) {
			return Resolver{}, fmt.Errorf("the protocol %q is not known", p)
		}
		r.Protocols = append(r.Protocols, Protocol(p))
	}
	if f[2] == "-" {
		return r, nil
	}
	for text := range strings.SplitSeq(f[2], ",") {
		a, err := netip.ParseAddr(text)
		if err != nil || a.String() != text || !public(a) {
			return Resolver{}, fmt.Errorf("%q is no public address, or not in its canonical form", text)
		}
		r.Addrs = append(r.Addrs, a)
	}
	return r, nil
}

// public reports whether an address can be that of a service for anybody.
func public(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsPrivate() && !a.Is4In6()
}
