package blockpage

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"interdict/internal/agent/netguard"
	"interdict/internal/agent/netguard/nfqueue"
	"interdict/internal/agent/netguard/nft"
	"interdict/internal/agent/netguard/nft/netnstest"
	"interdict/internal/agent/verdict"
	"interdict/internal/bundle"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// The agent's host and a server.
const (
	host4, peer4 = "192.0.2.1", "192.0.2.2"
	host6, peer6 = "2001:db8::1", "2001:db8::2"
	queueBase    = 300
)

// place is a host with an agent's data path, and a server next to it.
type place struct {
	t      *testing.T
	peer   *netnstest.Peer
	sender *Sender
	in     *netguard.Inspector
	queues *nfqueue.Queues
	// asked counts the requests that a server got, and ended has how each
	// connection to one ended.
	asked atomic.Int32
	ended chan error
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{t: t, peer: netnstest.NewPeer(t), ended: make(chan error, 10000)}
	p.peer.Link("idt-host", []string{host4 + "/24", host6 + "/64"}, "idt-peer", []string{peer4 + "/24", peer6 + "/64"})
	p.peer.Run("nft", "add table inet count; add chain inet count in { type filter hook prerouting priority -300; };"+
		"add rule inet count in iif idt-peer ip saddr "+peer4+" counter; add rule inet count in iif idt-peer ip6 saddr "+peer6+" counter")
	p.peer.Do(func() error {
		return errors.Join(p.serve(net.JoinHostPort(peer4, "80")), p.serve(net.JoinHostPort(peer6, "80")))
	})

	sender, err := New()
	if err != nil {
		t.Fatal(err)
	}
	sender.limit.SetLimit(rate.Inf)
	p.sender = sender
	p.guard()
	return p
}

// serve is a server that says "allowed" to whoever asks.
func (p *place) serve(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() { p.answer(c) })
		}
	})
	p.t.Cleanup(func() {
		_ = l.Close()
		served.Wait()
	})
	return nil
}

func (p *place) answer(c net.Conn) {
	defer c.Close()
	for buf := make([]byte, 4096); ; {
		if _, err := c.Read(buf); err != nil {
			p.ended <- err
			return
		}
		p.asked.Add(1)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nallowed")
	}
}

// guard puts the data path in place: blocked.example is blocked.
func (p *place) guard() {
	p.t.Helper()
	log := slog.New(slog.DiscardHandler)
	in, err := netguard.NewInspector(netguard.InspectorConfig{Now: time.Now, Replier: p.sender, Report: func(o netguard.Observation) {
		if o.Explain != nil {
			o.Explain(netguard.Explanation{App: o.Decision.AppName, Host: o.Destination.Host, URL: whyURL})
		}
		o.Done()
	}})
	if err != nil {
		p.t.Fatal(err)
	}
	in.SetRuleset(blocking(p.t))
	g, err := nft.New(nft.Config{Logger: log})
	if err != nil {
		p.t.Fatal(err)
	}
	if err = g.Set(p.t.Context(), netguard.Config{Inspect: true, QueueBase: queueBase}); err != nil {
		p.t.Fatal(err)
	}
	q, err := nfqueue.New(nfqueue.Config{Base: queueBase, Handler: in, Logger: log})
	if err != nil {
		p.t.Fatal(err)
	}
	if err := q.Start(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	p.in, p.queues = in, q
	p.t.Cleanup(func() {
		if err := errors.Join(q.Shutdown(context.Background()), g.CleanUp(context.Background()), g.Close(), p.sender.Close()); err != nil {
			p.t.Error(err)
		}
	})
}

func blocking(t *testing.T) *verdict.Ruleset {
	t.Helper()
	set, err := bundle.NewSet(slices.Values([]bundle.Record{
		bundle.App("tunes", "Tunes"),
		bundle.Indicator(indicator.Indicator{
			ID: "tunes:blocked.example", Type: indicator.TypeDomain, Value: "blocked.example", Action: indicator.ActionBlock,
			Source: indicator.SourceCatalog, AppID: "tunes",
		}),
	}))
	if err != nil {
		t.Fatal(err)
	}
	rules, err := verdict.Compile(verdict.Config{Settings: fleet.Settings{NetworkProtection: fleet.ModeBlock}}, set)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// isolated makes a place for a test, unless the test runs elsewhere.
func isolated(t *testing.T) *place {
	t.Helper()
	if !netnstest.Isolated(t) {
		return nil
	}
	return newPlace(t)
}

// both are the server's addresses as they stand in a URL.
func both() []string { return []string{peer4, "[" + peer6 + "]"} }

// run runs a program and returns what it printed.
func run(t *testing.T, name string, arguments ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, arguments...).CombinedOutput()
	return string(out), err
}

// get opens a connection, sends a request for the blocked host, waits until
// the server's side of the connection is reset, and reads all there is.
func (p *place) get(address, request string) (string, error) {
	p.t.Helper()
	c, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close()
	if _, err = io.WriteString(c, request); err != nil {
		p.t.Fatal(err)
	}
	select {
	case err = <-p.ended:
		if !errors.Is(err, unix.ECONNRESET) {
			p.t.Errorf("the server saw %v, want a reset", err)
		}
	case <-time.After(5 * time.Second):
		p.t.Error("the server was not told")
	}
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
	got, err := io.ReadAll(c)
	return string(got), err
}

const blocked = "GET / HTTP/1.1\r\nHost: blocked.example\r\n\r\n"

func TestRealClientsShowThePage(t *testing.T) {
	p := isolated(t)
	if p == nil {
		return
	}
	clients := []struct {
		name, program string
		// arguments come before the URL.
		arguments []string
		// code is what the client ends with.
		code int
	}{
		{"curl", "curl", []string{"-s", "-i", "-m", "5", "-H", "Host: blocked.example"}, 0},
		{"curl with HTTP/1.0", "curl", []string{"-s", "-i", "-m", "5", "--http1.0", "-H", "Host: blocked.example"}, 0},
		{"curl bound to the device", "curl", []string{"-s", "-i", "-m", "5", "--interface", "idt-host", "-H", "Host: blocked.example"}, 0},
		{"curl that reads slowly", "curl", []string{"-s", "-i", "-m", "5", "--no-buffer", "--limit-rate", "100", "-H", "Host: blocked.example"}, 0},
		{"wget", "wget", []string{"-q", "-O", "-", "-S", "-T", "5", "-t", "1", "--content-on-error", "--header", "Host: blocked.example"}, 8},
		{"python", "python3", []string{"-c", `
import sys, urllib.error, urllib.request
try:
    urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers={"Host": "blocked.example"}), timeout=5)
except urllib.error.HTTPError as e:
    print("HTTP", e.code, e.read().decode())
`}, 0},
	}
	for _, c := range clients {
		for _, at := range both() {
			t.Run(c.name+" to "+at, func(t *testing.T) {
				if _, err := exec.LookPath(c.program); err != nil {
					t.Skipf("NOT TESTED: %v", err)
				}
				before := p.queues.Stats().Received[netguard.QueueFlow]
				out, err := run(t, c.program, append(slices.Clone(c.arguments), "http://"+at+"/a")...)
				var exit *exec.ExitError
				if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != c.code) || err == nil && c.code != 0 {
					t.Errorf("%s ended with %v, want code %d", c.name, err, c.code)
				}
				if !strings.Contains(out, "403") || !strings.Contains(out, "Tunes is blocked") || !strings.Contains(out, whyURL) {
					t.Errorf("got:\n%s", out)
				}
				if n := p.queues.Stats().Received[netguard.QueueFlow] - before; n != 1 {
					t.Errorf("%d packets were queued, want the request alone", n)
				}
			})
		}
	}
	if n := p.asked.Load(); n != 0 {
		t.Errorf("the server got %d requests", n)
	}
	if left := p.peer.Run("nft", "list", "table", "inet", "count"); strings.Count(left, "packets 0 ") != 2 {
		t.Errorf("what we sent in the server's name left the host:\n%s", left)
	}
}

func TestAConnectionThatWouldBeKeptIsAnsweredAndClosed(t *testing.T) {
	p := isolated(t)
	if p == nil {
		return
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	ask := func(method, url, host string) (status int, body string, err error) {
		request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		request.Header.Set("Accept", "text/html")
		request.Header.Set("Accept-Language", "de")
		response, err := client.Do(request)
		if err != nil {
			return 0, "", err
		}
		defer response.Body.Close()
		all, err := io.ReadAll(response.Body)
		return response.StatusCode, string(all), err
	}
	for _, at := range both() {
		url := "http://" + at + "/"
		for range 100 {
			status, body, err := ask(http.MethodGet, url, "blocked.example")
			if err != nil || status != http.StatusForbidden || !strings.Contains(body, `<html lang="de">`) {
				t.Fatalf("to %s: got %v, %v, %s", at, status, err, body)
			}
		}
		if status, body, err := ask(http.MethodHead, url, "blocked.example"); err != nil || status != http.StatusForbidden || body != "" {
			t.Errorf("HEAD to %s: got %v, %v, %s", at, status, err, body)
		}
		if status, body, err := ask(http.MethodGet, url, "allowed.example"); err != nil || status != http.StatusOK || body != "allowed" {
			t.Errorf("to another host at %s: got %v, %v, %s", at, status, err, body)
		}
		transport.CloseIdleConnections()
		if _, _, err := ask(http.MethodPost, url, "blocked.example"); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("POST to %s: %v, want a reset", at, err)
		}
	}
	if n := p.asked.Load(); n != 2 {
		t.Errorf("the server got %d requests, want the allowed two", n)
	}
	if got := p.in.Stats(); got.Explained != 202 || got.Refused != 204 {
		t.Errorf("%d of %d refused requests were explained, want 202 of 204", got.Explained, got.Refused)
	}
}

func TestManyProgramsAtOnceAllGetThePage(t *testing.T) {
	p := isolated(t)
	if p == nil {
		return
	}
	var programs sync.WaitGroup
	for i := range 16 {
		programs.Go(func() {
			for range 50 {
				out, err := exchange(net.JoinHostPort([]string{peer4, peer6}[i%2], "80"), blocked)
				if err != nil || !strings.Contains(out, whyURL) {
					t.Errorf("got %v, %q", err, out)
					return
				}
			}
		})
	}
	programs.Wait()
}

// exchange sends a request and reads all that comes back.
func exchange(address, request string) (string, error) {
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err = io.WriteString(c, request); err != nil {
		return "", err
	}
	got, err := io.ReadAll(c)
	return string(got), err
}

func TestAPageThatIsReadAfterTheResetIsWhole(t *testing.T) {
	p := isolated(t)
	if p == nil {
		return
	}
	for _, settings := range [][]string{
		{"net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.lo.rp_filter=0", "net.ipv4.tcp_timestamps=1"},
		{"net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.lo.rp_filter=1", "net.ipv4.conf.idt-host.rp_filter=1"},
		{"net.ipv4.conf.all.rp_filter=2", "net.ipv4.conf.lo.rp_filter=2", "net.ipv4.tcp_timestamps=0"},
	} {
		netnstest.Run(t, "sysctl", append([]string{"-qw"}, settings...)...)
		for _, address := range []string{peer4 + ":80", "[" + peer6 + "]:80"} {
			for range 50 {
				got, err := p.get(address, blocked)
				if err != nil || !strings.HasPrefix(got, "HTTP/1.1 403 ") || !strings.Contains(got, whyURL) {
					t.Fatalf("with %v to %s: got %v, %q", settings, address, err, got)
				}
			}
		}
	}
}

func TestAServerOnTheSameHost(t *testing.T) {
	p := isolated(t)
	if p == nil {
		return
	}
	for _, at := range []string{"127.0.0.1:8080", "[::1]:8080", host4 + ":8081", "[" + host6 + "]:8081"} {
		if err := p.serve(at); err != nil {
			t.Fatal(err)
		}
		if got, err := p.get(at, blocked); err != nil || !strings.Contains(got, whyURL) {
			t.Errorf("to %s: got %v, %q", at, err, got)
		}
	}
}

func TestWhatCannotBeAnsweredSafelyIsReset(t *testing.T) {
	p := isolated(t)
	if p == nil {
		return
	}
	reset := func(t *testing.T, address, request string) {
		t.Helper()
		if got, err := p.get(address, request); got != "" || !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("to %s: got %v, %q, want a reset", address, err, got)
		}
	}
	t.Run("a request with a body", func(t *testing.T) {
		reset(t, peer4+":80", "POST / HTTP/1.1\r\nHost: blocked.example\r\nContent-Length: 2\r\n\r\nhi")
	})
	t.Run("a head that is not complete", func(t *testing.T) {
		reset(t, peer4+":80", "GET / HTTP/1.1\r\nHost: blocked.example\r\nAccept: ")
	})
	t.Run("two requests at once", func(t *testing.T) { reset(t, peer4+":80", blocked+blocked) })
	t.Run("a destination that is translated", func(t *testing.T) {
		netnstest.Run(t, "nft", "add table ip translate; add chain ip translate out { type nat hook output priority -100; };"+
			"add rule ip translate out ip daddr 198.51.100.9 dnat to "+peer4)
		netnstest.Run(t, "ip", "route", "add", "198.51.100.9", "via", peer4)
		reset(t, "198.51.100.9:80", blocked)
		netnstest.Run(t, "nft", "delete table ip translate")
	})
	t.Run("a source that is translated", func(t *testing.T) {
		netnstest.Run(t, "ip", "addr", "add", "192.0.2.77/24", "dev", "idt-host")
		netnstest.Run(t, "nft", "add table ip translate; add chain ip translate out { type nat hook postrouting priority 100; };"+
			"add rule ip translate out oif idt-host snat to 192.0.2.77")
		reset(t, peer4+":80", blocked)
		netnstest.Run(t, "nft", "delete table ip translate")
	})
	t.Run("too many", func(t *testing.T) {
		p.sender.limit.SetLimit(0)
		p.sender.limit.SetBurst(0)
		reset(t, peer4+":80", blocked)
	})
	if n := p.asked.Load(); n > 1 {
		t.Errorf("the server got %d requests, want at most the beginning of one", n)
	}
}

func TestOnlyAddressesOfThisHostAreAnswered(t *testing.T) {
	p := isolated(t)
	if p == nil {
		return
	}
	netnstest.Run(t, "ip", "route", "add", "local", "198.51.100.0/28", "dev", "lo")
	netnstest.Run(t, "ip", "route", "add", "blackhole", "203.0.113.0/24")
	for addr, want := range map[string]bool{
		host4: true, host6: true, "127.0.0.1": true, "::1": true, "198.51.100.3": true,
		peer4: false, peer6: false, "203.0.113.1": false, "8.8.8.8": false, "2001:db8:ffff::1": false, "192.0.2.255": false, "224.0.0.1": false,
	} {
		if got := p.sender.isLocal(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: got %v, want %v", addr, got, want)
		}
	}
	asked := func(source string) bool {
		packet := asking(ends{netip.AddrPortFrom(netip.MustParseAddr(source), 4000), netip.MustParseAddrPort(peer4 + ":80")}, get)
		return p.sender.Reply(packet, netguard.Explanation{Host: "tunes.example"})
	}
	if !asked(host4) || asked("192.0.2.99") {
		t.Error("a program of this host was not answered, or somebody else was")
	}
	if err := p.sender.Close(); err != nil {
		t.Fatal(err)
	}
	if asked(host4) {
		t.Error("a closed sender sent")
	}
}
