// Package verdict decides what becomes of a connection: it compiles a bundle
// into a Ruleset and judges by it what is known of the other end.
//
// It is pure and holds no state: the same bundle, subject and time give the
// same decision on every device. The order of precedence is that of
// [indicator.Compare]; what this package adds is how names and addresses are
// found among a hundred thousand indicators, the names that are spared, and
// the mode. Indicators of files and certificates are not its business: they
// say nothing about a connection. What every other enforcement of a policy has
// to agree on with it are the cases of package verdicttest.
//
// A Ruleset keeps the bundle's text and, for each name, only the number of its
// record, which is decoded when a connection comes near it. Deciding about a
// connection that no indicator is for does not allocate.
package verdict

import (
	"net/netip"
	"time"

	"interdict/internal/bundle"
	"interdict/internal/domainset"
	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// Subject is what is known of a connection's other end. What is not known is
// left zero.
type Subject struct {
	// Host is the name that was said or looked up, in any case, with or
	// without a trailing dot, internationalised labels as A-labels.
	Host string
	// Path is the path of a plain HTTP request, as sent. It only counts
	// together with Host.
	Path string
	Addr netip.Addr
	// Port and Evidence are for the event; no decision depends on them.
	Port     uint16
	Evidence event.Evidence
}

// Step says which step of the judgement decided.
type Step string

// The steps.
const (
	// StepDisabled: network protection is off, nothing was looked at.
	StepDisabled Step = "disabled"
	// StepURL, StepDomain and StepAddress: an indicator of this kind
	// applies.
	StepURL     Step = "url"
	StepDomain  Step = "domain"
	StepAddress Step = "address"
	// StepSpared: an indicator of the catalog would apply, but the name
	// belongs to another app that is left alone.
	StepSpared Step = "spared"
	// StepNone: no indicator is for it.
	StepNone Step = "none"
)

// Decision is the verdict on a subject, and why.
type Decision struct {
	// Action is what to do, with the mode already reckoned in: in audit
	// mode never warn nor block. It is empty when no indicator applies.
	Action indicator.Action
	// Indicator is the one that applies; it is zero when none does.
	Indicator indicator.Indicator
	// AppID and AppName are of the indicator's app, or after StepSpared of
	// the app that the name belongs to. Either may be empty.
	AppID, AppName string
	Mode           fleet.Mode
	// PolicyID is the policy that the mode comes from; empty for a default.
	PolicyID string
	Step     Step
}

// Refuses reports whether the connection is to be refused.
func (d *Decision) Refuses() bool { return d.Action.Refuses() }

// Reports reports whether the connection is worth an event: it is refused, or
// it would have been. What is allowed leaves no trace.
func (d *Decision) Reports() bool {
	return d.Refuses() || d.Action == indicator.ActionAudit
}

// Decide judges a subject, in three steps. An address that is blocked or
// warned of decides, since the kernel refuses it at the first packet, before a
// name was said. Otherwise an indicator for the name decides, and if there is
// none, the one for the address. Of several of a kind it is the first by
// [indicator.Compare]. The steps are the same in audit mode, so that what it
// reports is what block mode would refuse.
func (r *Ruleset) Decide(s Subject, now time.Time) Decision {
	d := Decision{Mode: r.mode, PolicyID: r.policyID, Step: StepNone}
	if r.mode == fleet.ModeDisabled {
		d.Step = StepDisabled
		return d
	}
	best, sparedFor := r.matchAddress(s.Addr, now), ""
	if !best.Action.Refuses() {
		var named indicator.Indicator
		if named, sparedFor = r.matchName(s, now); named.ID != "" {
			best = named
		}
	}
	switch {
	case best.ID != "":
		d.Action, d.Step, d.AppID = r.inMode(best.Action), stepOf(best.Type), best.AppID
		d.Indicator = best
	case sparedFor != "":
		d.Step, d.AppID = StepSpared, sparedFor
	}
	d.AppName = r.apps[d.AppID]
	return d
}

// matchName returns the indicator that applies to the subject's name, or a
// zero one; and, if one of the catalog would apply but for a spared name, the
// app that this name belongs to.
func (r *Ruleset) matchName(s Subject, now time.Time) (best indicator.Indicator, sparedFor string) {
	host := domainset.Normalize(s.Host)
	var bestName, spareName, spareApp string
	for name, index := range r.names.Lookup(host) {
		if best.ID != "" && len(name) < len(bestName) {
			break
		}
		record := r.record(index)
		i := &record.Indicator
		switch {
		case record.Kind == bundle.KindSpare:
			if spareName == "" {
				spareName, spareApp = name, record.Value
			}
		case i.Expired(now) || !coversSubject(i, host, s.Path):
		case i.Source == indicator.SourceCatalog && len(name) < len(spareName):
			sparedFor = spareApp
		case best.ID == "" || indicator.Compare(i, &best) < 0:
			best, bestName = *i, name
		}
	}
	return best, sparedFor
}

// coversSubject reports whether an indicator that was found by host or a name
// above it covers host and path: a domain always does.
func coversSubject(i *indicator.Indicator, host, path string) bool {
	if i.Type == indicator.TypeDomain {
		return true
	}
	ruleHost, rulePath := indicator.SplitURL(i.Value)
	if ruleHost != host || rulePath == "/" {
		return ruleHost == host
	}
	return path != "" && indicator.PathCovers(rulePath, indicator.CanonicalPath(path))
}

// matchAddress returns the indicator that applies to an address, or a zero
// one.
func (r *Ruleset) matchAddress(addr netip.Addr, now time.Time) (best indicator.Indicator) {
	addr = addr.Unmap()
	if !addr.IsValid() {
		return best
	}
	bestBits := uint8(0)
	for bits, index := range r.table(addr).lookup(addr) {
		if best.ID != "" && bits < bestBits {
			break
		}
		record := r.record(index)
		i := &record.Indicator
		if !i.Expired(now) && (best.ID == "" || indicator.Compare(i, &best) < 0) {
			best, bestBits = *i, bits
		}
	}
	return best
}

func (r *Ruleset) table(addr netip.Addr) *prefixTable {
	if addr.Is4() {
		return &r.v4
	}
	return &r.v6
}

func (r *Ruleset) inMode(a indicator.Action) indicator.Action {
	if r.mode == fleet.ModeAudit && a.Refuses() {
		return indicator.ActionAudit
	}
	return a
}

func stepOf(t indicator.Type) Step {
	switch t {
	case indicator.TypeDomain:
		return StepDomain
	case indicator.TypeURL:
		return StepURL
	default:
		return StepAddress
	}
}
