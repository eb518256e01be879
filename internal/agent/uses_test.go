package agent

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/netip"
	"testing"

	"interdict/internal/agent/netguard"
	"interdict/internal/agent/state"
	"interdict/internal/bundle"
	"interdict/internal/fleet"
)

// webRequest is the packet in which a program of this host asks for a page.
func webRequest(host string) netguard.Packet {
	packet := append(make([]byte, 40), "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n"...)
	packet[0], packet[9] = 0x45, 6
	binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
	copy(packet[12:], []byte{192, 0, 2, 1, 192, 0, 2, 2})
	binary.BigEndian.PutUint16(packet[20:], 40000)
	binary.BigEndian.PutUint16(packet[22:], 80)
	packet[32], packet[33] = 5<<4, 0x18
	return netguard.Packet{Queue: netguard.QueueFlow, Hook: netguard.HookOutput, Data: packet}
}

// asking runs an agent and returns when a program has asked for a page.
func (s *site) asking(host string) *running {
	s.t.Helper()
	handlers := make(chan netguard.Handler, 1)
	r := s.runWith(func(p *Platform) {
		capture := p.NewCapture
		p.NewCapture = func(h netguard.Handler, fail fleet.FailMode) (Capture, error) {
			handlers <- h
			return capture(h, fail)
		}
	})
	answered := make(chan netguard.Verdict, 1)
	soon(s.t, "packets are handled", handlers).Handle(webRequest(host), func(v netguard.Verdict) { answered <- v })
	soon(s.t, "a packet is answered", answered)
	return r
}

func TestWhatIsUsedReachesTheServer(t *testing.T) {
	s := newSite(t)
	type sent struct {
		key    string
		report bundle.UsageReport
	}
	received := make(chan sent, 10)
	s.server.Config.Handler.(*http.ServeMux).HandleFunc("POST "+bundle.PathUsage, func(w http.ResponseWriter, r *http.Request) {
		var report bundle.UsageReport
		if err := json.NewDecoder(r.Body).Decode(&report); err != nil {
			t.Errorf("reading a report: %v", err)
		}
		received <- sent{r.Header.Get(bundle.HeaderIdempotencyKey), report}
		w.WriteHeader(http.StatusNoContent)
	})
	b := bundleOf(t, 7, fleet.ModeAudit, fleet.FailOpen)
	if err := s.dir.SaveBundle(s.seal(b), b.Set); err != nil {
		t.Fatal(err)
	}
	s.asking("www.example.com").end()
	if len(received) > 0 {
		t.Error("a report was sent before its time")
	}
	// The report of what an agent saw last is sent by the next one.
	s.asking("www.example.org")
	eventually(t, "a report comes", func() bool { return len(received) > 0 })
	first := <-received
	if u := first.report.Uses; len(u) != 1 || u[0].Host != "www.example.com" || u[0].Count != 1 || first.key == "" {
		t.Errorf("got %+v under %q, want one connection to www.example.com", first.report, first.key)
	}
}

func TestUseIsCountedWhereSettingsAndServerWantIt(t *testing.T) {
	dir, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{cfg: Config{Dir: dir, Log: slog.New(slog.DiscardHandler)}}
	if u := a.openUses(t.Context()); u.used() != nil || u.reports() != nil {
		t.Error("an agent without a server counts what is used")
	}
	a.id.DeviceID = "device-1"
	u := a.openUses(t.Context())
	if u.used() == nil || u.reports() == nil {
		t.Fatal("an agent with a server does not count what is used")
	}
	for _, test := range []struct {
		settings fleet.Settings
		want     bool
	}{
		{fleet.Settings{}, false},
		{fleet.Settings{UsageReporting: fleet.On, NetworkProtection: fleet.ModeAudit}, true},
		{fleet.Settings{UsageReporting: fleet.On, NetworkProtection: fleet.ModeBlock}, true},
		{fleet.Settings{UsageReporting: fleet.On, NetworkProtection: fleet.ModeDisabled}, false},
		{fleet.Settings{UsageReporting: fleet.Off, NetworkProtection: fleet.ModeBlock}, false},
	} {
		u.obey(test.settings)
		if got := u.on.Load(); got != test.want {
			t.Errorf("with %+v: got %v, want %v", test.settings, got, test.want)
		}
	}
	u.start(t.Context())
	u.used()(netguard.Flow{Source: netip.MustParseAddrPort("192.0.2.1:1"), Dest: netip.MustParseAddrPort("192.0.2.2:443")}, "while-off.example")
	u.stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if waits, _, _ := u.collector.Next(ctx); waits != "" {
		t.Error("what was switched off was counted")
	}
}
