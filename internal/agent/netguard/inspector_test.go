package netguard_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"interdict/internal/agent/netguard"
	"interdict/internal/agent/sniff"
	"interdict/internal/agent/verdict"
	"interdict/internal/bundle"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

var (
	client   = netip.MustParseAddrPort("192.0.2.10:40000")
	server   = netip.MustParseAddrPort("198.51.100.7:443")
	resolver = netip.MustParseAddrPort("198.51.100.53:53")
	started  = time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC)
)

// desk is an Inspector with what it reported.
type desk struct {
	t        *testing.T
	in       *netguard.Inspector
	now      time.Time
	reported []netguard.Observation
}

// newDesk returns an inspector whose observations are done at once, and whose
// processes are named by the port of their flow.
func newDesk(t *testing.T, pids map[uint16]int) *desk {
	t.Helper()
	d := &desk{t: t, now: started}
	cfg := netguard.InspectorConfig{
		Now: func() time.Time { return d.now },
		Report: func(o netguard.Observation) {
			d.reported = append(d.reported, o)
			o.Done()
		},
	}
	if pids != nil {
		cfg.Owner = func(_ context.Context, f netguard.Flow) (int, bool) {
			pid, ok := pids[f.Source.Port()]
			return pid, ok
		}
	}
	in, err := netguard.NewInspector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d.in = in
	return d
}

// rules gives the inspector a ruleset and returns what it has to cut.
func (d *desk) rules(mode string, records ...bundle.Record) []netguard.Observation {
	d.t.Helper()
	return d.rulesWith(verdict.Config{Settings: fleet.Settings{NetworkProtection: fleet.Mode(mode)}, PolicyID: "p1"}, records...)
}

// blocking is a Config in block mode.
func blocking() verdict.Config {
	return verdict.Config{Settings: fleet.Settings{NetworkProtection: fleet.ModeBlock}, PolicyID: "p1"}
}

// rulesWith does so with other settings than the mode.
func (d *desk) rulesWith(c verdict.Config, records ...bundle.Record) []netguard.Observation {
	d.t.Helper()
	records = append(records, bundle.App("itunes", "iTunes"))
	set, err := bundle.NewSet(slices.Values(records))
	if err != nil {
		d.t.Fatal(err)
	}
	rs, err := verdict.Compile(c, set)
	if err != nil {
		d.t.Fatal(err)
	}
	return d.in.SetRuleset(rs)
}

// judge hands over a packet and returns the answer.
func (d *desk) judge(q netguard.Queue, data []byte) netguard.Verdict {
	d.t.Helper()
	return d.judgePacket(netguard.Packet{Queue: q, Hook: netguard.HookOutput, Data: data, Received: d.now})
}

func (d *desk) judgePacket(p netguard.Packet) netguard.Verdict {
	d.t.Helper()
	answers := make(chan netguard.Verdict, 2)
	d.in.Handle(p, func(v netguard.Verdict) { answers <- v })
	d.in.Wait()
	if len(answers) != 1 {
		d.t.Fatalf("got %d answers to one packet", len(answers))
	}
	return <-answers
}

// summary is what was reported, a line each.
func (d *desk) summary() string {
	var b strings.Builder
	for _, o := range d.reported {
		fmt.Fprintf(&b, "%s %s %s %s:%d", o.Decision.Action, o.Destination.Host, o.Evidence, o.Destination.Protocol, o.Destination.Port)
		if o.Cut {
			b.WriteString(" cut")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func block(host string) bundle.Record {
	return bundle.Indicator(indicator.Indicator{
		ID: "itunes:" + host, Type: indicator.TypeDomain, Value: host, Action: indicator.ActionBlock,
		Source: indicator.SourceCatalog, AppID: "itunes", GenerateAlert: true,
	})
}

func address(id string, t indicator.Type, value string, a indicator.Action) bundle.Record {
	return bundle.Indicator(indicator.Indicator{ID: id, Type: t, Value: value, Action: a, Source: indicator.SourceCustom})
}

func TestAConnectionIsDecidedByTheNameItSays(t *testing.T) {
	hello := clientHello(t, "init.itunes.apple.com")
	tests := []struct {
		name, mode string
		payload    []byte
		want       netguard.Decision
		reported   string
	}{
		{"refused in block mode", "block", hello, netguard.Refuse, "block init.itunes.apple.com tls_sni tcp:443\n"},
		{"let through with an event in audit mode", "audit", hello, netguard.Accept, "audit init.itunes.apple.com tls_sni tcp:443\n"},
		{"not looked at when disabled", "disabled", hello, netguard.Accept, ""},
		{"let through when not listed", "block", clientHello(t, "www.example.com"), netguard.Accept, ""},
		{"an HTTP request too", "block", []byte("GET /a?b HTTP/1.1\r\nHost: itunes.apple.com\r\n\r\n"), netguard.Refuse, "block itunes.apple.com http_host tcp:443\n"},
		{
			"a tunnel through a proxy too", "block", []byte("CONNECT itunes.apple.com:8443 HTTP/1.1\r\nHost: itunes.apple.com:8443\r\n\r\n"),
			netguard.Refuse, "block itunes.apple.com http_connect tcp:8443\n",
		},
		{"let through when it says no name", "block", []byte("SSH-2.0-client\r\n"), netguard.Accept, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk(t, nil)
			d.rules(tt.mode, block("itunes.apple.com"))
			got := d.judge(netguard.QueueFlow, tcpPacket(client, server, 1, tt.payload))
			if got.Decision != tt.want {
				t.Errorf("got decision %d, want %d", got.Decision, tt.want)
			}
			if diff := cmp.Diff(tt.reported, d.summary()); diff != "" {
				t.Errorf("reports differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestASegmentThatDoesNotCompleteANameIsPassedOn(t *testing.T) {
	d := newDesk(t, nil)
	d.rules("block", block("itunes.apple.com"))
	hello := clientHello(t, "itunes.apple.com")
	seq := uint32(0xffff_ff00) // wraps
	for i := range hello {
		v := d.judge(netguard.QueueFlow, tcpPacket(client, server, seq+uint32(i), hello[i:i+1]))
		if v.Decision == netguard.Refuse {
			if host := d.reported[0].Destination.Host; host != "itunes.apple.com" {
				t.Fatalf("refused as %q", host)
			}
			return
		}
		if v.Decision != netguard.Pass {
			t.Fatalf("byte %d: got decision %d, want pass", i, v.Decision)
		}
	}
	t.Error("the name was said in full and not refused")
}

func TestAConnectionThatNeverSaysItsNameIsGivenUp(t *testing.T) {
	for mode, want := range map[string]netguard.Decision{"open": netguard.Accept, "closed": netguard.Refuse} {
		t.Run(mode, func(t *testing.T) {
			d := newDesk(t, nil)
			c := blocking()
			c.Settings.FailMode = fleet.FailMode(mode)
			d.rulesWith(c, block("itunes.apple.com"))
			if v := d.judge(netguard.QueueFlow, tcpPacket(client, server, 1, []byte{0x16, 0x03})); v.Decision != netguard.Pass {
				t.Fatalf("got decision %d for the first bytes, want pass", v.Decision)
			}
			d.now = d.now.Add(time.Minute)
			if v := d.judge(netguard.QueueFlow, tcpPacket(client, server, 3, []byte{0x01})); v.Decision != want {
				t.Errorf("got decision %d after a minute, want %d", v.Decision, want)
			}
			if s := d.in.Stats(); s.GaveUp != 1 || s.Undecided != 0 {
				t.Errorf("got %+v", s)
			}
		})
	}
}

func TestANewRulesetCutsWhatItRefuses(t *testing.T) {
	d := newDesk(t, nil)
	d.rules("audit", block("itunes.apple.com"))
	d.judge(netguard.QueueFlow, tcpPacket(client, server, 1, clientHello(t, "itunes.apple.com")))
	other := netip.AddrPortFrom(client.Addr(), 40001)
	d.judge(netguard.QueueFlow, tcpPacket(other, server, 1, clientHello(t, "example.com")))
	gone := netip.AddrPortFrom(client.Addr(), 40002)
	d.judge(netguard.QueueFlow, tcpPacket(gone, server, 1, clientHello(t, "itunes.apple.com")))
	d.in.Forget(netguard.Flow{Protocol: sniff.ProtocolTCP, Source: gone, Dest: server})

	cut := d.rules("block", block("itunes.apple.com"))
	want := netguard.Flow{Protocol: sniff.ProtocolTCP, Source: client, Dest: server}
	if len(cut) != 1 || cut[0].Flow != want || !cut[0].Cut || cut[0].Destination.Host != "itunes.apple.com" {
		t.Fatalf("got %+v, want the one flow %v", cut, want)
	}
	if again := d.rules("block", block("itunes.apple.com")); len(again) != 0 {
		t.Errorf("the same ruleset cuts again: %+v", again)
	}
	if cut := d.rules("block", block("example.com")); len(cut) != 1 || cut[0].Flow.Source != other {
		t.Errorf("got %+v, want the flow from %v", cut, other)
	}
}

func TestAnAnswerForARefusedNameIsRefused(t *testing.T) {
	for transport, resolve := range map[string]func(*desk, string, ...string) *dns.Msg{"udp": (*desk).resolve, "tcp": (*desk).resolveTCP} {
		t.Run(transport, func(t *testing.T) {
			d := newDesk(t, nil)
			d.rules("block", block("itunes.apple.com"))
			got := resolve(d, "init.ITUNES.apple.com", "198.51.100.7")
			if got.Rcode != dns.RcodeNameError || len(got.Answer) != 0 {
				t.Errorf("got %s", got)
			}
			ede := got.IsEdns0().Option[0].(*dns.EDNS0_EDE)
			if ede.InfoCode != dns.ExtendedErrorCodeBlocked {
				t.Errorf("got extended error %d, want 15", ede.InfoCode)
			}
			if got := resolve(d, "example.com", "198.51.100.8"); got.Rcode != dns.RcodeSuccess || len(got.Answer) != 1 {
				t.Errorf("got %s for a name that is not listed", got)
			}
			if got := resolve(d, sniff.CanaryDomain, "198.51.100.9"); got.Rcode != dns.RcodeNameError {
				t.Errorf("got %s for the canary domain, want NXDOMAIN", got)
			}
			want := "block init.itunes.apple.com dns " + transport + ":53\n"
			if diff := cmp.Diff(want, d.summary()); diff != "" {
				t.Errorf("reports differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnAnswerThatGoesOnInALaterSegmentIsRefusedInItsFirst(t *testing.T) {
	d := newDesk(t, nil)
	d.rules("block", block("itunes.apple.com"))
	stream := frame(answerFor(t, "itunes.apple.com", "198.51.100.7", "198.51.100.8", "198.51.100.9"))
	first := len(stream) - 30
	v := d.judge(netguard.QueueDNS, tcpPacket(resolver, client, 1, stream[:first]))
	if v.Decision != netguard.Replace {
		t.Fatalf("got decision %d, want replace", v.Decision)
	}
	pkt, err := sniff.ParsePacket(v.Data)
	if err != nil || len(pkt.Payload) != first {
		t.Fatalf("got %d bytes of payload, %v, want %d", len(pkt.Payload), err, first)
	}
	var head dns.Msg
	if err := head.Unpack(slices.Concat(pkt.Payload, stream[first:])[2:]); head.Rcode != dns.RcodeNameError || len(head.Answer) != 0 {
		t.Errorf("the client reads %s, %v", &head, err)
	}
}

func TestAConnectionWithoutANameIsJudgedByWhatItsProcessResolved(t *testing.T) {
	shared := server.Addr().String()
	ssh := []byte("SSH-2.0-client\r\n")
	const culprit, innocent, unknown = 40100, 40200, 40300
	pids := map[uint16]int{40000: 1, 40001: 2, culprit: 1, innocent: 2}

	d := newDesk(t, pids)
	d.rules("audit", block("itunes.apple.com"))
	d.resolveFrom(netip.AddrPortFrom(client.Addr(), 40000), "itunes.apple.com", shared)
	d.resolveFrom(netip.AddrPortFrom(client.Addr(), 40001), "example.com", shared)
	d.reported = nil
	d.rules("block", block("itunes.apple.com"))
	for port, want := range map[uint16]netguard.Decision{culprit: netguard.Refuse, innocent: netguard.Accept, unknown: netguard.Accept} {
		v := d.judge(netguard.QueueFlow, tcpPacket(netip.AddrPortFrom(client.Addr(), port), server, 1, ssh))
		if v.Decision != want {
			t.Errorf("from port %d: got decision %d, want %d", port, v.Decision, want)
		}
	}
	if diff := cmp.Diff("block itunes.apple.com dns tcp:443\n", d.summary()); diff != "" {
		t.Errorf("reports differ (-want +got):\n%s", diff)
	}
}

func TestWhereNoProcessIsKnownTheNamesOfAnAddressMustAgree(t *testing.T) {
	d := newDesk(t, nil)
	d.rules("audit", block("itunes.apple.com"))
	d.resolve("itunes.apple.com", server.Addr().String())
	d.rules("block", block("itunes.apple.com"))
	pkt := tcpPacket(client, server, 1, []byte("SSH-2.0-client\r\n"))
	if v := d.judge(netguard.QueueFlow, pkt); v.Decision != netguard.Refuse {
		t.Errorf("got decision %d for an address with one name, want refuse", v.Decision)
	}
	d.resolve("example.com", server.Addr().String())
	if v := d.judge(netguard.QueueFlow, pkt); v.Decision != netguard.Accept {
		t.Errorf("got decision %d for an address with two names, want accept", v.Decision)
	}
}

func TestAnAddressIsReportedWhenItIsFirstTried(t *testing.T) {
	d := newDesk(t, nil)
	d.rules("block",
		address("a", indicator.TypeIP, server.Addr().String(), indicator.ActionBlock),
		address("b", indicator.TypeCIDR, "203.0.113.0/24", indicator.ActionAudit),
		address("c", indicator.TypeIP, "203.0.113.5", indicator.ActionAllow))
	for dest, want := range map[string]netguard.Decision{
		"198.51.100.7:443": netguard.Refuse, "203.0.113.4:22": netguard.Pass, "203.0.113.5:22": netguard.Pass,
	} {
		v := d.judge(netguard.QueueAddress, tcpPacket(client, netip.MustParseAddrPort(dest), 1, nil))
		if v.Decision != want {
			t.Errorf("got decision %d for %s, want %d", v.Decision, dest, want)
		}
	}
	slices.SortFunc(d.reported, func(a, b netguard.Observation) int {
		return a.Destination.IP.Compare(b.Destination.IP)
	})
	if diff := cmp.Diff("block  ip tcp:443\naudit  ip tcp:22\n", d.summary()); diff != "" {
		t.Errorf("reports differ (-want +got):\n%s", diff)
	}
	d.judge(netguard.QueueFlow, tcpPacket(client, netip.MustParseAddrPort("203.0.113.4:22"), 2, []byte("SSH-2.0-client\r\n")))
	if len(d.reported) != 2 {
		t.Errorf("a watched address was reported again with its first payload: %s", d.summary())
	}
}

func TestTheConnectionWaitsForItsObserver(t *testing.T) {
	var held netguard.Observation
	in, err := netguard.NewInspector(netguard.InspectorConfig{
		Now:    func() time.Time { return started },
		Report: func(o netguard.Observation) { held = o },
	})
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, in: in, now: started}
	d.rules("block", block("itunes.apple.com"))
	answered := 0
	in.Handle(netguard.Packet{Queue: netguard.QueueFlow, Data: tcpPacket(client, server, 1, clientHello(t, "itunes.apple.com"))},
		func(netguard.Verdict) { answered++ })
	if answered != 0 {
		t.Fatal("answered before the observer was done")
	}
	held.Done()
	held.Done()
	if answered != 1 {
		t.Errorf("got %d answers, want 1", answered)
	}
}

func TestGarbagePasses(t *testing.T) {
	d := newDesk(t, nil)
	d.rules("block", block("itunes.apple.com"))
	for _, q := range []netguard.Queue{netguard.QueueFlow, netguard.QueueDNS, netguard.QueueAddress, 9} {
		for _, data := range [][]byte{nil, {0x45}, make([]byte, 60), []byte(strings.Repeat("\xff", 100))} {
			if v := d.judge(q, data); v.Decision != netguard.Pass {
				t.Errorf("queue %d: got decision %d for %.8x, want pass", q, v.Decision, data)
			}
		}
	}
	for _, payload := range []string{"", "\x00", strings.Repeat("\xc0", 64)} {
		d.judge(netguard.QueueDNS, udpPacket(resolver, client, []byte(payload)))
		d.judge(netguard.QueueDNS, tcpPacket(resolver, client, 1, []byte(payload)))
	}
}

func TestNothingIsJudgedBeforeThereAreRules(t *testing.T) {
	d := newDesk(t, nil)
	for _, q := range []netguard.Queue{netguard.QueueFlow, netguard.QueueDNS, netguard.QueueAddress} {
		if v := d.judge(q, tcpPacket(client, server, 1, clientHello(t, "itunes.apple.com"))); v.Decision != netguard.Pass {
			t.Errorf("queue %d: got decision %d, want pass", q, v.Decision)
		}
	}
}

func FuzzHandle(f *testing.F) {
	f.Add(uint16(0), tcpPacket(client, server, 1, []byte("GET / HTTP/1.1\r\nHost: itunes.apple.com\r\n\r\n")))
	f.Add(uint16(1), udpPacket(resolver, client, answerFor(f, "itunes.apple.com", "198.51.100.7")))
	f.Add(uint16(1), tcpPacket(resolver, client, 1, frame(answerFor(f, "itunes.apple.com", "198.51.100.7"))[:40]))
	set, err := bundle.NewSet(slices.Values([]bundle.Record{block("itunes.apple.com")}))
	if err != nil {
		f.Fatal(err)
	}
	rs, err := verdict.Compile(blocking(), set)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, queue uint16, data []byte) {
		in, err := netguard.NewInspector(netguard.InspectorConfig{
			Now: func() time.Time { return started }, Report: func(o netguard.Observation) { o.Done() },
		})
		if err != nil {
			t.Fatal(err)
		}
		in.SetRuleset(rs)
		answers := 0
		in.Handle(netguard.Packet{Queue: netguard.Queue(queue), Data: data}, func(netguard.Verdict) { answers++ })
		if answers != 1 {
			t.Errorf("got %d answers", answers)
		}
	})
}

func BenchmarkHandleHello(b *testing.B) {
	in, err := netguard.NewInspector(netguard.InspectorConfig{
		Now: time.Now, Report: func(o netguard.Observation) { o.Done() },
	})
	if err != nil {
		b.Fatal(err)
	}
	set, err := bundle.NewSet(slices.Values([]bundle.Record{block("itunes.apple.com")}))
	if err != nil {
		b.Fatal(err)
	}
	rs, err := verdict.Compile(blocking(), set)
	if err != nil {
		b.Fatal(err)
	}
	in.SetRuleset(rs)
	data := tcpPacket(client, server, 1, clientHello(b, "www.example.com"))
	f := netguard.Flow{Protocol: sniff.ProtocolTCP, Source: client, Dest: server}
	b.ReportAllocs()
	for b.Loop() {
		in.Handle(netguard.Packet{Queue: netguard.QueueFlow, Data: data}, func(netguard.Verdict) {})
		in.Forget(f)
	}
}

// resolve hands over the answer for a name and returns what the client gets.
func (d *desk) resolve(name string, addrs ...string) *dns.Msg {
	d.t.Helper()
	return d.resolveFrom(client, name, addrs...)
}

// resolveTCP does so for a client that asks over TCP.
func (d *desk) resolveTCP(name string, addrs ...string) *dns.Msg {
	d.t.Helper()
	stream := frame(answerFor(d.t, name, addrs...))
	got := d.delivered(d.judge(netguard.QueueDNS, tcpPacket(resolver, client, 1, stream)), stream)
	if len(got) != len(stream) {
		d.t.Fatalf("the segment went from %d to %d bytes", len(stream), len(got))
	}
	return unpack(d.t, got[2:])
}

func (d *desk) resolveFrom(source netip.AddrPort, name string, addrs ...string) *dns.Msg {
	d.t.Helper()
	msg := answerFor(d.t, name, addrs...)
	return unpack(d.t, d.delivered(d.judge(netguard.QueueDNS, udpPacket(resolver, source, msg)), msg))
}

// delivered is the payload the client gets.
func (d *desk) delivered(v netguard.Verdict, original []byte) []byte {
	d.t.Helper()
	if v.Decision != netguard.Replace {
		return original
	}
	pkt, err := sniff.ParsePacket(v.Data)
	if err != nil {
		d.t.Fatalf("the packet put in its place cannot be read: %v", err)
	}
	return pkt.Payload
}

func unpack(tb testing.TB, msg []byte) *dns.Msg {
	tb.Helper()
	var m dns.Msg
	if err := m.Unpack(msg); err != nil {
		tb.Fatalf("the client cannot read %x: %v", msg, err)
	}
	return &m
}

func answerFor(tb testing.TB, name string, addrs ...string) []byte {
	tb.Helper()
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	m := new(dns.Msg).SetReply(q)
	for _, a := range addrs {
		m.Answer = append(m.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: dns.Fqdn(name), Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.ParseIP(a),
		})
	}
	m.SetEdns0(1232, false)
	b, err := m.Pack()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func frame(msg []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)
}

// clientHello is what Go's own TLS client says first.
func clientHello(tb testing.TB, name string) []byte {
	tb.Helper()
	local, remote := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(local, &tls.Config{ServerName: name, MinVersion: tls.VersionTLS12}).Handshake()
	}()
	buf := make([]byte, 16<<10)
	n, err := remote.Read(buf)
	if err != nil {
		tb.Fatal(err)
	}
	remote.Close()
	<-done
	return buf[:n]
}

func tcpPacket(src, dst netip.AddrPort, seq uint32, payload []byte) []byte {
	h := make([]byte, 20, 20+len(payload))
	binary.BigEndian.PutUint16(h, src.Port())
	binary.BigEndian.PutUint16(h[2:], dst.Port())
	binary.BigEndian.PutUint32(h[4:], seq)
	h[12], h[13] = 5<<4, 0x18
	return ipv4(6, src, dst, append(h, payload...))
}

func udpPacket(src, dst netip.AddrPort, payload []byte) []byte {
	h := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(h, src.Port())
	binary.BigEndian.PutUint16(h[2:], dst.Port())
	binary.BigEndian.PutUint16(h[4:], uint16(8+len(payload)))
	return ipv4(17, src, dst, append(h, payload...))
}

func ipv4(protocol byte, src, dst netip.AddrPort, body []byte) []byte {
	h := make([]byte, 20, 20+len(body))
	h[0], h[8], h[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(body)))
	copy(h[12:], src.Addr().AsSlice())
	copy(h[16:], dst.Addr().AsSlice())
	return append(h, body...)
}
