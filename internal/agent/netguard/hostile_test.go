package netguard_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"interdict/internal/agent/netguard"
	"interdict/internal/agent/sniff"
	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

func TestAPanicLeavesTheInspectorUsable(t *testing.T) {
	broken := false
	in, err := netguard.NewInspector(netguard.InspectorConfig{
		Now: func() time.Time {
			if broken {
				panic("the clock is gone")
			}
			return started
		},
		Report: func(o netguard.Observation) { o.Done() },
	})
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, in: in, now: started}
	d.rules("block", block("itunes.apple.com"), address("a", indicator.TypeIP, "203.0.113.4", indicator.ActionBlock))
	for queue, packet := range map[netguard.Queue][]byte{
		netguard.QueueFlow:    tcpPacket(client, server, 1, clientHello(t, "itunes.apple.com")),
		netguard.QueueDNS:     udpPacket(resolver, client, answerFor(t, "example.com", "198.51.100.8")),
		netguard.QueueAddress: tcpPacket(client, netip.MustParseAddrPort("203.0.113.4:22"), 1, nil),
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("queue %d: the panic did not reach its caller", queue)
				}
			}()
			broken = true
			in.Handle(netguard.Packet{Queue: queue, Data: packet}, func(netguard.Verdict) {})
		}()
		broken = false
	}
	if v := d.judge(netguard.QueueFlow, tcpPacket(client, server, 1, clientHello(t, "itunes.apple.com"))); v.Decision != netguard.Refuse {
		t.Errorf("got decision %d after the panics, want refuse", v.Decision)
	}
}

func TestAnOwnerLookUpThatPanicsIsTold(t *testing.T) {
	told := make(chan any, 1)
	in, err := netguard.NewInspector(netguard.InspectorConfig{
		Now:      func() time.Time { return started },
		Report:   func(o netguard.Observation) { o.Done() },
		Owner:    func(context.Context, netguard.Flow) (int, bool) { panic("boom") },
		Panicked: func(cause any) { told <- cause },
	})
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, in: in, now: started}
	d.rules("block", block("itunes.apple.com"))
	in.Handle(netguard.Packet{
		Queue: netguard.QueueDNS, Data: udpPacket(resolver, client, answerFor(t, "init.itunes.apple.com.example", "198.51.100.8")),
	}, func(netguard.Verdict) {})
	in.Wait()
	select {
	case cause := <-told:
		if cause != "boom" {
			t.Errorf("told of %v", cause)
		}
	default:
		t.Error("nobody was told")
	}
}

func TestANameThatBeginsInTheSYNIsRead(t *testing.T) {
	d := newDesk(t, nil)
	d.rules("block", block("itunes.apple.com"))
	hello := clientHello(t, "itunes.apple.com")
	syn := tcpPacket(client, server, 1000, hello[:100])
	syn[20+13] = byte(sniff.FlagSYN)
	if v := d.judge(netguard.QueueFlow, syn); v.Decision != netguard.Pass {
		t.Fatalf("got decision %d for half a name, want pass", v.Decision)
	}
	if v := d.judge(netguard.QueueFlow, tcpPacket(client, server, 1101, hello[100:])); v.Decision != netguard.Refuse {
		t.Errorf("got decision %d for the rest, want refuse", v.Decision)
	}
}

func TestConnectionsThatSayNoNameHoldLittleTogether(t *testing.T) {
	d := newDesk(t, nil)
	d.rules("block", block("itunes.apple.com"))
	// A record that goes on, and then a piece that leaves a hole before it.
	begin := []byte{22, 3, 3, 0x40, 0}
	late := make([]byte, 1400)
	const connections = 2000
	for n := range uint16(connections) {
		from := netip.AddrPortFrom(client.Addr(), 10000+n)
		d.judge(netguard.QueueFlow, tcpPacket(from, server, 1, begin))
		d.judge(netguard.QueueFlow, tcpPacket(from, server, 60000, late))
	}
	const atLeast, atMost = 100, 300
	if got := d.in.Stats().Undecided; got < atLeast || got > atMost {
		t.Errorf("%d connections that hold 60 KB each are remembered, want %d to %d", got, atLeast, atMost)
	}
	for n := range uint16(connections) {
		d.in.Forget(netguard.Flow{Protocol: sniff.ProtocolTCP, Source: netip.AddrPortFrom(client.Addr(), 10000+n), Dest: server})
	}
	for n := range uint16(connections) {
		d.judge(netguard.QueueFlow, tcpPacket(netip.AddrPortFrom(client.Addr(), 10000+n), server, 1, begin))
	}
	if got := d.in.Stats().Undecided; got != connections {
		t.Errorf("%d connections that hold a few bytes are remembered, want %d", got, connections)
	}
}

func TestAnAddressAskedOfAProxyIsReported(t *testing.T) {
	d := newDesk(t, nil)
	d.rules("audit", address("a", indicator.TypeIP, "203.0.113.4", indicator.ActionBlock))
	d.judge(netguard.QueueFlow, tcpPacket(client, server, 1, []byte("CONNECT 203.0.113.4:22 HTTP/1.1\r\n\r\nSSH-2.0-client\r\n")))
	if got, want := d.summary(), "audit  ip tcp:22\n"; got != want {
		t.Errorf("reported %q, want %q", got, want)
	}
	if got := d.in.Stats().Audited; got != 1 {
		t.Errorf("%d were counted, want 1", got)
	}
}

func TestARequestsPathIsReportedInAFormThatTheServerStores(t *testing.T) {
	d := newDesk(t, nil)
	d.rules("block", block("itunes.apple.com"))
	path := "/\x01\x80\"<b>" + strings.Repeat("/x", 10000)
	d.judge(netguard.QueueFlow, tcpPacket(client, server, 1, []byte("GET "+path+" HTTP/1.1\r\nHost: itunes.apple.com\r\n\r\n")))
	if len(d.reported) != 1 {
		t.Fatalf("got %d reports, want 1", len(d.reported))
	}
	e := event.Event{
		ID: "01J00000000000000000000000", Time: started, FirstSeen: started, LastSeen: started, EventID: event.IDBlocked,
		Action: event.ActionBlocked, Count: 1, Destination: d.reported[0].Destination,
	}
	if err := e.Validate(); err != nil {
		t.Error(err)
	}
	if want := "http://itunes.apple.com/%01%80%22%3Cb%3E/x/x"; !strings.HasPrefix(e.Destination.URL, want) {
		t.Errorf("reported %.80q, want a URL that begins with %q", e.Destination.URL, want)
	}
}

func TestAConnectionThatWaitsIsJudgedByTheNewestRules(t *testing.T) {
	tests := []struct {
		name, host string
		want       netguard.Decision
	}{
		{"refused by now", "itunes.apple.com", netguard.Refuse},
		{"still allowed", "example.com", netguard.Accept},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var held []netguard.Observation
			in, err := netguard.NewInspector(netguard.InspectorConfig{
				Now: func() time.Time { return started }, Report: func(o netguard.Observation) { held = append(held, o) },
			})
			if err != nil {
				t.Fatal(err)
			}
			d := &desk{t: t, in: in, now: started}
			d.rules("audit", block("itunes.apple.com"), block("example.com"))
			var got []netguard.Verdict
			in.Handle(netguard.Packet{Queue: netguard.QueueFlow, Data: tcpPacket(client, server, 1, clientHello(t, tt.host))},
				func(v netguard.Verdict) { got = append(got, v) })
			d.rules("block", block("itunes.apple.com"))
			held[0].Done()
			if len(got) != 1 || got[0].Decision != tt.want {
				t.Errorf("got %+v, want decision %d", got, tt.want)
			}
		})
	}
}

// A name server can make up any name; what is learned of it is bounded.
func TestANameThatIsLongerThanHostNamesIsNotLearned(t *testing.T) {
	d := newDesk(t, nil)
	d.rules("audit", block("itunes.apple.com"))
	escaped := strings.Repeat(strings.Repeat(`\001`, 60)+".", 3) + "itunes.apple.com"
	d.resolve(escaped, server.Addr().String())
	d.rules("block", block("itunes.apple.com"))
	if v := d.judge(netguard.QueueFlow, tcpPacket(client, server, 1, []byte("SSH-2.0-client\r\n"))); v.Decision != netguard.Accept {
		t.Errorf("got decision %d, want accept", v.Decision)
	}
}

// FuzzConversation feeds one inspector many packets, so that what it remembers
// of earlier ones is exercised as well. Each is a byte for queue and
// direction, two for the port and a length before its payload.
func FuzzConversation(f *testing.F) {
	script := func(kind byte, payloads ...[]byte) (all []byte) {
		for _, p := range payloads {
			all = append(all, kind, 0, 1)
			all = append(binary.BigEndian.AppendUint16(all, uint16(len(p))), p...)
		}
		return all
	}
	f.Add(script(0, []byte("GET / HT"), []byte("TP/1.1\r\nHost: itunes.apple.com\r\n\r\n")))
	f.Add(script(1, bytes.Repeat([]byte{0xc0, 0, 0, 0, 1, 8}, 200)))
	f.Add(script(2, frame(answerFor(f, "itunes.apple.com", "198.51.100.7"))[:20], frame(answerFor(f, "itunes.apple.com", "198.51.100.7"))[20:]))
	f.Add(script(3, answerFor(f, "itunes.apple.com", "198.51.100.7")))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := newDesk(t, map[uint16]int{1: 7})
		c := blocking()
		c.Settings.FailMode = fleet.FailClosed
		d.rulesWith(c, block("itunes.apple.com"))
		seq := uint32(0)
		for len(data) >= 5 {
			kind, port, n := data[0], binary.BigEndian.Uint16(data[1:]), int(binary.BigEndian.Uint16(data[3:]))
			payload := data[5:][:min(n, len(data)-5)]
			data = data[5+len(payload):]
			from := netip.AddrPortFrom(client.Addr(), port)
			switch kind % 4 {
			case 0:
				d.judge(netguard.QueueFlow, tcpPacket(from, server, seq, payload))
			case 1:
				d.judge(netguard.QueueFlow, udpPacket(from, server, payload))
			case 2:
				d.judge(netguard.QueueDNS, tcpPacket(resolver, from, seq, payload))
			default:
				d.judge(netguard.QueueDNS, udpPacket(resolver, from, payload))
			}
			seq += uint32(len(payload))
		}
	})
}

func TestAnAnswerIsLearnedBeforeTheClientHasIt(t *testing.T) {
	msg := answerFor(t, "itunes.apple.com", server.Addr().String())
	for transport, packet := range map[string][]byte{
		"udp": udpPacket(resolver, client, msg),
		"tcp": tcpPacket(resolver, client, 1, append(frame(msg), frame(msg)...)),
	} {
		t.Run(transport, func(t *testing.T) {
			asked, found := make(chan struct{}, 2), make(chan struct{})
			in, err := netguard.NewInspector(netguard.InspectorConfig{
				Now: func() time.Time { return started }, Report: func(o netguard.Observation) { o.Done() },
				Owner: func(context.Context, netguard.Flow) (int, bool) {
					asked <- struct{}{}
					<-found
					return 7, true
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			d := &desk{t: t, in: in, now: started}
			d.rules("block")
			answers := make(chan netguard.Verdict, 2)
			in.Handle(netguard.Packet{Queue: netguard.QueueDNS, Data: packet}, func(v netguard.Verdict) { answers <- v })
			<-asked
			if len(answers) != 1 {
				t.Error("the client waited for its owner to be found")
			}
			// By now the name is known, if not yet whose it is.
			cut := d.rules("block", block("itunes.apple.com"))
			v := make(chan netguard.Verdict, 1)
			go in.Handle(netguard.Packet{
				Queue: netguard.QueueFlow, Data: tcpPacket(client, server, 1, []byte("SSH-2.0-client\r\n")),
			}, func(got netguard.Verdict) { v <- got })
			<-asked
			close(found)
			if got := <-v; got.Decision != netguard.Refuse || len(cut) != 0 {
				t.Errorf("got decision %d, want refuse", got.Decision)
			}
			in.Wait()
			if len(answers) != 1 || len(asked) != 0 {
				t.Errorf("got %d answers, and the owner was asked %d times more", len(answers), len(asked))
			}
		})
	}
}
