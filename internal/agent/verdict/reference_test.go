package verdict_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"interdict/internal/agent/verdict"
	"interdict/internal/agent/verdict/verdicttest"
	"interdict/internal/bundle"
	"interdict/internal/bypass"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// reference judges as slowly and plainly as it can: it tries every indicator.
// Its comments are the sentences of the design, section 5, and of the
// package's documentation.
type reference struct {
	sets     []referenceSet
	mode     fleet.Mode
	bypasses []bypass.Bypass
	// resolvers says what bypass protection does.
	resolvers fleet.Protection
}

type referenceSet struct {
	indicators []indicator.Indicator
	// spares are the apps by the name that is spared.
	spares map[string]string
}

func (r *reference) decide(s verdict.Subject, now time.Time) string {
	// In disabled, nothing is inspected.
	if r.mode == fleet.ModeDisabled {
		return "disabled"
	}
	spared, refusedAddress := "", ""
	var found *indicator.Indicator
	from, addressMet := 0, false
	for n, set := range r.sets {
		byName, byAddress, app := set.candidates(s, now)
		spared = cmp.Or(spared, app)
		// An address is refused at the first packet, before a name is known,
		// whatever set it is in; otherwise a name says more than an address.
		if len(byAddress) > 0 && !addressMet {
			i := slices.MinFunc(byAddress, precedence)
			if (i.Action == "warn" || i.Action == "block") && r.result(i, s, now) != "bypassed "+i.ID {
				refusedAddress = r.result(i, s, now)
			}
		}
		// An earlier set goes before a later one.
		switch {
		case found != nil:
		case len(byName) > 0:
			i := slices.MinFunc(byName, precedence)
			found, from = &i, n
		case len(byAddress) > 0:
			i := slices.MinFunc(byAddress, precedence)
			found, from = &i, n
		}
		addressMet = addressMet || len(byAddress) > 0
	}
	if refusedAddress != "" {
		return refusedAddress
	}
	// Encrypted name services come below all indicators, except that what a
	// later set than the settings' own allows does not spare them.
	if found == nil || from > 0 && found.Action != "warn" && found.Action != "block" {
		if name := r.resolver(s); name != "" {
			return name
		}
	}
	if found == nil {
		return cmp.Or(spared, "none")
	}
	return r.result(*found, s, now)
}

// result is what an indicator that applies leads to.
func (r *reference) result(i indicator.Indicator, s verdict.Subject, now time.Time) string {
	for _, b := range r.bypasses {
		// A bypass is for one user; a look-up may be on behalf of that one.
		anybody := s.Lookup && s.User == nil
		if i.Action == "warn" && cmp.Or(i.AppID, i.ID) == b.Subject && (anybody || s.User != nil && s.User.UID == b.UID) &&
			!now.Before(b.Since) && now.Before(b.Until) {
			return "bypassed " + i.ID
		}
	}
	// In audit, warn and block become audit.
	if r.mode == fleet.ModeAudit && (i.Action == "warn" || i.Action == "block") {
		i.Action = "audit"
	}
	// A look-up on anybody's behalf is no event of some.
	if i.Action == "audit" && s.Lookup && s.User == nil && len(i.Scope.IncludeUsers)+len(i.Scope.ExcludeUserGroups) > 0 {
		i.Action = "allow"
	}
	return string(i.Action) + " " + i.ID
}

// resolver is what becomes of the one service that the choices know.
func (r *reference) resolver(s verdict.Subject) string {
	if r.resolvers == fleet.ProtectionOff || !isBelow(canonical(s.Host), "dns.google") {
		return ""
	}
	if r.mode == fleet.ModeAudit || r.resolvers == fleet.ProtectionAudit {
		return "audit resolver:dns.google"
	}
	return "block resolver:dns.google"
}

// candidates are the indicators of a set that count for the subject.
func (r *referenceSet) candidates(s verdict.Subject, now time.Time) (byName, byAddress []indicator.Indicator, spared string) {
	for _, i := range r.indicators {
		// Expired indicators do not exist.
		if !i.ExpiresAt.IsZero() && !i.ExpiresAt.After(now) {
			continue
		}
		switch app, isSpared := r.spared(i, s); {
		case !matches(i, s) || !covers(i, s, now):
		case isSpared:
			spared = "spared " + app
		case i.Type == "ip" || i.Type == "cidr":
			byAddress = append(byAddress, i)
		default:
			byName = append(byName, i)
		}
	}
	return byName, byAddress, spared
}

// covers reports whether an indicator is for who and when it is. Of the
// profiles the choices make those that include a user by name, those that
// exclude a group, and those of some hours.
func covers(i indicator.Indicator, s verdict.Subject, now time.Time) bool {
	include, exclude := i.Scope.IncludeUsers, i.Scope.ExcludeUserGroups
	if len(i.Scope.Windows) > 0 {
		// They begin and end on the hour.
		from, _ := strconv.Atoi(i.Scope.Windows[0].From[:2])
		to, _ := strconv.Atoi(i.Scope.Windows[0].To[:2])
		if now.Hour() < from || now.Hour() >= to {
			return false
		}
	}
	switch {
	case len(include)+len(exclude) == 0:
		return true
	case s.User != nil:
		return len(include) > 0 && slices.Contains(include, s.User.Name) || len(exclude) > 0 && !slices.Contains(s.User.Groups, exclude[0])
	case s.Lookup:
		// What refuses some does not count for a look-up on anybody's behalf.
		return i.Action == "allow" || i.Action == "audit"
	default:
		// What is for some does not apply to somebody unknown; what spares
		// some does.
		return len(include) == 0
	}
}

func matches(i indicator.Indicator, s verdict.Subject) bool {
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
func (r *referenceSet) spared(i indicator.Indicator, s verdict.Subject) (app string, ok bool) {
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
	switch c.below(8) {
	case 0:
		i.Scope.IncludeUsers = []string{one(c, "anna", "ben")}
	case 1:
		i.Scope.ExcludeUserGroups = []string{one(c, "staff", "guests")}
	case 2:
		from := 6 + c.below(10)
		i.Scope.Windows = []indicator.Window{{From: fmt.Sprintf("%02d:00", from), To: fmt.Sprintf("%02d:00", from+1+c.below(6))}}
	}
	i.AppID = one(c, "", "", "box")
	i.ID = fmt.Sprintf("%d %s %s", n, i.Source, i.Value)
	return i
}

// people are the users there are, and somebody unknown.
func people() []*indicator.User {
	return []*indicator.User{
		nil, {UID: 1000, Name: "anna", Groups: []string{"staff"}}, {UID: 1001, Name: "ben", Groups: []string{"guests"}}, {UID: 1002},
	}
}

func (c *choices) bypass() bypass.Bypass {
	since := noon.Add(time.Duration(c.below(3)-1) * time.Second)
	return bypass.Bypass{
		UID: one(c, uint32(1000), 1001), Subject: one(c, "box", "0 custom 192.0.2.1", "1 custom a.example.com"),
		Since: since, Until: since.Add(time.Duration(1+c.below(3)) * time.Second),
	}
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
	if c.below(12) == 0 {
		s.Host = one(c, "dns.google", "x.dns.google.", "DNS.google")
	}
	s.User, s.Lookup = one(c, people()...), c.below(4) == 0
	if c.below(3) > 0 {
		s.Addr = c.addr()
		if c.below(4) == 0 {
			s.Addr = netip.AddrFrom16(s.Addr.As16())
		}
	}
	return s
}

// checkAgainstReference makes sets and subjects out of choices and judges them
// twice.
func checkAgainstReference(t *testing.T, data []byte) {
	t.Helper()
	c := choices(data)
	ref := &reference{
		mode:      one(&c, fleet.ModeBlock, fleet.ModeBlock, fleet.ModeAudit, fleet.ModeDisabled),
		resolvers: one(&c, fleet.ProtectionOff, fleet.ProtectionAudit, fleet.ProtectionBlock),
	}
	var sets []bundle.Set
	for range 1 + c.below(2) {
		set := c.set()
		ref.sets = append(ref.sets, set)
		sets = append(sets, set.records(t))
	}
	for range c.below(4) {
		ref.bypasses = append(ref.bypasses, c.bypass())
	}
	config := in(ref.mode)
	config.Settings.BypassProtection, config.Bypasses = ref.resolvers, ref.bypasses
	compiled, err := verdict.Compile(verdict.Config{}, sets...)
	if err != nil {
		t.Fatal(err)
	}
	r := compiled.With(config)
	next, changes := r.NextChange(noon)
	refused, watched := r.Addresses(noon)
	for range 24 {
		s := c.subject()
		got := verdicttest.Result(r.Decide(s, noon))
		if want := ref.decide(s, noon); got != want {
			t.Fatalf("Decide(%+v) = %s, want %s, of\n%+v", s, got, want, ref)
		}
		if changes {
			if then := verdicttest.Result(r.Decide(s, next.Add(-1))); then != got {
				t.Fatalf("Decide(%+v) is %s at noon and %s just before %s, of\n%+v", s, got, then, next, ref)
			}
		}
		checkAddresses(t, ref, refused, watched, s.Addr.Unmap())
	}
}

func (c *choices) set() referenceSet {
	set := referenceSet{spares: make(map[string]string)}
	for n := range c.below(24) {
		set.indicators = append(set.indicators, c.indicator(n))
	}
	for range c.below(4) {
		set.spares[c.name()] = one(c, "app1", "app2")
	}
	return set
}

func (r *referenceSet) records(t *testing.T) bundle.Set {
	t.Helper()
	var records []bundle.Record
	for _, i := range r.indicators {
		records = append(records, bundle.Indicator(i))
	}
	for name, app := range r.spares {
		records = append(records, bundle.Spare(name, app))
	}
	return setOf(t, records...)
}

// checkAddresses checks that the kernel is told of an address what becomes of
// connections to it alone: it refuses what is refused to everybody, and asks
// about what is reported, or refused to some.
func checkAddresses(t *testing.T, ref *reference, refused, watched []indicator.Range, a netip.Addr) {
	t.Helper()
	refusals, reports := 0, 0
	for _, u := range people() {
		switch action, _, _ := strings.Cut(ref.decide(verdict.Subject{Addr: a, User: u}, noon), " "); action {
		case "block", "warn":
			refusals++
		case "audit":
			reports++
		}
	}
	has := func(ranges []indicator.Range) bool {
		return slices.ContainsFunc(ranges, func(r indicator.Range) bool { return !a.Less(r.From) && !r.To.Less(a) })
	}
	isRefused, isWatched := has(refused), has(watched)
	if isRefused && (isWatched || refusals < len(people())) || refusals+reports > 0 && !isRefused && !isWatched {
		t.Fatalf("Addresses = %v, %v, though of %d users %s is refused to %d and reported of %d, of\n%+v",
			refused, watched, len(people()), a, refusals, reports, ref)
	}
	// It leaves the kernel alone where nobody is treated unlike, at any time.
	conditional := slices.ContainsFunc(ref.sets, func(s referenceSet) bool {
		return slices.ContainsFunc(s.indicators, func(i indicator.Indicator) bool { return matches(i, verdict.Subject{Addr: a}) && !i.Scope.Anyone() })
	})
	if !conditional && len(ref.bypasses) == 0 && (isRefused != (refusals > 0) || isWatched != (reports > 0)) {
		t.Fatalf("Addresses = %v, %v, though %s is refused to %d and reported of %d, of\n%+v", refused, watched, a, refusals, reports, ref)
	}
}

func TestDecideAgreesWithTheReference(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 2000 {
		checkAgainstReference(t, randomBytes(rng))
	}
}

func randomBytes(rng *rand.Rand) []byte {
	data := make([]byte, 1000)
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
	ref := &reference{mode: fleet.ModeBlock, resolvers: fleet.ProtectionOff, sets: []referenceSet{{indicators: []indicator.Indicator{
		{ID: "1", Type: indicator.TypeDomain, Value: "example.com", Action: indicator.ActionBlock, Source: indicator.SourceCustom},
		{ID: "2", Type: indicator.TypeDomain, Value: "a.example.com", Action: indicator.ActionAllow, Source: indicator.SourceCustom},
		{ID: "3", Type: indicator.TypeURL, Value: "http://example.com/", Action: indicator.ActionWarn, Source: indicator.SourceCustom},
	}}}}
	listed := ref.sets[0].indicators
	r := compile(f, bundle.Indicator(listed[0]), bundle.Indicator(listed[1]), bundle.Indicator(listed[2]),
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
