package e2e

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/lab"
	"interdict/internal/lab/site"
)

func TestAgentsGoOnWhileTheServerIsDead(t *testing.T) {
	f := install(t)
	f.tag(t, app, "unsanctioned")
	f.mode(t, fleet.ModeBlock)
	if err := f.site.KillServer(); err != nil {
		t.Fatal(err)
	}
	var hosts []string
	for i := range 5 {
		host := fmt.Sprintf("orphan%d.itunes.apple.com", i)
		hosts = append(hosts, host)
		refused(t, host, f.curl(t, hostInside, "https://"+host+"/"))
		f.waitEvent(t, event.IDBlocked, host)
	}
	works(t, "the rest of the internet", f.curl(t, hostInside, "https://www.example.com/"))
	start := time.Now()
	f.startServer(t)
	if err := f.waitOnline(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	t.Logf("both devices were online again %s after the restart", time.Since(start).Round(time.Millisecond))
	f.checkStored(t, hosts)
	var policies []fleet.Policy
	if err := f.site.AdminList(t.Context(), &policies, "policy", "list"); err != nil || len(policies) != 1 ||
		policies[0].Settings.NetworkProtection != fleet.ModeBlock {
		t.Errorf("after the restart the server has the policies %+v, %v", policies, err)
	}
}

func TestAKilledServerKeepsWhatItAcknowledged(t *testing.T) {
	f := install(t)
	f.tag(t, app, "unsanctioned")
	f.mode(t, fleet.ModeBlock)
	names := fresh("stored")
	traffic := f.traffic(t, names)
	f.waitEvent(t, event.IDBlocked, nth(names, 10))
	if err := f.site.KillServer(); err != nil {
		t.Fatal(err)
	}
	f.waitEvent(t, event.IDBlocked, nth(names, 20))
	f.startServer(t)
	f.waitEvent(t, event.IDBlocked, nth(names, 30))
	if err := f.site.KillServer(); err != nil {
		t.Fatal(err)
	}
	<-traffic
	f.startServer(t)
	if err := f.waitOnline(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	var hosts []string
	for i := range 40 {
		hosts = append(hosts, nth(names, i))
		f.waitEvent(t, event.IDBlocked, hosts[i])
	}
	f.checkStored(t, hosts)
}

func TestAKilledAgentLosesNothing(t *testing.T) {
	f := install(t)
	const badHost, badIP, badIPv6 = "bad.example", "203.0.113.200", "2001:db8:1::bad5"
	f.admin(t, "indicator", "add", "ip", badIP, "--action", "block", "--include-group", group)
	f.admin(t, "indicator", "add", "cidr", "2001:db8:1::bad0/124", "--action", "block", "--include-group", group)
	t.Cleanup(func() { f.dropIndicators(t) })
	f.tag(t, app, "unsanctioned")
	f.mode(t, fleet.ModeBlock)
	bad := []string{"--resolve", badHost + ":443:" + badIP, "https://" + badHost + "/"}
	refused(t, "the bad address", f.curl(t, hostInside, bad...))
	bad6 := []string{"--resolve", badHost + ":443:[" + badIPv6 + "]", "https://" + badHost + "/"}
	refused(t, "the bad IPv6 address", f.curl(t, hostInside, bad6...))
	f.waitAddressEvent(t, badIP)
	f.waitAddressEvent(t, badIPv6)

	// Traffic goes on while the agent is killed, so that events are on every
	// stage of their way.
	names := fresh("killed")
	traffic := f.traffic(t, names)
	f.waitEvent(t, event.IDBlocked, nth(names, 10))
	if err := f.site.KillAgent(hostInside); err != nil {
		t.Fatal(err)
	}
	refused(t, "the bad address without an agent", f.curl(t, hostInside, bad...))
	refused(t, "the bad IPv6 address without an agent", f.curl(t, hostInside, bad6...))
	works(t, "the rest of the internet without an agent", f.curl(t, hostInside, "https://www.example.com/"))
	sawRefused := <-traffic
	start := time.Now()
	f.startAgent(t)
	if err := f.waitOnline(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	t.Logf("the device was online again %s after the restart", time.Since(start).Round(time.Millisecond))
	refused(t, "an unsanctioned app", f.curl(t, hostInside, "https://after.itunes.apple.com/"))
	var hosts []string
	for _, e := range f.events(t, hostInside, names) {
		hosts = append(hosts, e.Destination.Host)
	}
	// What a program saw refused is in the log, but for the one connection
	// that the agent may have had in its hands when it died.
	missing := slices.DeleteFunc(slices.Clone(sawRefused), func(host string) bool { return slices.Contains(hosts, host) })
	if len(sawRefused) < 10 || len(missing) > 1 {
		t.Errorf("%d connections were refused; of %q there is no event", len(sawRefused), missing)
	}
	f.checkStored(t, append(hosts, "after.itunes.apple.com"))
}

// fresh is a word for names that no test has used in this installation. An
// event about a name that was used would be taken for that of now.
func fresh(word string) string { return fmt.Sprintf("%s-%x-", word, time.Now().UnixNano()) }

// nth is one of the names that traffic connects to.
func nth(names string, i int) string { return fmt.Sprintf("%s%d.itunes.apple.com", names, i) }

// traffic makes 40 connections to names of iTunes in the background, one
// after the other: see nth. It sends the names that were refused once all have
// been tried.
func (f *fixture) traffic(t *testing.T, names string) <-chan []string {
	t.Helper()
	done := make(chan []string, 1)
	go func() {
		var refused []string
		for i := range 40 {
			host := nth(names, i)
			if r := f.curl(t, hostInside, "--max-time", "2", "https://"+host+"/"); r.err != nil {
				refused = append(refused, host)
			}
		}
		done <- refused
	}()
	return done
}

// waitAddressEvent waits for the event of a refused address.
func (f *fixture) waitAddressEvent(t *testing.T, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	want := netip.MustParseAddr(address)
	_, err := f.site.WaitEvent(ctx, hostInside, func(e event.Event) bool {
		return e.EventID == event.IDBlocked && e.Destination.IP == want && e.Evidence == event.EvidenceIP
	})
	if err != nil {
		t.Errorf("event 1126 for %s: %v", address, err)
	}
}

// dropIndicators deletes all custom indicators.
func (f *fixture) dropIndicators(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	var list []struct {
		ID     string `json:"id"`
		Source string `json:"source"`
	}
	if err := f.site.AdminList(ctx, &list, "indicator", "list", "--source", "custom"); err != nil {
		t.Error(err)
	}
	for _, i := range list {
		_, err := f.site.Admin(ctx, "indicator", "delete", i.ID, "--wait")
		// That of another test may have expired just now.
		if err != nil && !strings.Contains(err.Error(), "there is no indicator") {
			t.Error(err)
		}
	}
}

func TestATamperedBundleIsRefused(t *testing.T) {
	f := install(t)
	f.tag(t, app, "unsanctioned")
	f.mode(t, fleet.ModeBlock)
	if err := f.site.StopAgent(hostInside); err != nil {
		t.Fatal(err)
	}
	f.link(t, lab.LinkDown)
	// An attacker turns the block of a name into one of another name.
	file := filepath.Join(f.site.StateDir(hostInside), "bundle.json")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	forged := bytes.ReplaceAll(text, []byte("itunes.apple.com"), []byte("itunes.apple.org"))
	if bytes.Equal(text, forged) {
		forged[len(forged)/2] ^= 1
	}
	if err = os.WriteFile(file, forged, 0o600); err != nil {
		t.Fatal(err)
	}
	f.startAgent(t)
	f.waitRefusedBundle(t)
	f.link(t, lab.LinkUp)
	if err = f.waitOnline(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	refused(t, "after the server sent the real bundle", f.curl(t, hostInside, "https://tampered.itunes.apple.com/"))
}

func (f *fixture) waitRefusedBundle(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	e, err := f.site.WaitEvent(ctx, hostInside, func(e event.Event) bool { return e.EventID == event.IDBundleRefused })
	if err != nil {
		t.Errorf("no event says that the bundle was refused: %v", err)
	}
	t.Logf("event %d: %s", e.EventID, e.Reason)
}

func TestAnAgentThatStartsWithoutNetworkEnforces(t *testing.T) {
	f := install(t)
	f.tag(t, app, "unsanctioned")
	f.mode(t, fleet.ModeBlock)
	if err := f.site.StopAgent(hostInside); err != nil {
		t.Fatal(err)
	}
	f.link(t, lab.LinkDown)
	f.startAgent(t)
	out, err := f.site.Agent(t.Context(), hostInside, "test", "--rules-only", "https://offline.itunes.apple.com/")
	if err != nil || !strings.Contains(out, "block") {
		t.Errorf("without a network the agent judges: %s, %v", out, err)
	}
	// The link comes back, the server does not yet.
	if err = f.site.KillServer(); err != nil {
		t.Fatal(err)
	}
	f.link(t, lab.LinkUp)
	f.waitReachable(t)
	refused(t, "before the server was seen", f.curl(t, hostInside, "https://offline.itunes.apple.com/"))
	f.waitEvent(t, event.IDBlocked, "offline.itunes.apple.com")
	f.startServer(t)
	if err = f.waitOnline(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	f.checkStored(t, []string{"offline.itunes.apple.com"})
}

func (f *fixture) startServer(t *testing.T) {
	t.Helper()
	if err := f.site.StartServer(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) startAgent(t *testing.T, variables ...string) {
	t.Helper()
	if err := f.site.StartAgent(t.Context(), hostInside, variables...); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) link(t *testing.T, s lab.LinkState) {
	t.Helper()
	if err := f.lab.SetLink(t.Context(), hostInside, s); err != nil {
		t.Fatal(err)
	}
}

// waitReachable waits until anna reaches the small Internet again.
func (f *fixture) waitReachable(t *testing.T) {
	t.Helper()
	err := site.Until(t.Context(), func(context.Context) error {
		return f.curl(t, hostInside, "--max-time", "1", "https://www.example.com/").err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// checkStored checks that the server has each event of anna's local log about
// these hosts, once and in the same revision.
func (f *fixture) checkStored(t *testing.T, hosts []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := site.Until(ctx, func(ctx context.Context) error {
		local, err := f.site.Events(ctx, hostInside)
		if err != nil {
			return err
		}
		var stored []event.Event
		if err := f.site.AdminList(ctx, &stored, "event", "query", "device="+hostInside, "--limit", "0"); err != nil {
			return err
		}
		return compare(countsOf(local, hosts), stored, hosts)
	})
	if err != nil {
		t.Error(err)
	}
}

// countsOf maps the ids of the events about hosts to their counts.
func countsOf(events []event.Event, hosts []string) map[string]int {
	counts := make(map[string]int)
	for _, e := range events {
		if slices.Contains(hosts, e.Destination.Host) {
			counts[e.ID] = e.Count
		}
	}
	return counts
}

func compare(local map[string]int, stored []event.Event, hosts []string) error {
	seen := make(map[string]int)
	for _, e := range stored {
		if !slices.Contains(hosts, e.Destination.Host) {
			continue
		}
		if _, again := seen[e.ID]; again {
			return fmt.Errorf("event %s about %s is stored twice", e.ID, e.Destination.Host)
		}
		seen[e.ID] = e.Count
	}
	if !maps.Equal(local, seen) {
		return fmt.Errorf("of %d hosts the device has %d events and the server %d: %v and %v", len(hosts), len(local), len(seen), local, seen)
	}
	return nil
}
