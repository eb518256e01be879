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
	"cmp"
	"net/netip"
	"slices"
	"time"

	"interdict/internal/bypass"
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
	// User is whose connection it is; nil is somebody unknown.
	User *indicator.User
	// Lookup says that the name is only being looked up, by somebody who may
	// do so on behalf of anybody, as a resolver service does. With a User it
	// is judged as any connection of theirs.
	Lookup bool
	// Port only counts for name services: see StepResolver.
	Port uint16
	// Evidence is for the event; no decision depends on it.
	Evidence event.Evidence
}

// anybody reports whether the subject stands for all users at once.
func (s *Subject) anybody() bool { return s.Lookup && s.User == nil }

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
	// StepBypassed: a warning would apply, but the user has said that they
	// go on.
	StepBypassed Step = "bypassed"
	// StepResolver: no indicator is for it, and it is an encrypted name
	// service, by which programs get around the system's.
	StepResolver Step = "resolver"
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
	// PolicyID is the policy that the mode comes from, or after StepResolver
	// the bypass protection; empty for a default.
	PolicyID string
	Step     Step
	// Bypass is why a warning lets the subject pass; nil but for
	// StepBypassed.
	Bypass *bypass.Bypass
}

// Refuses reports whether the connection is to be refused.
func (d *Decision) Refuses() bool { return d.Action.Refuses() }

// Reports reports whether the connection is worth an event: it is refused, or
// it would have been. What is allowed leaves no trace.
func (d *Decision) Reports() bool {
	return d.Refuses() || d.Action == indicator.ActionAudit
}

// Decide judges a subject, in four steps. An address that is blocked or warned
// of decides, since it is refused at the first packet, before a name was said.
// Otherwise an indicator for the name decides, and if there is none, the one
// for the address. Of several of a kind it is the first by
// [indicator.Compare], and those of an earlier set go before those of a later
// one, except that no name is known yet when an address is refused. The steps
// are the same in audit mode, so that what it reports is what block mode would
// refuse. What no indicator is for is looked for among the encrypted name
// services, if the settings ask for that.
//
// An indicator counts for the users and at the times of its scope. The
// location of now is the device's, for windows by its clock on the wall.
func (r *Ruleset) Decide(s Subject, now time.Time) Decision {
	d := Decision{Mode: r.mode, PolicyID: r.policyID, Step: StepNone}
	if r.mode == fleet.ModeDisabled {
		d.Step = StepDisabled
		return d
	}
	best, from, sparedFor := r.match(&s, now)
	settled := best.ID != "" && (from <= r.protectionSet || best.Action.Refuses())
	switch {
	case !settled && r.protection != fleet.ProtectionOff && r.resolves(&d, &s):
		return d
	case best.ID != "":
		r.apply(&d, &best, &s, now)
	case sparedFor != "":
		d.Step, d.AppID = StepSpared, sparedFor
	}
	d.AppName = r.apps[d.AppID]
	return d
}

// AsksWho reports whether the decision on a subject may depend on its user.
func (r *Ruleset) AsksWho(s Subject) bool {
	if r.mode == fleet.ModeDisabled {
		return false
	}
	host := domainset.Normalize(s.Host)
	return slices.ContainsFunc(r.layers, func(l *layer) bool { return l.asksWho(&s, host) })
}

// match returns the indicator that applies to a subject, or a zero one, and the
// number of its set; and, if one would apply but for a spared name, the app
// that this name belongs to.
func (r *Ruleset) match(s *Subject, now time.Time) (best indicator.Indicator, from int, sparedFor string) {
	last := len(r.layers) - 1
	for n, l := range r.layers {
		if best = l.matchAddress(s, now); best.ID != "" {
			last = n
			break
		}
	}
	if s.Host == "" || best.Action.Refuses() && r.bypass(&best, s, now) == nil {
		return best, last, ""
	}
	host := domainset.Normalize(s.Host)
	for n, l := range r.layers[:last+1] {
		named, app := l.matchName(s, host, now)
		if named.ID != "" {
			return named, n, ""
		}
		if sparedFor == "" {
			sparedFor = app
		}
	}
	return best, last, sparedFor
}

// apply fills in what follows from an indicator.
func (r *Ruleset) apply(d *Decision, i *indicator.Indicator, s *Subject, now time.Time) {
	d.Action, d.Step, d.AppID, d.Indicator = r.inMode(i.Action), stepOf(i.Type), i.AppID, *i
	if d.Bypass = r.bypass(i, s, now); d.Bypass != nil {
		d.Action, d.Step = indicator.ActionAllow, StepBypassed
	}
	// Who looks the name up may not be one of those whose use is reported.
	if d.Action == indicator.ActionAudit && s.anybody() && !i.Scope.Everybody() {
		d.Action = indicator.ActionAllow
	}
}

// bypass returns the bypass by which a warning does not hold the subject up;
// nil if there is none. A look-up on anybody's behalf may go on if anybody may.
func (r *Ruleset) bypass(i *indicator.Indicator, s *Subject, now time.Time) *bypass.Bypass {
	if i.Action != indicator.ActionWarn || len(r.bypasses) == 0 {
		return nil
	}
	for _, b := range r.bypasses[cmp.Or(i.AppID, i.ID)] {
		if (s.anybody() || s.User != nil && s.User.UID == b.UID) && b.Active(now, nil) {
			return b
		}
	}
	return nil
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
