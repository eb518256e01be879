package verdict_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"interdict/internal/agent/verdict"
	"interdict/internal/agent/verdict/verdicttest"
	"interdict/internal/bundle"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// reference judges as slowly and plainly as it can: it tries every indicator.
// Its comments are the sentences of the design, section 5.
type reference struct {
	indicators []indicator.Indicator
	// spares are the apps by the name that is spared.
	spares map[string]string
	mode   fleet.Mode
}

func (r *reference) decide(s verdict.Subject, now time.Time) string {
	// In disabled, nothing is inspected.
	if r.mode == fleet.ModeDisabled {
		return "disabled"
	}
	var byName, byAddress []indicator.Indicator
	spared := ""
	for _, i := range r.indicators {
		// Expired indicators do not exist.
		if !i.ExpiresAt.IsZero() && !i.ExpiresAt.After(now) {
			continue
		}
		switch app, isSpared := r.spared(i, s); {
		case !r.matches(i, s):
		case isSpared:
			spared = "spared " + app
		case i.Type == "ip" || i.Type == "cidr":
			byAddress = append(byAddress, i)
		default:
			byName = append(byName, i)
		}
	}
	// An address is refused at the first packet, before a name is known;
	// otherwise a name says more than an address.
	matching := byName
	if len(byAddress) > 0 {
		action := slices.MinFunc(byAddress, precedence).Action
		if action == "warn" || action == "block" || len(byName) == 0 {
			matching = byAddress
		}
	}
	if len(matching) == 0 {
		return cmp.Or(spared, "none")
	}
	i := slices.MinFunc(matching, precedence)
	// In audit, warn and block become audit.
	if r.mode == fleet.ModeAudit && (i.Action == "warn" || i.Action == "block") {
		i.Action = "audit"
	}
	return string(i.Action) + " " + i.ID
}

func (r *reference) matches(i indicator.Indicator, s verdict.Subject) bool {
	host := canonical(s.Host)
	switch i.Type {
	case "domain":
		// A domain indicator covers the name and every subdomain.
		return isBelow(host, i.Value)
	case "url":
		// A url indicator has a host and a path.
		rule := strings.Split(strings.TrimSuffix(i.Value, "/"), "/")
		path := strings.Split(s.Path, "/")
		if host != rule[2] {
			return false
		}
		return len(rule) == 3 || len(path) >= len(rule)-2 && slices.Equal(rule[3:], path[1:len(rule)-2])
	case "ip":
		return s.Addr.IsValid() && netip.MustParseAddr(i.Value) == s.Addr.Unmap()
	case "cidr":
		return netip.MustParsePrefix(i.Value).Contains(s.Addr.Unmap())
	default:
		return false
	}
}

// spared applies: A name belongs to the app with the longest matching domain.
// Unsanctioning an app spares the names below its domains that belong to
// another app which is not unsanctioned.
func (r *reference) spared(i indicator.Indicator, s verdict.Subject) (app string, ok bool) {
	if i.Source != "catalog" || i.Type != "domain" {
		return "", false
	}
	longest := i.Value
	for name, owner := range r.spares {
		if isBelow(canonical(s.Host), name) && len(name) > len(longest) {
			longest, app, ok = name, owner, true
		}
	}
	return app, ok
}

// canonical is: case-insensitive, trailing dot ignored. Only the letters of
// ASCII have a case in names.
func canonical(host string) string {
	b := []byte(strings.TrimSuffix(host, "."))
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c | 0x20
		}
	}
	return string(b)
}

func isBelow(host, name string) bool { return host == name || strings.HasSuffix(host, "."+name) }

// precedence is: Most specific first (longer url path, longer domain, longer
// prefix), then allow over warn over block over audit, then the custom
// indicator over the catalog's, then the older one.
func precedence(a, b indicator.Indicator) int {
	keys := func(i indicator.Indicator) (path, name, prefix int) {
		switch i.Type {
		case "url":
			parts := strings.SplitN(i.Value, "/", 4)
			return -len(parts[3]), -len(parts[2]), 0
		case "domain":
			return 0, -len(i.Value), 0
		case "ip":
			return 0, 0, -netip.MustParseAddr(i.Value).BitLen()
		default:
			return 0, 0, -netip.MustParsePrefix(i.Value).Bits()
		}
	}
	aPath, aName, aPrefix := keys(a)
	bPath, bName, bPrefix := keys(b)
	actions := []indicator.Action{"allow", "warn", "block", "audit"}
	sources := []indicator.Source{"custom", "feed", "catalog", "local", "resolver"}
	return cmp.Or(
		cmp.Compare(aPath, bPath), cmp.Compare(aName, bName), cmp.Compare(aPrefix, bPrefix),
		cmp.Compare(slices.Index(actions, a.Action), slices.Index(actions, b.Action)),
		cmp.Compare(slices.Index(sources, a.Source), slices.Index(sources, b.Source)),
		a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID),
	)
}

// choices makes everything a test needs out of bytes, so that a fuzzer that
// changes a byte changes one choice.
type choices []byte

func (c *choices) below(n int) int {
	if len(*c) == 0 {
		return 0
	}
	b := (*c)[0]
	*c = (*c)[1:]
	return int(b) % n
}

func one[T any](c *choices, of ...T) T { return of[c.below(len(of))] }

func (c *choices) name() string {
	labels := []string{one(c, "example", "test")}
	for range c.below(4) {
		labels = append(labels, one(c, "a", "b", "ab"))
	}
	slices.Reverse(labels)
	return strings.Join(append(labels, "com")[max(0, len(labels)-4):], ".")
}

func (c *choices) path() string {
	var b strings.Builder
	for range c.below(4) {
		b.WriteString(one(c, "/a", "/b", "/ab"))
	}
	return b.String()
}

func (c *choices) addr() netip.Addr {
	a := netip.AddrFrom4([4]byte{192, 0, 2, byte(c.below(16))})
	if c.below(3) == 0 {
		a = netip.AddrFrom16([16]byte{0: 0x20, 1: 1, 15: byte(c.below(16))})
	}
	return a
}

func (c *choices) indicator(n int) indicator.Indicator {
	i := indicator.Indicator{
		Type:      one(c, indicator.TypeDomain, indicator.TypeDomain, indicator.TypeURL, indicator.TypeIP, indicator.TypeCIDR, indicator.TypeCertificate),
		Action:    one(c, indicator.Actions()...),
		Source:    one(c, indicator.Sources()...),
		CreatedAt: noon.Add(-time.Duration(c.below(2)) * time.Hour),
	}
	switch i.Type {
	case indicator.TypeDomain:
		i.Value = c.name()
	case indicator.TypeURL:
		i.Value = "http://" + c.name() + cmp.Or(c.path(), "/")
	case indicator.TypeIP:
		i.Value = c.addr().String()
	case indicator.TypeCIDR:
		a := c.addr()
		i.Value = netip.PrefixFrom(a, a.BitLen()-c.below(6)).Masked().String()
	default:
		i.Value = strings.Repeat("0", 64)
	}
	if c.below(4) == 0 {
		i.ExpiresAt = noon.Add(time.Duration(c.below(3)-1) * time.Second)
	}
	i.ID = fmt.Sprintf("%d %s %s", n, i.Source, i.Value)
	return i
}

func (c *choices) subject() verdict.Subject {
	var s verdict.Subject
	if c.below(5) > 0 {
		s.Host = one(c, "", "x.") + c.name() + one(c, "", ".")
		if c.below(4) == 0 {
			s.Host = strings.ToUpper(s.Host)
		}
		s.Path = c.path()
	}
	if c.below(3) > 0 {
		s.Addr = c.addr()
		if c.below(4) == 0 {
			s.Addr = netip.AddrFrom16(s.Addr.As16())
		}
	}
	return s
}

// checkAgainstReference makes a bundle and subjects out of choices and judges
// them twice.
func checkAgainstReference(t *testing.T, data []byte) {
	t.Helper()
	c := choices(data)
	ref := &reference{spares: make(map[string]string), mode: one(&c, fleet.ModeBlock, fleet.ModeBlock, fleet.ModeAudit, fleet.ModeDisabled)}
	var records []bundle.Record
	for n := range c.below(24) {
		i := c.indicator(n)
		ref.indicators = append(ref.indicators, i)
		records = append(records, bundle.Indicator(i))
	}
	for range c.below(4) {
		ref.spares[c.name()] = one(&c, "app1", "app2")
	}
	for name, app := range ref.spares {
		records = append(records, bundle.Spare(name, app))
	}
	r := compile(t, records...).With(in(ref.mode))
	for range 24 {
		s := c.subject()
		if got, want := verdicttest.Result(r.Decide(s, noon)), ref.decide(s, noon); got != want {
			t.Fatalf("Decide(%+v) = %s, want %s, in mode %s with spares %v and\n%+v", s, got, want, ref.mode, ref.spares, ref.indicators)
		}
		checkAddresses(t, r, ref, s.Addr.Unmap())
	}
}

// checkAddresses checks that the kernel is told the same about an address as
// a connection to it alone would be.
func checkAddresses(t *testing.T, r *verdict.Ruleset, ref *reference, a netip.Addr) {
	t.Helper()
	action, _, _ := strings.Cut(ref.decide(verdict.Subject{Addr: a}, noon), " ")
	refused, watched := r.Addresses(noon)
	has := func(ranges []indicator.Range) bool {
		return slices.ContainsFunc(ranges, func(r indicator.Range) bool { return !a.Less(r.From) && !r.To.Less(a) })
	}
	if has(refused) != (action == "block" || action == "warn") || has(watched) != (action == "audit") {
		t.Fatalf("Addresses = %v, %v, though the result for %s is %s", refused, watched, a, action)
	}
}

func TestDecideAgreesWithTheReference(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 2000 {
		checkAgainstReference(t, randomBytes(rng))
	}
}

func randomBytes(rng *rand.Rand) []byte {
	data := make([]byte, 400)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	return data
}

func FuzzDecide(f *testing.F) {
	rng := rand.New(rand.NewPCG(9, 10))
	for range 20 {
		f.Add(randomBytes(rng))
	}
	f.Fuzz(checkAgainstReference)
}

// FuzzHost takes hosts and paths that are not like names at all.
func FuzzHost(f *testing.F) {
	for _, host := range []string{"", ".", "..", "com", "a.example.com", "EXAMPLE.COM.", "\x00.example.com", strings.Repeat("a.", 400)} {
		f.Add(host, "/a/%zz/../?")
	}
	ref := &reference{mode: fleet.ModeBlock, indicators: []indicator.Indicator{
		{ID: "1", Type: indicator.TypeDomain, Value: "example.com", Action: indicator.ActionBlock, Source: indicator.SourceCustom},
		{ID: "2", Type: indicator.TypeDomain, Value: "a.example.com", Action: indicator.ActionAllow, Source: indicator.SourceCustom},
		{ID: "3", Type: indicator.TypeURL, Value: "http://example.com/", Action: indicator.ActionWarn, Source: indicator.SourceCustom},
	}}
	r := compile(f, bundle.Indicator(ref.indicators[0]), bundle.Indicator(ref.indicators[1]), bundle.Indicator(ref.indicators[2]),
		custom(indicator.ActionAudit, indicator.TypeURL, "http://paths.example.com/a"))
	f.Fuzz(func(t *testing.T, host, path string) {
		s := verdict.Subject{Host: host, Path: path}
		if got, want := verdicttest.Result(r.Decide(s, noon)), ref.decide(s, noon); got != want && host != "paths.example.com" {
			t.Errorf("Decide(%q, %q) = %s, want %s", host, path, got, want)
		}
		s.Host = "paths.example.com"
		if got := verdicttest.Result(r.Decide(s, noon)); got != "block 1" && got != "audit http://paths.example.com/a" {
			t.Errorf("Decide(%q, %q) = %s", s.Host, path, got)
		}
	})
}
