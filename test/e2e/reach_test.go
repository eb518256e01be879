package e2e

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"interdict/internal/alert"
	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/lab/site"
)

func TestADeviceOutsideTheGroupIsUntouched(t *testing.T) {
	f := install(t)
	f.tag(t, app, "unsanctioned")
	f.mode(t, fleet.ModeBlock)
	works(t, "curl on "+hostOutside, f.curl(t, hostOutside, "https://outside.itunes.apple.com/"))
	works(t, "dig on "+hostOutside, f.run(t, hostOutside, "dig", "+short", "outside.itunes.apple.com"))
	if events := f.events(t, hostOutside, "outside."); len(events) > 0 {
		t.Errorf("%s has %d events about it, the first: %+v", hostOutside, len(events), events[0])
	}
	refused(t, "curl on "+hostInside, f.curl(t, hostInside, "https://outside.itunes.apple.com/"))
}

func TestASanctionedAppBelowAnUnsanctionedOneIsSpared(t *testing.T) {
	f := install(t)
	f.tag(t, "amazon-web-services", "sanctioned")
	f.tag(t, "amazon", "unsanctioned")
	f.mode(t, fleet.ModeBlock)
	works(t, "aws.amazon.com", f.curl(t, hostInside, "https://aws.amazon.com/"))
	works(t, "console.aws.amazon.com", f.curl(t, hostInside, "https://console.aws.amazon.com/"))
	refused(t, "www.amazon.com", f.curl(t, hostInside, "https://www.amazon.com/"))
	if events := f.events(t, hostInside, "aws.amazon.com"); len(events) > 0 {
		t.Errorf("%d events about the sanctioned app, the first: %+v", len(events), events[0])
	}
}

func TestARefusedNameHasNoAddress(t *testing.T) {
	f := install(t)
	f.tag(t, app, "unsanctioned")
	f.mode(t, fleet.ModeBlock)
	for _, args := range [][]string{{"A"}, {"AAAA"}, {"HTTPS"}, {"+tcp", "A"}} {
		r := f.run(t, hostInside, "dig", append(args, "ech.itunes.apple.com")...)
		if !strings.Contains(r.out, "NXDOMAIN") {
			t.Errorf("dig %v printed:\n%s", args, r.out)
		}
		if !strings.Contains(r.out, "EDE: 15") {
			t.Errorf("dig %v does not say why:\n%s", args, r.out)
		}
	}
}

func TestECHIsTakenOutOfAnswers(t *testing.T) {
	f := install(t)
	outside := f.offersECH(t, hostOutside)
	inside := f.offersECH(t, hostInside)
	if !outside || inside {
		t.Errorf("the answer offers ECH: %v with the agent and %v without", inside, outside)
	}
}

// offersECH looks an HTTPS record up, which has to be there, and tells whether
// it offers ECH.
func (f *fixture) offersECH(t *testing.T, host string) bool {
	t.Helper()
	r := finish(f.peer(t.Context(), host, "https-record", "ech.example.com"))
	works(t, "the look-up on "+host, r)
	return strings.Contains(r.out, "ech=")
}

func TestANameKnownOnlyFromDNSDecides(t *testing.T) {
	f := install(t)
	r := f.nameless(t, "nameless-free.itunes.apple.com", func() {})
	works(t, "not listed", r)

	f.tag(t, app, "unsanctioned")
	r = f.nameless(t, "nameless-audit.itunes.apple.com", func() {})
	works(t, "audit", r)
	f.waitEvent(t, event.IDAudited, "nameless-audit.itunes.apple.com")

	// The look-up has to succeed, so the mode changes after it.
	r = f.nameless(t, "nameless-block.itunes.apple.com", func() { f.mode(t, fleet.ModeBlock) })
	refused(t, "block", r)
	e := f.waitEvent(t, event.IDBlocked, "nameless-block.itunes.apple.com")
	if e.Evidence != event.EvidenceDNS || e.Destination.Port == 53 {
		t.Errorf("got evidence %q and port %d, want the connection, known by dns", e.Evidence, e.Destination.Port)
	}
}

// nameless runs the peer that never says the name. Between its look-up and its
// connection, meanwhile is called.
func (f *fixture) nameless(t *testing.T, host string, meanwhile func()) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := f.peer(ctx, hostInside, "nameless", host)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var resolved [len("resolved\n")]byte
	if _, err = io.ReadFull(out, resolved[:]); err != nil {
		t.Errorf("the look-up of %s: %v", host, err)
	}
	meanwhile()
	start := time.Now()
	if _, err = io.WriteString(in, "go on\n"); err != nil {
		t.Error(err)
	}
	text, err := io.ReadAll(out)
	if err != nil {
		t.Error(err)
	}
	return result{out: string(text), err: cmd.Wait(), took: time.Since(start)}
}

func TestOpenDownloadsAreCut(t *testing.T) {
	f := install(t)
	f.tag(t, app, "unsanctioned")
	const host = "download.itunes.apple.com"
	addrs := f.lab.Addrs(host)
	curl := func(ip string) func(context.Context) *exec.Cmd {
		return func(ctx context.Context) *exec.Cmd {
			return f.lab.Command(ctx, hostInside, "curl", "-sSN", "--cacert", f.lab.CAFile(),
				"--resolve", host+":443:"+ip, "https://"+host+"/slow")
		}
	}
	downloads := []struct {
		name string
		cmd  func(context.Context) *exec.Cmd
		end  chan time.Time
	}{
		{"IPv4", curl(addrs[0].String()), nil},
		{"IPv6", curl("[" + addrs[1].String() + "]"), nil},
		{"HTTP/3", func(ctx context.Context) *exec.Cmd {
			return f.peer(ctx, hostInside, "http3slow", host, f.at(host, 443))
		}, nil},
		{"sanctioned", func(ctx context.Context) *exec.Cmd {
			return f.lab.Command(ctx, hostInside, "curl", "-sSN", "--cacert", f.lab.CAFile(), "https://www.example.com/slow")
		}, nil},
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i, d := range downloads {
		downloads[i].end = download(t, d.name, d.cmd(ctx))
	}
	start := time.Now()
	f.mode(t, fleet.ModeBlock)
	t.Logf("the policy was applied after %s", time.Since(start).Round(time.Millisecond))
	for _, d := range downloads[:3] {
		select {
		case at := <-d.end:
			t.Logf("%s ended %s after the policy was changed", d.name, at.Sub(start).Round(time.Millisecond))
		case <-time.After(patience):
			t.Errorf("%s goes on", d.name)
		}
	}
	select {
	case <-downloads[3].end:
		t.Error("the download from another site was cut")
	default:
	}
	_, err := f.site.WaitEvent(t.Context(), hostInside, func(e event.Event) bool {
		return e.EventID == event.IDBlocked && e.Destination.Host == host && e.Cut
	})
	if err != nil {
		t.Errorf("no event says that a connection was cut: %v", err)
	}
}

func TestAConnectionThatEndedIsNotCut(t *testing.T) {
	f := install(t)
	f.tag(t, app, "unsanctioned")
	const host = "ended.itunes.apple.com"
	works(t, "TCP", f.curl(t, hostInside, append(f.resolve(host, 443), "https://"+host+"/")...))
	works(t, "UDP", finish(f.peer(t.Context(), hostInside, "http3", host, f.at(host, 443))))
	f.waitEvent(t, event.IDAudited, host)
	f.mode(t, fleet.ModeBlock)
	refused(t, "another connection", f.curl(t, hostInside, append(f.resolve("other."+host, 443), "https://other."+host+"/")...))
	f.waitEvent(t, event.IDBlocked, "other."+host)
	for _, e := range f.events(t, hostInside, host) {
		if e.Destination.Host == host && e.EventID == event.IDBlocked {
			t.Errorf("there is an event about a refusal that did not happen: %+v", e)
		}
	}
}

// download starts a program, waits until it prints something, and returns a
// channel that tells when it ended.
func download(t *testing.T, name string, cmd *exec.Cmd) chan time.Time {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	first := make(chan int, 1)
	end := make(chan time.Time, 1)
	go func() {
		buf := make([]byte, 64<<10)
		n, readErr := out.Read(buf)
		first <- n
		for readErr == nil {
			_, readErr = out.Read(buf)
		}
		_ = cmd.Wait() // it is killed or cut: that it ended is what counts
		end <- time.Now()
	}()
	select {
	case n := <-first:
		if n == 0 {
			t.Errorf("%s: no bytes arrive", name)
		}
	case <-time.After(patience):
		t.Errorf("%s: nothing arrives", name)
	}
	return end
}

func TestARefusalRaisesOneAlert(t *testing.T) {
	f := install(t)
	// No other test uses this app: the count of an event that is open already
	// is told later and later.
	f.tag(t, "evernote", "unsanctioned")
	f.mode(t, fleet.ModeBlock)
	const refusals = 3
	for range refusals {
		refused(t, "curl", f.curl(t, hostInside, "https://www.evernote.com/"))
	}
	var alerts []alert.Alert
	err := site.Until(t.Context(), func(ctx context.Context) error {
		alerts = nil
		if err := f.site.AdminList(ctx, &alerts, "alert", "list", "--app", "evernote"); err != nil {
			return err
		}
		// A program may ask for several addresses of a name, each time.
		if len(alerts) != 1 || alerts[0].DeviceName != hostInside || alerts[0].Title == "" || alerts[0].Count < refusals {
			return fmt.Errorf("alerts about evernote: %+v", alerts)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	says(t, "the alert", f.admin(t, "alert", "show", alerts[0].ID), "Evernote was refused", hostInside)
}
