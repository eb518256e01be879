package agent

import (
	"interdict/internal/agent/channel"
	"interdict/internal/agent/channel/dropin"
	"interdict/internal/agent/channel/local"
	"interdict/internal/agent/state"
	"interdict/internal/agent/verdict"
	"interdict/internal/bundle"
	"interdict/internal/bypass"
	"interdict/internal/fleet"
)

// records are the indicators of drop-in files.
func records(files []dropin.File) (bundle.Set, error) {
	return bundle.NewSet(func(yield func(bundle.Record) bool) {
		for i := range files {
			for _, ind := range files[i].Indicators {
				if !yield(bundle.Indicator(ind)) {
					return
				}
			}
		}
	})
}

// policy is all that is to be enforced on this machine.
type policy struct {
	server   state.Bundle
	local    local.Said
	bypasses []bypass.Bypass
}

// enforced is a policy as it is in force.
type enforced struct {
	rules    *verdict.Ruleset
	settings channel.Effective
	// version is that of the bundle, 0 for none.
	version uint64

	// server is what the bundle with a digest says of settings, own is the
	// digest of this machine's own records. They tell what of the rules the
	// next ones can share.
	server channel.Server
	digest string
	own    string
}

// compile makes rules of a policy. What has not changed since before, nil for
// nothing, is taken from there. A server's records go before this machine's
// own, whatever either asks for.
func (p *policy) compile(before *enforced) (*enforced, error) {
	own, err := records(p.local.Files)
	if err != nil {
		return nil, err
	}
	next := &enforced{version: p.server.Header.Version, digest: p.server.Header.Digest, own: own.Digest()}
	sameServer := before != nil && before.digest == next.digest && (next.digest != "" || p.server.Set.Len() == 0)
	if sameServer {
		next.server = before.server
	} else if next.server, err = channel.FromBundle(p.server.Set); err != nil {
		return nil, err
	}
	next.settings = p.settle(next.server)
	of := next.settings.Of(fleet.SettingNetworkProtection)
	c := verdict.Config{Settings: next.settings.Settings, PolicyID: of.Policy(), Bypasses: p.bypasses}
	protection := next.settings.Of(fleet.SettingBypassProtection)
	c.ProtectionPolicyID = protection.Policy()
	if protection.Channel != fleet.ChannelServer {
		// Asked for by this machine alone, it heeds this machine's indicators.
		c.ProtectionSet = 1
	}
	if sameServer && before.own == next.own {
		next.rules = before.rules.With(c)
		return next, nil
	}
	if next.rules, err = verdict.Compile(c, p.server.Set, own); err != nil {
		return nil, err
	}
	return next, nil
}

// settle settles the settings among all channels.
func (p *policy) settle(server channel.Server) channel.Effective {
	said := channel.Said{Server: server, Environment: p.local.Environment, Local: p.local.Set}
	for _, f := range p.local.Files {
		said.Files = append(said.Files, channel.File{Path: f.Path, Settings: f.Settings})
	}
	return channel.Merge(said)
}

// revocations are those that a bundle has.
func revocations(set bundle.Set) []bypass.Revocation {
	var all []bypass.Revocation
	for r := range set.OfKind(bundle.KindRevocation) {
		if r.Err == nil {
			all = append(all, r.Revocation)
		}
	}
	return all
}
