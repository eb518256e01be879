package explain

import (
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// outcome is what becomes of a connection: by the device's own word, or what
// follows from what is known.
func (b *builder) outcome() Outcome {
	switch {
	case b.live():
		return b.answered()
	case b.Device.State() != fleet.StateApplied:
		return OutcomeUnknown
	default:
		return b.configured()
	}
}

func (b *builder) answered() Outcome {
	a := b.Answer
	switch {
	case !a.Enforcing || a.Bypass != nil:
		return OutcomeAllowed
	case a.Action == indicator.ActionBlock:
		return OutcomeBlocked
	case a.Action == indicator.ActionWarn:
		return OutcomeWarned
	case a.Action == indicator.ActionAudit:
		return OutcomeAudited
	default:
		return OutcomeAllowed
	}
}

// configured is what the server's configuration comes to on a device that has
// all of it.
func (b *builder) configured() Outcome {
	if b.chosen == nil || !b.counts(b.chosen) || b.overruling != nil {
		return OutcomeAllowed
	}
	switch mode := b.Policies.Effective.Settings.NetworkProtection; {
	case mode == fleet.ModeAudit:
		return OutcomeAudited
	case mode != fleet.ModeBlock:
		return OutcomeAllowed
	case b.chosen.Indicator.Action == indicator.ActionWarn:
		return OutcomeWarned
	default:
		return OutcomeBlocked
	}
}

// decisive is the link that decides.
func (b *builder) decisive(c Chain) Name {
	if b.live() && !b.Answer.Enforcing && hasHealth(b.Answer.Health, "suspended") {
		// Whether the device has reported its rescue by now or not.
		return LinkDevice
	}
	if !c.Outcome.Refused() {
		for _, l := range c.Links {
			if l.State == StateBroken {
				return l.Name
			}
		}
		return LinkVerdict
	}
	switch {
	case b.live() && b.Answer.IndicatorID != "" && (b.chosen == nil || b.Answer.IndicatorID != b.chosen.Indicator.ID || !b.configured().Refused()):
		// What the device goes by is not what the server has configured.
		if b.Device.State() != fleet.StateApplied {
			return LinkDelivery
		}
		return LinkVerdict
	case b.custom():
		return LinkIndicator
	default:
		return LinkTag
	}
}
