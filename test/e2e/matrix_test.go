package e2e

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/lab/internet"
)

// peer is one way of connecting to a name.
type peer struct {
	name string
	// host is the name it connects to; all are iTunes'. Each peer has its own,
	// so that its events are told from the others'.
	host string
	// run connects once; its error says that the connection did not work.
	run func(t *testing.T, f *fixture, host string) result
	// evidence is how the agent ought to recognise the name in audit mode,
	// where no look-up came first.
	evidence event.Evidence
}

// at returns the address of a name and a port.
func (f *fixture) at(host string, port int) string {
	return net.JoinHostPort(f.lab.Addrs(host)[0].String(), strconv.Itoa(port))
}

// resolve makes curl use a name's address without a look-up.
func (f *fixture) resolve(host string, port int) []string {
	return []string{"--resolve", fmt.Sprintf("%s:%d:%s", host, port, f.lab.Addrs(host)[0])}
}

// failing makes curl fail if the answer is an error, and print it all the same.
const failing = "--fail-with-body"

// curlTo is a peer: curl with arguments, and without a look-up.
func curlTo(scheme string, port int, args ...string) func(*testing.T, *fixture, string) result {
	return func(t *testing.T, f *fixture, host string) result {
		t.Helper()
		url := fmt.Sprintf("%s://%s:%d/", scheme, host, port)
		return f.curl(t, hostInside, append(append(f.resolve(host, port), args...), failing, url)...)
	}
}

// ours is a peer: this program.
func ours(name string, port int) func(*testing.T, *fixture, string) result {
	return func(t *testing.T, f *fixture, host string) result {
		t.Helper()
		return finish(f.peer(t.Context(), hostInside, name, host, f.at(host, port)))
	}
}

// openssl is a peer that says a server name exactly as it is given. The
// server of the lab refuses a name with a dot at its end with an alert, which
// shows that the connection worked.
func openssl(spell func(string) string, worked string) func(*testing.T, *fixture, string) result {
	return func(t *testing.T, f *fixture, host string) result {
		t.Helper()
		r := f.run(t, hostInside, "openssl", "s_client", "-brief", "-connect", f.at(host, internet.PortHTTPS),
			"-servername", spell(host), "-CAfile", f.lab.CAFile())
		if r.err = nil; !strings.Contains(r.out, worked) {
			r.err = fmt.Errorf("%q is not in the output", worked)
		}
		return r
	}
}

// dig is a peer: a look-up that must have an answer.
func dig(args ...string) func(*testing.T, *fixture, string) result {
	return func(t *testing.T, f *fixture, host string) result {
		t.Helper()
		r := f.run(t, hostInside, "dig", append(append([]string{}, args...), host)...)
		if r.err == nil && !strings.Contains(r.out, f.lab.Addrs(host)[0].String()) {
			r.err = fmt.Errorf("no answer")
		}
		return r
	}
}

// proxied is a peer: curl through a proxy that is given by address.
func proxied(scheme string, port int, url string) func(*testing.T, *fixture, string) result {
	return func(t *testing.T, f *fixture, host string) result {
		t.Helper()
		return f.curl(t, hostInside, failing, "-x", scheme+"://"+f.at("proxy.example", port), strings.ReplaceAll(url, "HOST", host))
	}
}

func same(s string) string { return s }

func peers() []peer {
	return []peer{
		{"curl, HTTP", "p01", curlTo("http", 80), event.EvidenceHTTPHost},
		{"curl, HTTP, capitals and a dot", "p02", func(t *testing.T, f *fixture, host string) result {
			t.Helper()
			return f.curl(t, hostInside, failing, "-H", "Host: "+strings.ToUpper(host)+".", "http://"+f.at(host, 80)+"/")
		}, event.EvidenceHTTPHost},
		{"curl, HTTPS, HTTP/2", "p03", curlTo("https", 443), event.EvidenceTLSSNI},
		{"curl, HTTPS, HTTP/1.1, TLS 1.2", "p04", curlTo("https", 443, "--http1.1", "--tls-max", "1.2"), event.EvidenceTLSSNI},
		{"curl, HTTPS, after a look-up", "p05", func(t *testing.T, f *fixture, host string) result {
			t.Helper()
			return f.curl(t, hostInside, "https://"+host+"/")
		}, event.EvidenceTLSSNI},
		{"curl, HTTPS, port 8444", "p06", curlTo("https", internet.PortHTTPSAlt), event.EvidenceTLSSNI},
		{"curl, HTTPS, IPv6", "p07", func(t *testing.T, f *fixture, host string) result {
			t.Helper()
			return f.curl(t, hostInside, "--resolve", host+":443:["+f.lab.Addrs(host)[1].String()+"]", "https://"+host+"/")
		}, event.EvidenceTLSSNI},
		{"openssl s_client", "p08", openssl(same, "CONNECTION ESTABLISHED"), event.EvidenceTLSSNI},
		{"openssl s_client, capitals", "p09", openssl(strings.ToUpper, "CONNECTION ESTABLISHED"), event.EvidenceTLSSNI},
		{"openssl s_client, a dot at the end", "p10", openssl(func(h string) string { return h + "." }, "alert"), event.EvidenceTLSSNI},
		{"Go TLS, X25519MLKEM768", "p11", ours("tls", 443), event.EvidenceTLSSNI},
		{"Go TLS, single bytes", "p12", ours("bytes", 443), event.EvidenceTLSSNI},
		{"Go TLS, many records", "p13", ours("records", 443), event.EvidenceTLSSNI},
		{"quic-go, HTTP/3", "p14", ours("http3", 443), event.EvidenceQUICSNI},
		{"quic-go, HTTP/3, port 8444", "p15", ours("http3", internet.PortHTTPSAlt), event.EvidenceQUICSNI},
		{"quic-go, HTTP/3, IPv6", "p16", func(t *testing.T, f *fixture, host string) result {
			t.Helper()
			return finish(f.peer(t.Context(), hostInside, "http3", host, net.JoinHostPort(f.lab.Addrs(host)[1].String(), "443")))
		}, event.EvidenceQUICSNI},
		{"dig, UDP", "p17", dig(), event.EvidenceDNS},
		{"dig, TCP", "p18", dig("+tcp"), event.EvidenceDNS},
		{"curl, CONNECT proxy", "p19", proxied("http", internet.PortProxy, "https://HOST/"), event.EvidenceHTTPConnect},
		{"curl, absolute-form proxy", "p20", proxied("http", internet.PortProxy, "http://HOST/"), event.EvidenceHTTPHost},
		{"curl, SOCKS5 proxy", "p21", proxied("socks5h", internet.PortSOCKS, "https://HOST/"), event.EvidenceSOCKS5},
	}
}

// matrixDomain is a domain of iTunes that no other test uses.
const matrixDomain = "matrix.itunes.apple.com"

// row is what came of a peer.
type row struct {
	peer                      peer
	unlisted, audited, failed result
	audit, block              event.Event
}

func TestEveryPeerIsAllowedThenAuditedThenRefused(t *testing.T) {
	f := install(t)
	before := len(f.events(t, hostInside, matrixDomain))
	rows := make([]row, 0, len(peers()))
	for _, p := range peers() {
		p.host += "." + matrixDomain
		rows = append(rows, row{peer: p})
	}
	each := func(phase string, test func(t *testing.T, r *row)) {
		for i := range rows {
			t.Run(phase+"/"+rows[i].peer.name, func(t *testing.T) { test(t, &rows[i]) })
		}
	}
	each("not listed", func(t *testing.T, r *row) {
		t.Helper()
		r.unlisted = r.peer.run(t, f, r.peer.host)
		works(t, r.peer.name, r.unlisted)
	})
	if events := f.events(t, hostInside, matrixDomain); len(events) > before {
		t.Errorf("%d events before anything was listed, the last: %+v", len(events)-before, events[len(events)-1])
	}
	f.tag(t, app, "unsanctioned")
	each("audit", func(t *testing.T, r *row) {
		t.Helper()
		r.audited = r.peer.run(t, f, r.peer.host)
		works(t, r.peer.name, r.audited)
		r.audit = f.waitEvent(t, event.IDAudited, r.peer.host)
		f.checkAudit(t, r)
		if strings.Contains(r.audited.out, "this is ") && f.requests.of(r.peer.host) == 0 {
			t.Error("the server at the far end answered a request without noticing it")
		}
	})
	f.mode(t, fleet.ModeBlock)
	each("block", func(t *testing.T, r *row) {
		t.Helper()
		seen := f.requests.of(r.peer.host)
		r.failed = r.peer.run(t, f, r.peer.host)
		refused(t, r.peer.name, r.failed)
		f.unseen(t, r.peer.name, r.peer.host, seen)
		checkPage(t, r)
		r.block = f.waitEvent(t, event.IDBlocked, r.peer.host)
	})
	t.Logf("\n%s", table(rows))
}

// checkPage checks that a refused request by plain HTTP was answered with our
// page, and no other with anything.
func checkPage(t *testing.T, r *row) {
	t.Helper()
	const title = "iTunes is blocked"
	plain := r.peer.evidence == event.EvidenceHTTPHost
	if got := strings.Contains(r.failed.out, title) && strings.Contains(r.failed.out, "error: 403"); got != plain {
		t.Errorf("%s is answered by our page: %v, want %v:\n%s", r.peer.name, got, plain, r.failed.out)
	}
}

// checkAudit checks what an 1125 event says, once the strongest evidence has
// come.
func (f *fixture) checkAudit(t *testing.T, r *row) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	e, err := f.site.WaitEvent(ctx, hostInside, func(e event.Event) bool {
		return e.EventID == event.IDAudited && e.Destination.Host == r.peer.host && e.Evidence == r.peer.evidence
	})
	if err != nil {
		t.Errorf("no event with evidence %s, but %+v", r.peer.evidence, r.audit)
		return
	}
	r.audit = e
	if e.AppID != app || e.Process.Path == "" || e.User.Name == "" || e.Action != event.ActionAudited {
		t.Errorf("the event lacks something: %+v", e)
	}
}

func table(rows []row) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PEER\tNOT LISTED\tAUDIT\tEVIDENCE\tBLOCK\tREFUSED AFTER")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.peer.name, outcome(r.unlisted, event.Event{}), outcome(r.audited, r.audit),
			r.audit.Evidence, outcome(r.failed, r.block), r.failed.took.Round(time.Millisecond))
	}
	if err := w.Flush(); err != nil {
		return err.Error()
	}
	return b.String()
}

func outcome(r result, e event.Event) string {
	text := "works"
	if r.err != nil {
		text = "refused"
	}
	if e.EventID != 0 {
		text += fmt.Sprintf(", %d", e.EventID)
	}
	return text
}
