package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"interdict/internal/cloudapp"
	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/staging"
)

// Explain makes the chain of facts. expected may be empty.
func Explain(f Facts, expected Outcome) Chain {
	b := builder{Facts: f}
	b.choose()
	c := Chain{Subject: f.Subject, Device: f.Device.ID, Name: f.Device.Name, Live: b.live(), Expected: expected}
	c.Links = []Link{
		b.app(), b.tag(), b.feature(), b.indicator(), b.scope(), b.policy(), b.delivery(), b.device(), b.verdict(), b.event(),
	}
	c.Outcome = b.outcome()
	c.Decisive = b.decisive(c)
	switch expected {
	case OutcomeBlocked:
		c.Unexpected = !c.Outcome.Refused() && c.Outcome != OutcomeUnknown
	case OutcomeAllowed:
		c.Unexpected = c.Outcome.Refused()
	default: // nothing in particular was expected
	}
	if c.Outcome.Refused() {
		c.leaveOut()
	}
	if c.Unexpected && c.Outcome.Refused() {
		b.excuse(&c)
	}
	return c
}

// leaveOut takes the links back that seem broken where something else refuses
// the connection: nothing is to be mended there.
func (c *Chain) leaveOut() {
	for i := range c.Links {
		l := &c.Links[i]
		if l.Name == c.Decisive {
			return
		}
		if l.State == StateBroken {
			*l = unknown(l.Name, "%s (not needed for this)", l.Text)
		}
	}
}

// excuse says how to let through what is refused and should not be, unless
// something is to be mended first.
func (b *builder) excuse(c *Chain) {
	for i := range c.Links {
		l := &c.Links[i]
		if l.Name != c.Decisive || l.Fix != "" {
			continue
		}
		switch l.Name {
		case LinkTag:
			l.Fix = b.untag()
		case LinkIndicator:
			l.Fix = "interdict indicator delete " + b.chosen.Indicator.ID
		default: // what decides is on the device
			l.Fix = b.onDevice()
		}
	}
}

// untag is the command by which the app is no longer refused here.
func (b *builder) untag() string {
	switch t := b.Trial; {
	case t != nil && t.AfterTag != nil && b.inCanary(t) && t.AfterTag.Tag.Enforced():
		return "interdict rollout stop " + t.ID
	case b.App == nil:
		return b.add(indicator.ActionAllow)
	default:
		return "interdict app tag " + b.App.ID + " none"
	}
}

// onDevice says where on the device that is to be changed by which it refuses
// the connection, though the server does not ask for that.
func (b *builder) onDevice() string {
	if rest, ours := strings.CutPrefix(b.Answer.IndicatorID, "file:"); ours {
		file, _, _ := strings.Cut(rest, ":")
		return "on the device: edit /etc/interdict/policy.d/" + file
	}
	if origin := b.Policies.Effective.Origin[fleet.SettingBypassProtection]; b.Answer.Step == "resolver" && origin != "" {
		return "interdict policy set " + Quote(b.policyName(origin)) + " --bypass-protection off"
	}
	return "on the device: interdict-agent status"
}

// builder makes the links. The chosen candidate is the one all links after
// the indicator are about.
type builder struct {
	Facts

	// chosen is the candidate that would refuse, or nil: the one that counts
	// and goes before all others, else the one that comes nearest to counting.
	chosen *Candidate
	// overruling is an indicator that counts, does not refuse, and goes before
	// chosen.
	overruling *Candidate
}

// choose finds the candidate that the chain is about.
func (b *builder) choose() {
	slices.SortStableFunc(b.Candidates, func(x, y Candidate) int { return indicator.Compare(&x.Indicator, &y.Indicator) })
	for i := range b.Candidates {
		c := &b.Candidates[i]
		switch {
		case !b.counts(c):
		case c.Indicator.Action.Refuses():
			b.chosen = c
			return
		case b.overruling == nil:
			b.overruling = c
		}
	}
	if b.overruling != nil {
		b.chosen = b.nearest(func(c *Candidate) bool { return b.counts(c) })
	}
	if b.chosen == nil {
		b.chosen = b.nearest(func(*Candidate) bool { return true })
	}
}

// nearest is the refusing candidate that fails at the latest link.
func (b *builder) nearest(among func(*Candidate) bool) *Candidate {
	var best *Candidate
	for i := range b.Candidates {
		c := &b.Candidates[i]
		if c.Indicator.Action.Refuses() && among(c) && (best == nil || b.reaches(c) > b.reaches(best)) {
			best = c
		}
	}
	return best
}

// reaches says how many links of the chain a candidate holds.
func (b *builder) reaches(c *Candidate) int {
	switch {
	case !c.FeatureOn:
		return 0
	case c.Protected != "" || c.SparedFor != "" || c.Indicator.Expired(b.Now):
		return 1
	case !b.inScope(c):
		return 2
	default:
		return 3
	}
}

func (b *builder) counts(c *Candidate) bool { return b.reaches(c) == 3 }

func (b *builder) inScope(c *Candidate) bool {
	p := &c.Indicator.Scope
	return c.DeviceInScope && p.CoversUser(b.Device.User) && p.Open(b.Now)
}

// live reports whether the device answered for itself.
func (b *builder) live() bool { return b.Answer != nil && b.Answer.Error == "" }

func holds(name Name, format string, args ...any) Link {
	return Link{Name: name, State: StateHolds, Text: fmt.Sprintf(format, args...)}
}

func broken(name Name, fix, format string, args ...any) Link {
	return Link{Name: name, State: StateBroken, Text: fmt.Sprintf(format, args...), Fix: fix}
}

func unknown(name Name, format string, args ...any) Link {
	return Link{Name: name, State: StateUnknown, Text: fmt.Sprintf(format, args...)}
}

// custom reports whether the chain is about an indicator of no app's tag.
func (b *builder) custom() bool {
	return b.chosen != nil && b.chosen.Indicator.Source != indicator.SourceCatalog
}

func (b *builder) app() Link {
	switch {
	case b.App == nil && b.custom():
		return unknown(LinkApp, "%s belongs to no app of the catalog; a custom indicator names it", b.Subject)
	case b.App == nil:
		return broken(LinkApp, b.add(indicator.ActionBlock), "%s belongs to no app of the catalog", b.Subject)
	case b.App.Shared && !b.custom():
		return broken(LinkApp, b.add(indicator.ActionBlock),
			"%s is below %s, which several apps share, so that no app's tag refuses it", b.Subject, b.App.Domain)
	default:
		return holds(LinkApp, "%s belongs to %s (%s), by its domain %s", b.Subject, b.App.Name, b.App.ID, b.App.Domain)
	}
}

// add is the command that makes an indicator of the destination.
func (b *builder) add(a indicator.Action) string {
	if b.Subject.Host == "" {
		return fmt.Sprintf("interdict indicator add ip %s --action %s", b.Subject.IP, a)
	}
	return fmt.Sprintf("interdict indicator add domain %s --action %s", Quote(b.Subject.Host), a)
}

// inCanary reports whether the device has what a rollout has on trial.
func (b *builder) inCanary(t *staging.Rollout) bool {
	return slices.Contains(b.Device.Groups, t.Canary) || t.Canary == fleet.DeviceGroup(b.Device.ID)
}

func (b *builder) tag() Link {
	if b.App == nil {
		return unknown(LinkTag, "there is no app to tag")
	}
	tag := cloudapp.TagNone
	if b.Tagging != nil {
		tag = b.Tagging.Tag
	}
	if t := b.Trial; t != nil {
		inside := b.inCanary(t)
		_, id := t.Target()
		switch {
		case inside && t.AfterTag != nil:
			tag = t.AfterTag.Tag
		case t.AfterTag != nil && t.AfterTag.Tag.Enforced() && !tag.Enforced():
			return broken(LinkTag, "interdict rollout advance "+t.ID,
				"%s becomes %s, which is on trial in %s; this device is not in it", id, t.AfterTag.Tag, b.canary(t))
		}
		if inside && tag.Enforced() {
			return holds(LinkTag, "%s is %s, on trial in %s since %s", b.App.Name, tag, b.canary(t), moment(t.StartedAt))
		}
	}
	switch {
	case tag.Enforced():
		return holds(LinkTag, "%s is tagged %s%s", b.App.Name, tag, b.byWhom())
	case b.custom():
		return unknown(LinkTag, "%s is tagged %s, but a custom indicator names the destination", b.App.Name, tag)
	case tag == cloudapp.TagSanctioned:
		return broken(LinkTag, "interdict app tag "+b.App.ID+" unsanctioned", "%s is tagged sanctioned%s", b.App.Name, b.byWhom())
	default:
		return broken(LinkTag, "interdict app tag "+b.App.ID+" unsanctioned", "%s is not tagged", b.App.Name)
	}
}

func (b *builder) byWhom() string {
	if b.Tagging == nil || b.Tagging.By == "" {
		return ""
	}
	return fmt.Sprintf(", by %s at %s", b.Tagging.By, moment(b.Tagging.At))
}

func (b *builder) feature() Link {
	if b.chosen == nil {
		return unknown(LinkFeature, "no indicator is concerned")
	}
	if !b.chosen.FeatureOn {
		return broken(LinkFeature, fmt.Sprintf("interdict feature set %s on", b.chosen.Feature),
			"the feature %s is off, so that no such indicator counts anywhere", b.chosen.Feature)
	}
	return holds(LinkFeature, "the feature %s is on", b.chosen.Feature)
}

func (b *builder) indicator() Link {
	if b.chosen == nil {
		if b.overruling != nil {
			return broken(LinkIndicator, "", "only indicator %s matches, and it says %s", describe(b.overruling), b.overruling.Indicator.Action)
		}
		return broken(LinkIndicator, "", "no indicator refuses it")
	}
	i := &b.chosen.Indicator
	switch {
	case b.chosen.Protected != "":
		return broken(LinkIndicator, "", "indicator %s may not be enforced: %s", describe(b.chosen), b.chosen.Protected)
	case b.chosen.SparedFor != "":
		return broken(LinkIndicator, "interdict app tag "+b.chosen.SparedFor+" unsanctioned",
			"indicator %s would refuse it, but the name belongs to the app %s, which is left alone here", describe(b.chosen), b.chosen.SparedFor)
	case i.Expired(b.Now):
		// It is deleted by now.
		return broken(LinkIndicator, fmt.Sprintf("interdict indicator add %s %s --action %s", i.Type, Quote(i.Value), i.Action), "indicator %s expired at %s", describe(b.chosen), moment(i.ExpiresAt))
	case b.overruling != nil:
		return broken(LinkIndicator, "interdict indicator delete "+b.overruling.Indicator.ID,
			"indicator %s says %s, and goes before %s", describe(b.overruling), b.overruling.Indicator.Action, describe(b.chosen))
	default:
		return holds(LinkIndicator, "indicator %s says %s", describe(b.chosen), i.Action)
	}
}

// describe names an indicator for people.
func describe(c *Candidate) string {
	i := &c.Indicator
	return fmt.Sprintf("%s %s (%s, %s)", i.Type, i.Value, i.Source, i.ID)
}

func (b *builder) delivery() Link {
	d := &b.Device
	fix := "interdict device sync " + Quote(d.Name)
	switch d.State() {
	case fleet.StateApplied:
		return holds(LinkDelivery, "the device has applied what it ought to, bundle %d at %s", d.Applied.Version, moment(d.Applied.At))
	case fleet.StateFailed:
		return broken(LinkDelivery, "on the device: interdict-agent doctor", "the device could not apply the newest bundle: %s", d.Applied.Error)
	case fleet.StateOffline:
		seen := "it was never connected"
		if !d.LastSeen.IsZero() {
			seen = "it was last seen at " + moment(d.LastSeen)
		}
		return broken(LinkDelivery, "on the device: interdict-agent doctor", "the device is offline and enforces an older bundle: %s", seen)
	default:
		return broken(LinkDelivery, fix, "the device is connected and has not applied the newest bundle yet")
	}
}

func (b *builder) device() Link {
	const fix = "on the device: interdict-agent doctor"
	if !b.live() {
		why := "the device is offline"
		if b.Answer != nil {
			why = b.Answer.Error
		}
		if text := worst(b.Device.Applied.Health); text != "" {
			return unknown(LinkDevice, "%s; it last reported: %s", why, text)
		}
		return unknown(LinkDevice, "%s, so that its kernel cannot be asked about", why)
	}
	switch a := b.Answer; {
	case !a.Enforcing && hasHealth(a.Health, "suspended"):
		return broken(LinkDevice, "on the device: interdict-agent sync", "somebody ran rescue on the device: nothing is enforced")
	case !a.Enforcing:
		return broken(LinkDevice, fix, "the device enforces nothing: %s", cmp.Or(worst(a.Health), "it has no rules in force"))
	case !a.Listening && a.Mode != fleet.ModeDisabled:
		return broken(LinkDevice, fix, "the agent does not see connections: %s", cmp.Or(worst(a.Health), "its packet queues are not open"))
	default:
		return holds(LinkDevice, "the kernel asks the agent, and the agent enforces bundle %d", a.Version)
	}
}

func hasHealth(items []fleet.HealthItem, code string) bool {
	return slices.ContainsFunc(items, func(i fleet.HealthItem) bool { return i.Code == code })
}

func worst(items []fleet.HealthItem) string {
	if len(items) == 0 {
		return ""
	}
	return items[0].Text
}

func (b *builder) verdict() Link {
	if !b.live() {
		return unknown(LinkVerdict, "the device could not be asked")
	}
	a := b.Answer
	switch {
	case a.Bypass != nil:
		return broken(LinkVerdict, fmt.Sprintf("interdict bypass revoke %s --user %s", Quote(a.Bypass.Subject), Quote(a.Bypass.User)),
			"user %s went on after a warning and may do so until %s", a.Bypass.User, moment(a.Bypass.Until))
	case a.Action.Refuses():
		return holds(LinkVerdict, "the device says %s%s", a.Action, by(a.Indicator, a.IndicatorID))
	case a.Action == indicator.ActionAudit:
		return broken(LinkVerdict, "", "the device says audit%s: it records the connection and lets it pass", by(a.Indicator, a.IndicatorID))
	case a.Action == indicator.ActionAllow:
		return broken(LinkVerdict, "", "the device says allow%s", by(a.Indicator, a.IndicatorID))
	case a.Mode == fleet.ModeDisabled:
		return broken(LinkVerdict, "", "the device lets it pass: its network protection is disabled")
	case a.Step == "" || a.Step == "none":
		return broken(LinkVerdict, "", "the device lets it pass: no indicator in force there applies")
	default:
		return broken(LinkVerdict, "", "the device lets it pass: no indicator in force there applies (%s)", a.Step)
	}
}

func by(value, id string) string {
	if value == "" {
		return ""
	}
	return fmt.Sprintf(", by indicator %s (%s)", value, id)
}

func (b *builder) event() Link {
	var last *event.Event
	if len(b.Events) > 0 {
		last = &b.Events[0]
	}
	if b.live() && b.concerns(b.Answer.LastEvent) && (last == nil || b.Answer.LastEvent.LastSeen.After(last.LastSeen)) {
		last = b.Answer.LastEvent
	}
	if last == nil {
		return unknown(LinkEvent, "the device has recorded no connection to it%s", b.ofUser())
	}
	return unknown(LinkEvent, "last recorded at %s: %d %s, %s, program %s, user %s", moment(last.LastSeen), last.EventID, last.Action,
		cmp.Or(last.Destination.Host, last.Destination.IP.String()), cmp.Or(last.Process.Path, "unknown"), cmp.Or(last.User.Name, "unknown"))
}

// concerns reports whether an event is one of the user that is asked about.
func (b *builder) concerns(e *event.Event) bool {
	return e != nil && (b.Subject.User == "" || e.User.Name == b.Subject.User)
}

func (b *builder) ofUser() string {
	if b.Subject.User == "" {
		return ""
	}
	return " by " + b.Subject.User
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
