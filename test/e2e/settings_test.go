package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/lab/site"
)

func TestAGatewayJudgesWhatItForwards(t *testing.T) {
	f := install(t)
	f.tag(t, app, "unsanctioned")
	f.mode(t, fleet.ModeBlock)
	f.behind(t, hostCarl)
	get := func(host string) result {
		return f.curl(t, hostCarl, append(f.resolve(host, 443), "https://"+host+"/")...)
	}
	works(t, "a client of a device that is no gateway", get("off.gateway.itunes.apple.com"))
	refused(t, "the device itself", f.curl(t, hostInside, "https://off.gateway.itunes.apple.com/"))

	f.settings(t, "--gateway-mode=on")
	const host = "on.gateway.itunes.apple.com"
	before := f.requests.of(host)
	refused(t, "a client of a gateway", get(host))
	f.unseen(t, "a client of a gateway", host, before)
	works(t, "something else", get("www.example.com"))
	if e := f.waitEvent(t, event.IDBlocked, host); e.Process.Path != "" {
		t.Errorf("the event blames the gateway's own program %q", e.Process.Path)
	}

	f.admin(t, "policy", "set", policy, "--gateway-mode", "off", "--wait")
	works(t, "a client of what was a gateway", get(host))
}

// behind puts a host behind anna until the test ends: it reaches the small
// Internet through her. The line between the two is one that a container does
// not have, since containers are judged anyway.
func (f *fixture) behind(t *testing.T, host string) {
	t.Helper()
	const (
		network, gateway, client = "192.0.2.0/30", "192.0.2.1/30", "192.0.2.2/30"
		forward                  = "echo %d > /proc/sys/net/ipv4/ip_forward"
	)
	if tun, err := os.OpenFile(tunDevice, os.O_RDWR, 0); err != nil {
		t.Skipf("SKIPPED: this test needs TUN devices: %v", err)
	} else if err := tun.Close(); err != nil {
		t.Error(err)
	}
	line := f.peer(t.Context(), hostInside, "line", cable, "/run/netns/"+f.lab.Host(host).Namespace)
	out, err := line.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := line.Start(); err != nil {
		t.Fatal(err)
	}
	var ready [1]byte
	if _, err := out.Read(ready[:]); err != nil {
		t.Fatalf("the line between %s and %s: %v", hostInside, host, err)
	}
	t.Cleanup(func() { _ = line.Wait() }) // The end of the test has killed it.
	works(t, "forwarding", f.run(t, hostInside, "sh", "-c", fmt.Sprintf(forward, 1)))
	t.Cleanup(func() {
		stop := f.lab.Command(context.Background(), hostInside, "sh", "-c", fmt.Sprintf(forward, 0))
		works(t, "the end of forwarding", finish(stop))
	})
	for _, end := range []struct{ host, address string }{{hostInside, gateway}, {host, client}} {
		works(t, "an address", f.run(t, end.host, "ip", "addr", "add", end.address, "dev", cable))
		works(t, "a line that is up", f.run(t, end.host, "ip", "link", "set", "dev", cable, "up"))
	}
	works(t, "the way out", f.run(t, host, "ip", "route", "add", "203.0.113.0/24", "dev", cable))
	// This process is the router.
	back := func(ctx context.Context, verb string) {
		via := f.lab.Host(hostInside).IPv4.String()
		works(t, "the way back", finish(exec.CommandContext(ctx, "ip", "route", verb, network, "via", via)))
	}
	back(t.Context(), "add")
	t.Cleanup(func() { back(context.Background(), "del") })
}

func TestWithoutAnAgentFailModeDecides(t *testing.T) {
	f := install(t)
	f.tag(t, app, "unsanctioned")
	f.mode(t, fleet.ModeBlock)
	for _, mode := range fleet.FailModes() {
		f.settings(t, "--fail-mode="+string(mode))
		host := fresh("fail-"+string(mode)) + ".itunes.apple.com"
		get := func(host string) result {
			// Nobody says no to what is not judged: it is lost.
			return f.curl(t, hostInside, append(f.resolve(host, 443), "--max-time", "2", "https://"+host+"/")...)
		}
		refused(t, "with an agent", get(host))
		if err := f.site.KillAgent(hostInside); err != nil {
			t.Fatal(err)
		}
		before := f.requests.of(host) + f.requests.of("www.example.com")
		listed, other := get(host), get("www.example.com")
		seen := f.requests.of(host) + f.requests.of("www.example.com") - before
		f.startAgent(t)
		if err := f.waitOnline(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		if mode == fleet.FailOpen {
			works(t, "what is listed, with nobody to judge it", listed)
			works(t, "something else, with nobody to judge it", other)
		} else if listed.err == nil || other.err == nil || seen != 0 {
			t.Errorf("with nobody to judge it and %s, %d got through: %q, %q", mode, seen, listed.out, other.out)
		}
		refused(t, "with the next agent", get(host))
		works(t, "something else, with the next agent", get("www.example.com"))
	}
}

func TestUseThatIsNotReportedIsNotKnown(t *testing.T) {
	f := install(t)
	f.settings(t, "--usage-reporting=off")
	works(t, "an app", f.curl(t, hostInside, "https://miro.com/"))
	f.admin(t, "policy", "set", policy, "--usage-reporting", "on", "--wait")
	works(t, "another app", f.curl(t, hostInside, "https://www.canva.com/"))
	// What was counted is written down when the agent ends, and sent by the
	// next one.
	f.restart(t)
	until(t, "the server knows of the other app", func(ctx context.Context) error {
		got, err := f.dryRun(ctx, "canva")
		if err == nil && got.Devices != 1 {
			err = fmt.Errorf("it says %+v", got)
		}
		return err
	})
	if got, err := f.dryRun(t.Context(), "miro"); err != nil || got.Devices != 0 {
		t.Errorf("of use that was not to be reported the server says %+v, %v", got, err)
	}
}

// soon is much longer than an event takes to the server when nothing holds it
// back.
const soon = 4 * time.Second

func TestEventsWaitForTheUploadInterval(t *testing.T) {
	f := install(t)
	f.tag(t, app, "unsanctioned")
	f.mode(t, fleet.ModeBlock)
	f.settings(t, "--event-upload-interval=1h")
	// The interval begins with what is sent, which the first one may be.
	var held string
	for i := range 3 {
		host := fmt.Sprintf("%s%d.itunes.apple.com", fresh("held"), i)
		refused(t, host, f.curl(t, hostInside, "https://"+host+"/"))
		f.waitEvent(t, event.IDBlocked, host)
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		err := site.Until(ctx, f.stored(host))
		cancel()
		if err != nil {
			held = host
			break
		}
	}
	if held == "" {
		t.Fatal("events were sent at once, with an interval of an hour")
	}
	f.admin(t, "policy", "set", policy, "--event-upload-interval", "1s", "--wait")
	until(t, "what waited is on the server when the interval is short again", f.stored(held))
}

// stored is for until: the server has an event of anna's about a host.
func (f *fixture) stored(host string) func(context.Context) error {
	return func(ctx context.Context) error {
		var all []event.Event
		if err := f.site.AdminList(ctx, &all, "event", "query", "device="+hostInside, "host="+host); err != nil {
			return err
		}
		if len(all) == 0 {
			return fmt.Errorf("it has no event about %s", host)
		}
		return nil
	}
}
