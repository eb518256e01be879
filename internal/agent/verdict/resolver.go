package verdict

import (
	"net/netip"

	"interdict/catalog/resolver"
	"interdict/internal/domainset"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// Resolver returns the encrypted name service that a connection to an address
// and port leads to, whatever the settings say about it; nil if it leads to
// none. It does not allocate.
func (r *Ruleset) Resolver(addr netip.Addr, port uint16) *resolver.Resolver {
	return r.resolvers.ByAddress(addr, port)
}

// resolves fills in what follows if the subject is an encrypted name service,
// and reports whether it is one. No record is behind that: the indicator is
// made up for whoever reads of the decision.
func (r *Ruleset) resolves(d *Decision, s *Subject) bool {
	found := r.resolvers.ByName(domainset.Normalize(s.Host))
	byName := found != nil
	if !byName {
		found = r.resolvers.ByAddress(s.Addr, s.Port)
	}
	if found == nil {
		return false
	}
	i := indicator.Indicator{
		ID: "resolver:" + found.Name, Type: indicator.TypeDomain, Value: found.Name, Action: indicator.ActionBlock,
		Severity: indicator.SeverityInformational, Source: indicator.SourceResolver,
	}
	if !byName {
		i.Type, i.Value = indicator.TypeIP, ""
		if s.Addr.IsValid() {
			i.Value = s.Addr.Unmap().String()
		}
	}
	if r.protection == fleet.ProtectionAudit {
		i.Action = indicator.ActionAudit
	}
	d.Action, d.Step, d.Indicator = r.inMode(i.Action), StepResolver, i
	d.AppID, d.AppName, d.PolicyID = "", found.Title(), r.protectionPolicyID
	return true
}
