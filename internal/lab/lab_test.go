package lab_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go/http3"

	"interdict/internal/lab"
	"interdict/internal/lab/internet"
	"interdict/internal/lab/labtest"
)

func TestMain(m *testing.M) { os.Exit(labtest.Main(m)) }

// output runs a program on a host and returns what it prints.
func output(t *testing.T, l *lab.Lab, host, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := l.Command(ctx, host, program, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, &out)
	}
	return out.String()
}

func TestLab(t *testing.T) {
	l := labtest.NewWithUsers(t, []lab.User{{Name: "alice", UID: 2001, Groups: []string{"finance", "audit"}}, {Name: "bob", UID: 2002, Groups: []string{"finance"}}}, "anna", "ben")
	t.Logf("privilege: %s", lab.CurrentPrivilege())
	t.Run("curl on a host reaches any name", func(t *testing.T) { testCurl(t, l) })
	t.Run("hosts have names and reach each other", func(t *testing.T) { testHosts(t, l) })
	t.Run("dig gets answers over UDP and TCP", func(t *testing.T) { testDig(t, l) })
	t.Run("DNS over TLS works", func(t *testing.T) { testDoT(t, l) })
	t.Run("HTTP/3 works", func(t *testing.T) { testHTTP3(t, l) })
	t.Run("ECH is offered in DNS and accepted", func(t *testing.T) { testECH(t, l) })
	t.Run("an endless download runs until it is closed", func(t *testing.T) { testSlow(t, l) })
	t.Run("raw ports", func(t *testing.T) { testRaw(t) })
	t.Run("a link can be cut and mended", func(t *testing.T) { testLink(t, l) })
	t.Run("the packet filter works on a host", func(t *testing.T) { testFilter(t, l) })
	t.Run("a program ends with its context", func(t *testing.T) { testCancel(t, l) })
	t.Run("every host knows the users", func(t *testing.T) { testAccounts(t, l) })
	t.Run("a program runs as a user", func(t *testing.T) { testUser(t, l) })
}

func testCurl(t *testing.T, l *lab.Lab) {
	t.Helper()
	curl := func(args ...string) string {
		return output(t, l, "anna", "curl", append([]string{"-sS", "--cacert", l.CAFile()}, args...)...)
	}
	tests := []struct {
		name, want string
		args       []string
	}{
		{"HTTP", "this is www.example.com by HTTP/1.1", []string{"http://www.example.com/"}},
		{"HTTP/2", "this is init.itunes.apple.com by HTTP/2.0", []string{"https://init.itunes.apple.com/"}},
		{"HTTP/1.1 over TLS", "by HTTP/1.1", []string{"--http1.1", "https://www.example.com/"}},
		{"IPv4", "for 198.51.100.2:", []string{"-4", "https://www.example.com/"}},
		{"IPv6", "for [2001:db8:2::2]:", []string{"-6", "https://www.example.com/"}},
		{"another port", "this is www.example.com:8444", []string{"https://www.example.com:8444/"}},
		{"an address for a name", "this is 203.0.113.9", []string{"https://203.0.113.9/"}},
		{"CONNECT proxy", "by HTTP/2.0 for 203.0.113", []string{"-x", "http://proxy.example:3128", "https://www.example.com/"}},
		{"absolute-form proxy", "this is www.example.com by HTTP/1.1", []string{"-x", "http://proxy.example:3128", "http://www.example.com/"}},
		{"SOCKS5 proxy with a name", "this is www.example.com", []string{"-x", "socks5h://proxy.example:1080", "https://www.example.com/"}},
		{"SOCKS5 proxy with an address", "this is www.example.com", []string{"-x", "socks5://proxy.example:1080", "https://www.example.com/"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := curl(tt.args...); !strings.Contains(got, tt.want) {
				t.Errorf("curl %v printed %q, want it to contain %q", tt.args, got, tt.want)
			}
		})
	}
	if got := len(curl("https://www.example.com/big?bytes=3000000")); got != 3_000_000 {
		t.Errorf("/big sent %d bytes, want 3000000", got)
	}
}

func testHosts(t *testing.T, l *lab.Lab) {
	t.Helper()
	got := output(t, l, "ben", "getent", "ahostsv4", "anna.lab.example")
	if want := l.Host("anna").IPv4.String(); !strings.HasPrefix(got, want) {
		t.Errorf("anna.lab.example is %q on ben, want %s", got, want)
	}
	if got := output(t, l, "ben", "ip", "route", "get", l.Host("anna").IPv4.String()); !strings.Contains(got, "via 198.51.100.5") {
		t.Errorf("route from ben to anna: %q", got)
	}
}

func testDig(t *testing.T, l *lab.Lab) {
	t.Helper()
	a := l.Addrs("www.example.com")
	tests := []struct {
		name, want string
		args       []string
	}{
		{"A", a[0].String(), []string{"+short", "WWW.example.com", "A"}},
		{"AAAA over TCP", a[1].String(), []string{"+short", "+tcp", "www.example.com", "AAAA"}},
		{"EDNS", "udp: 1232", []string{"www.example.com"}},
		{"NXDOMAIN", "status: NXDOMAIN", []string{"missing.example.com"}},
		{"no data", "ANSWER: 0", []string{"www.example.com", "MX"}},
		{"a long answer moves to TCP", "(TCP)", []string{"big.example.com", "TXT"}},
		{"HTTPS record with ech", "ech=", []string{"ech.example.com", "TYPE65"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := output(t, l, "anna", "dig", tt.args...)
			if tt.name == "HTTPS record with ech" {
				// Older dig shows the record as hexadecimal: the key is 5.
				if !strings.Contains(got, tt.want) && !strings.Contains(got, "ANSWER: 1") {
					t.Errorf("dig %v printed:\n%s", tt.args, got)
				}
				return
			}
			if !strings.Contains(got, tt.want) {
				t.Errorf("dig %v printed, want it to contain %q:\n%s", tt.args, tt.want, got)
			}
		})
	}
}

func testDoT(t *testing.T, l *lab.Lab) {
	t.Helper()
	client := dns.Client{Net: "tcp-tls", TLSConfig: &tls.Config{RootCAs: l.CA().Pool(), ServerName: "dns.google"}}
	a, _, err := client.ExchangeContext(t.Context(), new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA), "203.0.113.20:853")
	if err != nil {
		t.Fatal(err)
	}
	if want := l.Addrs("www.example.com")[0].String(); len(a.Answer) != 1 || a.Answer[0].(*dns.A).A.String() != want {
		t.Errorf("got %v, want %s", a.Answer, want)
	}
}

func testHTTP3(t *testing.T, l *lab.Lab) {
	t.Helper()
	v6 := l.Addrs("h3.example.com")[1].String()
	for _, address := range []string{
		fmt.Sprintf("h3.example.com:%d", internet.PortHTTPS), fmt.Sprintf("h3.example.com:%d", internet.PortHTTPSAlt),
		net.JoinHostPort(v6, "443"),
	} {
		transport := &http3.Transport{TLSClientConfig: &tls.Config{RootCAs: l.CA().Pool()}}
		client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
		resp, err := client.Get("https://" + address + "/")
		if err != nil {
			t.Fatalf("%s: %v", address, err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		transport.Close()
		if !strings.Contains(string(body), "by HTTP/3.0") {
			t.Errorf("%s answered %q", address, body)
		}
	}
}

func testECH(t *testing.T, l *lab.Lab) {
	t.Helper()
	q := new(dns.Msg).SetQuestion("ech.example.com.", dns.TypeHTTPS)
	a, err := dns.ExchangeContext(t.Context(), q, "203.0.113.1:53")
	if err != nil {
		t.Fatal(err)
	}
	var list []byte
	for _, rr := range a.Answer {
		for _, value := range rr.(*dns.HTTPS).Value {
			if ech, ok := value.(*dns.SVCBECHConfig); ok {
				list = ech.ECH
			}
		}
	}
	d := tls.Dialer{Config: &tls.Config{RootCAs: l.CA().Pool(), EncryptedClientHelloConfigList: list}}
	conn, err := d.DialContext(t.Context(), "tcp", "ech.example.com:443")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if state := conn.(*tls.Conn).ConnectionState(); !state.ECHAccepted {
		t.Error("the server did not accept ECH")
	}
}

func testSlow(t *testing.T, l *lab.Lab) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := l.Command(ctx, "anna", "curl", "-sSN", "--cacert", l.CAFile(), "--max-time", "1", "https://slow.example.com/slow?rate=100000")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 28 {
		t.Fatalf("curl ended with %v, want exit code 28: the time is over", err)
	}
	if len(out) < 50_000 || len(out) > 200_000 {
		t.Errorf("got %d bytes in a second, want about 100000", len(out))
	}
}

func testRaw(t *testing.T) {
	t.Helper()
	addr := func(port int) string {
		return netip.AddrPortFrom(netip.MustParseAddr("203.0.113.77"), uint16(port)).String()
	}
	echo, err := net.Dial("tcp", addr(internet.PortEcho))
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	buf := make([]byte, 5)
	if _, err = io.WriteString(echo, "hello"); err != nil {
		t.Fatal(err)
	}
	if _, err = io.ReadFull(echo, buf); err != nil || string(buf) != "hello" {
		t.Errorf("echo sent %q, %v", buf, err)
	}
	banner, err := net.Dial("tcp", addr(internet.PortBanner))
	if err != nil {
		t.Fatal(err)
	}
	defer banner.Close()
	if _, err := io.ReadFull(banner, buf); err != nil || string(buf) != "220 m" {
		t.Errorf("the banner starts with %q, %v", buf, err)
	}
}

func testLink(t *testing.T, l *lab.Lab) {
	t.Helper()
	if err := l.SetLink(t.Context(), "anna", lab.LinkDown); err != nil {
		t.Fatal(err)
	}
	cmd := l.Command(t.Context(), "anna", "curl", "-sS", "--max-time", "1", "http://203.0.113.9/")
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("curl worked over a cut link: %s", out)
	}
	if err := l.SetLink(t.Context(), "anna", lab.LinkUp); err != nil {
		t.Fatal(err)
	}
	output(t, l, "anna", "curl", "-sS", "--retry", "5", "--retry-all-errors", "--retry-delay", "1", "http://www.example.com/")
	output(t, l, "anna", "curl", "-sS6", "--retry", "5", "--retry-all-errors", "--retry-delay", "1", "http://www.example.com/")
}

func testFilter(t *testing.T, l *lab.Lab) {
	t.Helper()
	output(t, l, "anna", "nft", "add table inet idt-test; add chain inet idt-test out { type filter hook output priority 0 ; }; add rule inet idt-test out ip daddr 203.0.113.9 reject with tcp reset")
	if got := output(t, l, "ben", "nft", "list", "ruleset"); strings.Contains(got, "idt-test") {
		t.Errorf("a rule of anna is on ben: %s", got)
	}
	output(t, l, "anna", "nft", "delete", "table", "inet", "idt-test")
}

func testCancel(t *testing.T, l *lab.Lab) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := l.Command(ctx, "anna", "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := cmd.Wait(); err == nil {
		t.Error("sleep ended without an error")
	}
	if got := output(t, l, "anna", "ip", "netns", "pids", l.Host("anna").Namespace); strings.Contains(got, fmt.Sprint(cmd.Process.Pid)) {
		t.Errorf("process %d still runs", cmd.Process.Pid)
	}
}

func testAccounts(t *testing.T, l *lab.Lab) {
	t.Helper()
	want := "alice:x:2001:2001::/run/lab/home/alice:/bin/sh\nfinance:x:60000:alice,bob\naudit:x:60001:alice\n"
	got := output(t, l, "ben", "getent", "passwd", "alice") + output(t, l, "anna", "getent", "group", "finance", "audit")
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func testUser(t *testing.T, l *lab.Lab) {
	t.Helper()
	labtest.RequireUsers(t, l)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	const script = `id; pwd; stat -c %a:%U . "$XDG_RUNTIME_DIR"; grep Cap /proc/self/status; touch "$HOME/mine" && ls; ls ../bob; curl -sS http://www.example.com/`
	out, err := l.CommandAs(ctx, "ben", "alice", "sh", "-c", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{
		"uid=2001(alice) gid=2001(alice) groups=2001(alice),60000(finance),60001(audit)\n/run/lab/home/alice\n700:alice\n700:alice\n",
		"CapEff:\t0000000000000000\n", "mine\n", "Permission denied\n", "this is www.example.com",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("got\n%swant it to contain\n%s", out, want)
		}
	}
	// It ends when its context does, though it is somebody else's.
	cmd := l.CommandAs(ctx, "anna", "bob", "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := cmd.Wait(); err == nil {
		t.Error("sleep ended without an error")
	}
}

func TestMissingToolsAreNamedWithTheirPackages(t *testing.T) {
	err := lab.CheckTools(
		lab.Tool{Command: "no-such-a", Package: "zeta"}, lab.Tool{Command: "no-such-b", Package: "alpha"},
		lab.Tool{Command: "no-such-c", Package: "zeta"}, lab.Tool{Command: "sh", Package: "dash"},
	)
	if _, ok := errors.AsType[*lab.MissingError](err); !ok {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"no-such-a, no-such-b, no-such-c not found", "alpha ", " zeta"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, want it to contain %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "dash") || strings.Count(err.Error(), "zeta") != 1 {
		t.Errorf("got %q", err)
	}
}
