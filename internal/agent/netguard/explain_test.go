package netguard_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"interdict/internal/agent/netguard"
)

// clerk is a Replier that notes what it answers.
type clerk struct {
	packets [][]byte
	said    []netguard.Explanation
	refuses bool
}

func (c *clerk) Reply(packet []byte, e netguard.Explanation) bool {
	c.packets, c.said = append(c.packets, packet), append(c.said, e)
	return !c.refuses
}

// counter is a desk where requests are answered and observations wait.
func counter(t *testing.T, c *clerk, mode string) *desk {
	t.Helper()
	d := &desk{t: t, now: started}
	in, err := netguard.NewInspector(netguard.InspectorConfig{
		Now: func() time.Time { return d.now }, Replier: c,
		Report: func(o netguard.Observation) { d.reported = append(d.reported, o) },
	})
	if err != nil {
		t.Fatal(err)
	}
	d.in = in
	d.rules(mode, block("itunes.apple.com"))
	return d
}

const blockedGet = "GET / HTTP/1.1\r\nHost: itunes.apple.com\r\n\r\n"

func TestWhichRefusalsCanBeExplained(t *testing.T) {
	tests := []struct {
		name, mode string
		hook       netguard.Hook
		segments   []string
		want       bool
	}{
		{"a request that is refused", "block", netguard.HookOutput, []string{blockedGet}, true},
		{"a request that is audited", "audit", netguard.HookOutput, []string{blockedGet}, false},
		{"a request that is forwarded", "block", netguard.HookForward, []string{blockedGet}, false},
		{"a request in pieces", "block", netguard.HookOutput, []string{blockedGet[:20], blockedGet[20:]}, false},
		{"a request behind something else", "block", netguard.HookOutput, []string{"\r\n", blockedGet}, false},
		{"a tunnel", "block", netguard.HookOutput, []string{"CONNECT itunes.apple.com:443 HTTP/1.1\r\n\r\n"}, false},
		{"TLS", "block", netguard.HookOutput, []string{string(clientHello(t, "itunes.apple.com"))}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := counter(t, &clerk{}, tt.mode)
			seq := uint32(1)
			for _, s := range tt.segments {
				d.in.Handle(netguard.Packet{Queue: netguard.QueueFlow, Hook: tt.hook, Received: d.now, Data: tcpPacket(client, server, seq, []byte(s))}, func(netguard.Verdict) {})
				seq += uint32(len(s))
			}
			if len(d.reported) != 1 || (d.reported[0].Explain != nil) != tt.want {
				t.Errorf("got %d observations, want one, explainable %v", len(d.reported), tt.want)
			}
		})
	}
}

func TestAnExplanationComesBeforeTheVerdictOrNotAtAll(t *testing.T) {
	why := netguard.Explanation{App: "iTunes", Host: "itunes.apple.com", URL: "http://127.0.0.1/why"}
	tests := []struct {
		name string
		// done says that the verdict was given first, after how long the
		// explanation comes.
		done      bool
		after     time.Duration
		refuses   bool
		asked     bool
		explained uint64
	}{
		{"in time", false, 200 * time.Millisecond, false, true, 1},
		{"in time, where it is not safe", false, 0, true, true, 0},
		{"after the verdict", true, 0, false, false, 0},
		{"when the packet may have gone on without us", false, 230 * time.Millisecond, false, false, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &clerk{refuses: tt.refuses}
			d := counter(t, c, "block")
			packet := tcpPacket(client, server, 1, []byte(blockedGet))
			var answers []netguard.Verdict
			d.in.Handle(netguard.Packet{Queue: netguard.QueueFlow, Hook: netguard.HookOutput, Received: d.now, Data: packet}, func(v netguard.Verdict) {
				answers = append(answers, v)
			})
			o := d.reported[0]
			if tt.done {
				o.Done()
			}
			d.now = started.Add(tt.after)
			o.Explain(why)
			o.Explain(why)
			if len(answers) > 0 != tt.done {
				t.Errorf("the explanation changed the number of verdicts to %d", len(answers))
			}
			o.Done()
			o.Done()
			if len(answers) != 1 || answers[0].Decision != netguard.Refuse {
				t.Errorf("got verdicts %v, want one refusal", answers)
			}
			if asked := len(c.said) == 1 && c.said[0] == why && bytes.Equal(c.packets[0], packet); asked != tt.asked {
				t.Errorf("the replier was asked for %v, want asked %v", c.said, tt.asked)
			}
			if got := d.in.Stats().Explained; got != tt.explained {
				t.Errorf("%d are counted, want %d", got, tt.explained)
			}
		})
	}
}

func TestEveryConnectionThatIsJudgedByANameIsUsed(t *testing.T) {
	var used []string
	d := &desk{t: t, now: started}
	in, err := netguard.NewInspector(netguard.InspectorConfig{
		Now: func() time.Time { return d.now }, Report: func(o netguard.Observation) { o.Done() },
		Used: func(f netguard.Flow, host string) { used = append(used, host+" at "+f.Dest.String()) },
	})
	if err != nil {
		t.Fatal(err)
	}
	d.in = in
	d.rules("block", block("itunes.apple.com"))
	d.resolve("www.example.com", "198.51.100.7")
	d.resolve("looked-up.example", "198.51.100.8")
	seq := uint32(1)
	for _, payload := range []string{string(clientHello(t, "init.itunes.apple.com")), string(clientHello(t, "www.example.org")), "SSH-2.0-client\r\n"} {
		d.judge(netguard.QueueFlow, tcpPacket(client, server, seq, []byte(payload)))
		d.in.Forget(netguard.Flow{Protocol: 6, Source: client, Dest: server})
		seq += 10000
	}
	want := []string{"init.itunes.apple.com at 198.51.100.7:443", "www.example.org at 198.51.100.7:443", "www.example.com at 198.51.100.7:443"}
	if !slices.Equal(used, want) {
		t.Errorf("got %q, want %q", used, want)
	}
}
