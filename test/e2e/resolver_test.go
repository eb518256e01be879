package e2e

import (
	"context"
	"strings"
	"testing"

	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/lab/internet"
)

// encryptedDNS are ways to ask an encrypted name service. The address is one
// that no service is known by: the name, or the port, gives each away.
func encryptedDNS(t *testing.T, f *fixture) map[string]func() result {
	t.Helper()
	return map[string]func() result{
		"dns.google": func() result {
			return f.curl(t, hostInside, append(f.resolve("dns.google", 443), "https://dns.google/")...)
		},
		"port-853": func() result {
			return f.run(t, hostInside, "openssl", "s_client", "-brief", "-noservername",
				"-connect", f.at("dot.example", internet.PortDoT), "-CAfile", f.lab.CAFile())
		},
	}
}

// waitResolverEvent waits for an event about an encrypted name service.
func (f *fixture) waitResolverEvent(t *testing.T, id event.ID, service string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := f.site.WaitEvent(ctx, hostInside, func(e event.Event) bool {
		return e.EventID == id && e.IndicatorID == "resolver:"+service && e.Process.Path != ""
	})
	if err != nil {
		t.Errorf("event %d about %s: %v", id, service, err)
	}
}

func TestEncryptedNameServicesAreLeftAloneAuditedOrRefused(t *testing.T) {
	f := install(t)
	f.mode(t, fleet.ModeBlock)
	plain := func(when string) {
		t.Helper()
		if r := f.run(t, hostInside, "dig", "+short", "plain.example.com"); r.out != f.lab.Addrs("plain.example.com")[0].String() {
			t.Errorf("%s a plain look-up prints %q", when, r.out)
		}
	}
	services := encryptedDNS(t, f)
	for name, ask := range services {
		works(t, name+" without protection", ask())
	}
	f.settings(t, "--bypass-protection", "audit")
	for name, ask := range services {
		works(t, name+" in audit", ask())
		f.waitResolverEvent(t, event.IDAudited, name)
	}
	plain("in audit")
	f.admin(t, "policy", "set", policy, "--bypass-protection", "block", "--wait")
	for name, ask := range services {
		refused(t, name+" in block", ask())
		f.waitResolverEvent(t, event.IDBlocked, name)
	}
	plain("in block")
	if r := f.run(t, hostInside, "dig", "dns.google"); !strings.Contains(r.out, "NXDOMAIN") {
		t.Errorf("in block the service's name has an address: %s", r.out)
	}

	// An indicator goes before.
	f.admin(t, "indicator", "add", "domain", "dns.google", "--action", "allow", "--wait")
	t.Cleanup(func() { f.dropIndicators(t) })
	works(t, "an allowed service", services["dns.google"]())
	refused(t, "another one", services["port-853"]())
}
