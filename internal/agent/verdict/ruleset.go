package verdict

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"interdict/catalog/resolver"
	"interdict/internal/bundle"
	"interdict/internal/bypass"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// Config is what a judgement needs beside the records.
type Config struct {
	// Settings are the effective ones. NetworkProtection, FailMode and
	// BypassProtection matter here; an empty one counts as its default.
	Settings fleet.Settings
	// PolicyID is the policy that the network protection mode comes from;
	// empty for a default.
	PolicyID string
	// ProtectionPolicyID is the policy that the bypass protection comes from;
	// empty for a default.
	ProtectionPolicyID string
	// ProtectionSet is the number of the set that comes from where the bypass
	// protection comes from: what a later set allows it does not spare. It
	// is 0 for a policy of the server.
	ProtectionSet int
	// Bypasses are the users' words that they go on after a warning. Those
	// that have ended or are revoked by a record of a set do no harm.
	Bypasses []bypass.Bypass
}

// Ruleset is a compiled policy. It is immutable and safe for concurrent use.
type Ruleset struct {
	*records

	mode       fleet.Mode
	failMode   fleet.FailMode
	protection fleet.Protection
	policyID   string
	// protectionPolicyID and protectionSet are those of the Config.
	protectionPolicyID string
	protectionSet      int
	// bypasses are those that nobody has revoked, by their subject.
	bypasses map[string][]*bypass.Bypass
}

// records are what does not depend on a Config.
type records struct {
	// layers are the sets, the one that goes before the others first.
	layers []*layer
	apps   map[string]string
	// revocations end bypasses.
	revocations []bypass.Revocation
	// expiries are the times at which indicators cease to exist, in
	// ascending order, in seconds since 1970.
	expiries []int64
	// resolvers are the encrypted name services.
	resolvers *resolver.List
}

// Compile makes a Ruleset of the records of sets. Those of an earlier set go
// before those of a later one, whatever their specificity and action: a later
// set can add to what an earlier one says and never weaken it.
//
// Settings among the records do not count, only those of c. What Compile does
// not know (kinds of records, types and actions of indicators) comes from a
// newer server and is ignored; so are indicators that say nothing about
// connections. A known record with a value that cannot be understood is an
// error, since the device would not do what its administrator sees.
func Compile(c Config, sets ...bundle.Set) (*Ruleset, error) {
	resolvers, err := resolver.Load()
	if err != nil {
		return nil, fmt.Errorf("compiling a policy: %w", err)
	}
	all := &records{apps: make(map[string]string), resolvers: resolvers}
	for _, set := range sets {
		l, err := all.compile(set)
		if err != nil {
			return nil, fmt.Errorf("compiling a policy: %w", err)
		}
		all.layers = append(all.layers, l)
	}
	slices.Sort(all.expiries)
	all.expiries = slices.Clip(slices.Compact(all.expiries))
	return (&Ruleset{records: all}).With(c), nil
}

// With returns a Ruleset with the same records under another Config. Unlike
// Compile it costs next to nothing.
func (r *Ruleset) With(c Config) *Ruleset {
	d := fleet.Defaults()
	next := &Ruleset{
		records: r.records, policyID: c.PolicyID, bypasses: make(map[string][]*bypass.Bypass),
		mode:       cmp.Or(c.Settings.NetworkProtection, d.NetworkProtection),
		failMode:   cmp.Or(c.Settings.FailMode, d.FailMode),
		protection: cmp.Or(c.Settings.BypassProtection, d.BypassProtection), protectionSet: c.ProtectionSet,
		protectionPolicyID: c.ProtectionPolicyID,
	}
	for _, b := range c.Bypasses {
		// What is not active when it begins is revoked, or too long.
		if b.Active(b.Since, r.revocations) {
			next.bypasses[b.Subject] = append(next.bypasses[b.Subject], &b)
		}
	}
	return next
}

// Mode returns what network protection does.
func (r *Ruleset) Mode() fleet.Mode { return r.mode }

// FailMode returns what happens to connections that cannot be judged.
func (r *Ruleset) FailMode() fleet.FailMode { return r.failMode }

// PolicyID returns the policy that Mode comes from; empty for a default.
func (r *Ruleset) PolicyID() string { return r.policyID }

// NextChange returns when, after now, decisions may change by themselves, if
// they ever do: an indicator expires, a window of one opens or closes, or a
// bypass ends. Addresses may then differ, and open connections be judged
// otherwise. The location of now is the device's.
func (r *Ruleset) NextChange(now time.Time) (next time.Time, ok bool) {
	sooner := func(at time.Time) {
		if at.After(now) && (!ok || at.Before(next)) {
			next, ok = at, true
		}
	}
	after, _ := slices.BinarySearchFunc(r.expiries, now, func(at int64, now time.Time) int {
		return cmp.Or(time.Unix(at, 0).Compare(now), -1)
	})
	if after < len(r.expiries) {
		sooner(time.Unix(r.expiries[after], 0))
	}
	for _, l := range r.layers {
		for _, p := range l.profiles {
			if at, changes := p.schedule.Next(now); changes {
				sooner(at)
			}
		}
	}
	for _, of := range r.bypasses {
		for _, b := range of {
			sooner(b.Since)
			sooner(b.Until)
		}
	}
	return next.UTC(), ok
}

func (r *Ruleset) inMode(a indicator.Action) indicator.Action {
	if r.mode == fleet.ModeAudit && a.Refuses() {
		return indicator.ActionAudit
	}
	return a
}
