package netguard_test

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"interdict/internal/agent/netguard"
	"interdict/internal/agent/sniff"
	"interdict/internal/agent/verdict"
	"interdict/internal/bundle"
	"interdict/internal/bypass"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// directory knows users; those whose answer is not ready are looked for.
type directory struct {
	mu    sync.Mutex
	users map[uint32]*indicator.User
	// slow are the users for whom Find waits until they are put into users.
	slow  map[uint32]bool
	asked int
}

func newDirectory() *directory {
	return &directory{users: map[uint32]*indicator.User{
		1000: {UID: 1000, Name: "anna", Groups: []string{"finance"}},
		1001: {UID: 1001, Name: "ben", Groups: []string{"users"}},
	}, slow: make(map[uint32]bool)}
}

func (d *directory) User(uid uint32) (*indicator.User, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if u := d.users[uid]; u != nil && !d.slow[uid] {
		return u, true
	}
	return &indicator.User{UID: uid}, false
}

func (d *directory) Find(ctx context.Context, uid uint32) (*indicator.User, bool) {
	d.mu.Lock()
	d.asked++
	d.mu.Unlock()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if u, ok := d.User(uid); ok {
			return u, true
		}
		select {
		case <-ctx.Done():
			return &indicator.User{UID: uid}, false
		case <-tick.C:
		}
	}
}

func (d *directory) answer(uid uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slow[uid] = false
}

// deskFor is newDesk with a directory.
func deskFor(t *testing.T, users netguard.Users) *desk {
	t.Helper()
	d := &desk{t: t, now: started}
	in, err := netguard.NewInspector(netguard.InspectorConfig{
		Now: func() time.Time { return d.now }, Users: users,
		Report: func(o netguard.Observation) {
			d.reported = append(d.reported, o)
			o.Done()
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	d.in = in
	return d
}

// from is a packet that a user sends.
func from(uid uint32, q netguard.Queue, data []byte) netguard.Packet {
	return netguard.Packet{Queue: q, Hook: netguard.HookOutput, Data: data, UID: uid, HasUID: true}
}

// onlyFor makes an indicator's record count for some people only.
func onlyFor(p indicator.People, r bundle.Record) bundle.Record {
	r.Indicator.Scope.People = p
	return bundle.Indicator(r.Indicator)
}

var finance = indicator.People{IncludeUserGroups: []string{"finance"}}

// port returns the client with another port.
func port(n uint16) netip.AddrPort { return netip.AddrPortFrom(client.Addr(), n) }

func TestWhatIsForSomeUsersIsRefusedToThemAlone(t *testing.T) {
	hello := clientHello(t, "itunes.apple.com")
	for _, tt := range []struct {
		name   string
		packet netguard.Packet
		want   netguard.Decision
	}{
		{"to somebody in the group", from(1000, netguard.QueueFlow, tcpPacket(client, server, 1, hello)), netguard.Refuse},
		{"not to somebody else", from(1001, netguard.QueueFlow, tcpPacket(client, server, 1, hello)), netguard.Accept},
		{"not to somebody whom nobody knows", from(4711, netguard.QueueFlow, tcpPacket(client, server, 1, hello)), netguard.Accept},
		{"not to what is forwarded", netguard.Packet{Queue: netguard.QueueFlow, Hook: netguard.HookForward, Data: tcpPacket(client, server, 1, hello)}, netguard.Accept},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := deskFor(t, newDirectory())
			d.rules("block", onlyFor(finance, block("itunes.apple.com")))
			if v := d.judgePacket(tt.packet); v.Decision != tt.want {
				t.Errorf("got decision %d, want %d", v.Decision, tt.want)
			}
		})
	}
}

func TestALookUpIsOnBehalfOfEverybody(t *testing.T) {
	d := deskFor(t, newDirectory())
	d.rules("block", onlyFor(finance, block("itunes.apple.com")))
	if got := d.resolve("itunes.apple.com", "198.51.100.7"); got.Rcode != dns.RcodeSuccess {
		t.Errorf("what some may use is not resolved: %s", got)
	}
	d.rules("block", onlyFor(indicator.People{IncludeUsers: []string{"ben"}}, allow("music.apple.com")), block("apple.com"))
	if got := d.resolve("music.apple.com", "198.51.100.7"); got.Rcode != dns.RcodeSuccess {
		t.Errorf("what one user is allowed is not resolved: %s", got)
	}
	if got := d.resolve("tv.apple.com", "198.51.100.8"); got.Rcode != dns.RcodeNameError {
		t.Errorf("what nobody may use is resolved: %s", got)
	}
}

func allow(host string) bundle.Record {
	return bundle.Indicator(indicator.Indicator{
		ID: "allow:" + host, Type: indicator.TypeDomain, Value: host, Action: indicator.ActionAllow, Source: indicator.SourceCustom,
	})
}

func TestAConnectionWaitsForItsUserOnlyIfThatMatters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		users := newDirectory()
		users.slow[1000] = true
		d := deskFor(t, users)
		d.rules("block", onlyFor(finance, block("itunes.apple.com")), block("example.com"))
		answers := make(map[string]netguard.Verdict)
		var mu sync.Mutex
		for i, host := range []string{"itunes.apple.com", "example.com", "example.org"} {
			p := from(1000, netguard.QueueFlow, tcpPacket(port(41000+uint16(i)), server, 1, clientHello(t, host)))
			d.in.Handle(p, func(v netguard.Verdict) {
				mu.Lock()
				defer mu.Unlock()
				answers[host] = v
			})
		}
		mu.Lock()
		if _, answered := answers["itunes.apple.com"]; answered || len(answers) != 2 {
			t.Errorf("got answers to %v before the user was known", answers)
		}
		mu.Unlock()
		users.answer(1000)
		d.in.Wait()
		if v := answers["itunes.apple.com"]; v.Decision != netguard.Refuse {
			t.Errorf("got decision %d when the user was known", v.Decision)
		}
		if users.asked != 1 {
			t.Errorf("asked for %d connections, want 1", users.asked)
		}
	})
}

func TestAUserWhoIsNotFoundInTimeIsAnId(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		users := newDirectory()
		users.slow[1000] = true
		d := deskFor(t, users)
		d.rules("block", onlyFor(finance, block("itunes.apple.com")), onlyFor(indicator.People{IncludeUsers: []string{"#1000"}}, block("example.com")))
		for host, want := range map[string]netguard.Decision{"itunes.apple.com": netguard.Accept, "example.com": netguard.Refuse} {
			begun := time.Now()
			source := port(uint16(41000 + len(host)))
			if v := d.judgePacket(from(1000, netguard.QueueFlow, tcpPacket(source, server, 1, clientHello(t, host)))); v.Decision != want {
				t.Errorf("%s: got decision %d, want %d", host, v.Decision, want)
			}
			if took := time.Since(begun); took > netguard.UserTimeout {
				t.Errorf("%s: it took %v", host, took)
			}
		}
		// What is known later counts as soon as the rules are looked at again.
		users.answer(1000)
		if cut := d.rules("block", onlyFor(finance, block("itunes.apple.com"))); len(cut) != 1 || cut[0].UID != 1000 {
			t.Errorf("got %+v, want the one connection", cut)
		}
	})
}

func TestNewRulesCutTheConnectionsOfUsersInScope(t *testing.T) {
	d := deskFor(t, newDirectory())
	d.rules("block")
	hello := clientHello(t, "itunes.apple.com")
	for uid := range uint32(2) {
		d.judgePacket(from(1000+uid, netguard.QueueFlow, tcpPacket(port(uint16(41000+uid)), server, 1, hello)))
	}
	cut := d.rules("block", onlyFor(finance, block("itunes.apple.com")))
	if len(cut) != 1 || cut[0].Flow.Source.Port() != 41000 || cut[0].UID != 1000 || !cut[0].HasUID {
		t.Errorf("got %+v, want the connection of the user in scope", cut)
	}
}

func TestAWindowOpensUponWhatIsOpen(t *testing.T) {
	d := deskFor(t, newDirectory())
	r := block("itunes.apple.com")
	r.Indicator.Scope.Windows = []indicator.Window{{From: "16:00", To: "17:00"}}
	compiled, err := verdict.Compile(blocking(), set(t, bundle.Indicator(r.Indicator)))
	if err != nil {
		t.Fatal(err)
	}
	d.in.SetRuleset(compiled)
	if v := d.judge(netguard.QueueFlow, tcpPacket(client, server, 1, clientHello(t, "itunes.apple.com"))); v.Decision != netguard.Accept {
		t.Fatalf("got decision %d before the window", v.Decision)
	}
	d.now, _ = compiled.NextChange(d.now)
	if cut := d.in.SetRuleset(compiled); len(cut) != 1 {
		t.Errorf("got %+v at %v, want the one connection", cut, d.now)
	}
}

func TestABypassEndsForWhatIsOpen(t *testing.T) {
	d := deskFor(t, newDirectory())
	r := block("itunes.apple.com")
	r.Indicator.Action = indicator.ActionWarn
	c := blocking()
	c.Bypasses = []bypass.Bypass{{UID: 1000, User: "anna", Subject: "itunes", Since: started, Until: started.Add(time.Hour)}}
	compiled, err := verdict.Compile(c, set(t, bundle.Indicator(r.Indicator)))
	if err != nil {
		t.Fatal(err)
	}
	d.in.SetRuleset(compiled)
	if got := d.resolve("itunes.apple.com", "198.51.100.7"); got.Rcode != dns.RcodeSuccess {
		t.Errorf("what one user goes on to is not resolved: %s", got)
	}
	hello := clientHello(t, "itunes.apple.com")
	for uid, want := range map[uint32]netguard.Decision{1000: netguard.Accept, 1001: netguard.Refuse} {
		if v := d.judgePacket(from(uid, netguard.QueueFlow, tcpPacket(port(uint16(40000+uid)), server, 1, hello))); v.Decision != want {
			t.Errorf("user %d: got decision %d, want %d", uid, v.Decision, want)
		}
	}
	if diff := cmp.Diff("warn itunes.apple.com tls_sni tcp:443\n", d.summary()); diff != "" {
		t.Errorf("reports differ (-want +got):\n%s", diff)
	}
	d.now, _ = compiled.NextChange(d.now)
	if cut := d.in.SetRuleset(compiled); len(cut) != 1 || cut[0].UID != 1000 || cut[0].Decision.Action != indicator.ActionWarn {
		t.Errorf("got %+v at %v, want the one connection", cut, d.now)
	}
	if got := d.resolve("itunes.apple.com", "198.51.100.7"); got.Rcode != dns.RcodeNameError {
		t.Errorf("after the bypass the name is resolved: %s", got)
	}
	// As with a revocation: the same records, no bypass.
	again := deskFor(t, newDirectory())
	again.in.SetRuleset(compiled)
	again.judgePacket(from(1000, netguard.QueueFlow, tcpPacket(client, server, 1, hello)))
	if cut := again.in.SetRuleset(compiled.With(blocking())); len(cut) != 1 {
		t.Errorf("got %+v after the revocation, want the one connection", cut)
	}
}

func TestAnAddressIsRefusedToUsersInScope(t *testing.T) {
	d := deskFor(t, newDirectory())
	listed := address("a", indicator.TypeIP, server.Addr().String(), indicator.ActionBlock)
	d.rules("block", onlyFor(finance, listed))
	ping := ipv4(1, client, server, []byte{8, 0, 0, 0, 0, 0, 0, 0})
	for _, tt := range []struct {
		name   string
		uid    uint32
		packet []byte
		want   netguard.Decision
	}{
		{"TCP of somebody in scope", 1000, tcpPacket(port(41000), server, 1, nil), netguard.Refuse},
		{"TCP of somebody else", 1001, tcpPacket(port(41001), server, 1, nil), netguard.Pass},
		{"UDP of somebody in scope", 1000, udpPacket(port(41002), server, []byte("x")), netguard.Refuse},
		{"UDP of somebody else", 1001, udpPacket(port(41003), server, []byte("x")), netguard.Pass},
		{"a ping of somebody in scope", 1000, ping, netguard.Refuse},
		{"a ping of somebody else", 1001, ping, netguard.Pass},
	} {
		if v := d.judgePacket(from(tt.uid, netguard.QueueAddress, tt.packet)); v.Decision != tt.want {
			t.Errorf("%s: got decision %d, want %d", tt.name, v.Decision, tt.want)
		}
	}
	if diff := cmp.Diff("block  ip tcp:443\nblock  ip udp:443\n", d.summary()); diff != "" {
		t.Errorf("reports differ (-want +got):\n%s", diff)
	}
	// Neither of them said anything that is inspected since.
	if cut := d.rules("block", listed); len(cut) != 2 {
		t.Errorf("got %+v, want the two connections that were let through", cut)
	}
	d.in.Forget(netguard.Flow{Protocol: sniff.ProtocolTCP, Source: port(41001), Dest: server})
	if cut := d.rules("block", listed); len(cut) != 0 {
		t.Errorf("cut again: %+v", cut)
	}
}

func TestEncryptedNameServices(t *testing.T) {
	quad9, other := netip.MustParseAddrPort("9.9.9.9:443"), netip.MustParseAddrPort("203.0.113.9:853")
	quic := quicHello(t, "resolver.example")
	for _, tt := range []struct {
		name    string
		packets [][]byte
		allowed string
		// want is what becomes of the last packet where the setting is block.
		want   netguard.Decision
		report string
	}{
		{
			"DNS over HTTPS by its name",
			[][]byte{tcpPacket(client, server, 1, clientHello(t, "dns.quad9.net"))},
			"", netguard.Refuse,
			"dns.quad9.net tls_sni tcp:443\n",
		},
		{
			"DNS over HTTPS by its address",
			[][]byte{tcpPacket(client, quad9, 1, clientHello(t, "front.example"))},
			"", netguard.Refuse,
			"front.example tls_sni tcp:443\n",
		},
		{"DNS over TLS that says no name", [][]byte{tcpPacket(client, other, 1, []byte("SSH-2.0-client\r\n"))}, "", netguard.Refuse, " ip tcp:853\n"},
		{"DNS over TLS", [][]byte{tcpPacket(client, other, 1, clientHello(t, "resolver.example"))}, "", netguard.Refuse, "resolver.example tls_sni tcp:853\n"},
		{
			"DNS over TLS that is allowed",
			[][]byte{tcpPacket(client, other, 1, clientHello(t, "resolver.example"))},
			"resolver.example", netguard.Accept, "",
		},
		{
			"DNS over QUIC",
			[][]byte{udpPacket(client, other, quic[0]), udpPacket(client, other, quic[1])},
			"", netguard.Refuse,
			"resolver.example quic_sni quic:853\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for setting, want := range map[fleet.Protection]netguard.Decision{
				fleet.ProtectionBlock: tt.want, fleet.ProtectionAudit: netguard.Accept, fleet.ProtectionOff: netguard.Accept,
			} {
				d := newDesk(t, nil)
				c := blocking()
				c.Settings.BypassProtection = setting
				records := []bundle.Record{block("itunes.apple.com")}
				if tt.allowed != "" {
					records = append(records, allow(tt.allowed))
				}
				d.rulesWith(c, records...)
				var last netguard.Verdict
				for _, p := range tt.packets {
					last = d.judge(netguard.QueueFlow, p)
				}
				report := ""
				if setting != fleet.ProtectionOff && tt.report != "" {
					report = string(setting) + " " + tt.report
				}
				if diff := cmp.Diff(report, d.summary()); diff != "" || last.Decision != want {
					t.Errorf("%s: got decision %d, want %d; reports (-want +got):\n%s", setting, last.Decision, want, diff)
				}
			}
		})
	}
}

func TestANameServicesNameIsNotResolved(t *testing.T) {
	d := newDesk(t, nil)
	c := blocking()
	c.Settings.BypassProtection = fleet.ProtectionBlock
	d.rulesWith(c, block("itunes.apple.com"))
	if got := d.resolve("mozilla.cloudflare-dns.com", "198.51.100.7"); got.Rcode != dns.RcodeNameError {
		t.Errorf("got %s", got)
	}
	if len(d.reported) != 1 || d.reported[0].Decision.AppName != "Encrypted DNS (Cloudflare for Mozilla Firefox)" {
		t.Errorf("got %+v", d.reported)
	}
	// Plain DNS to the same operator is no business of this.
	if got := d.resolveFrom(netip.AddrPortFrom(client.Addr(), 40001), "example.com", "198.51.100.8"); got != nil && got.Rcode != dns.RcodeSuccess {
		t.Errorf("got %s", got)
	}
}

func set(tb testing.TB, records ...bundle.Record) bundle.Set {
	tb.Helper()
	s, err := bundle.NewSet(func(yield func(bundle.Record) bool) {
		for _, r := range records {
			if !yield(r) {
				return
			}
		}
	})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}
