package usage

import (
	"encoding/binary"
	"log/slog"
	"slices"
	"testing"
	"time"

	"interdict/internal/agent/netguard"
	"interdict/internal/agent/verdict"
	"interdict/internal/bundle"
	"interdict/internal/fleet"
)

// BenchmarkInspector measures what counting adds to the judgement of a
// connection by its first packet.
func BenchmarkInspector(b *testing.B) {
	b.Run("alone", func(b *testing.B) { judge(b, nil) })
	b.Run("counted", func(b *testing.B) {
		cfg := Config{Dir: b.TempDir(), Enabled: func() bool { return true }, Owner: owners(nil), Log: slog.New(slog.DiscardHandler)}
		c, err := New(cfg)
		if err != nil {
			b.Fatal(err)
		}
		c.Start(b.Context())
		defer c.Shutdown()
		judge(b, c.Used)
	})
}

func judge(b *testing.B, used func(netguard.Flow, string)) {
	b.Helper()
	in, err := netguard.NewInspector(netguard.InspectorConfig{
		Now: time.Now, Report: func(o netguard.Observation) { o.Done() }, Used: used,
	})
	if err != nil {
		b.Fatal(err)
	}
	set, err := bundle.NewSet(slices.Values([]bundle.Record{}))
	if err != nil {
		b.Fatal(err)
	}
	rules, err := verdict.Compile(verdict.Config{Settings: fleet.Settings{NetworkProtection: fleet.ModeBlock}}, set)
	if err != nil {
		b.Fatal(err)
	}
	in.SetRuleset(rules)
	f := flow(1)
	packet := append(make([]byte, 40), "GET / HTTP/1.1\r\nHost: www.example.com\r\nAccept: */*\r\n\r\n"...)
	packet[0], packet[9] = 0x45, f.Protocol
	binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
	copy(packet[12:], f.Source.Addr().AsSlice())
	copy(packet[16:], f.Dest.Addr().AsSlice())
	binary.BigEndian.PutUint16(packet[20:], f.Source.Port())
	binary.BigEndian.PutUint16(packet[22:], f.Dest.Port())
	packet[32], packet[33] = 5<<4, 0x18
	b.ReportAllocs()
	for b.Loop() {
		in.Handle(netguard.Packet{Queue: netguard.QueueFlow, Hook: netguard.HookOutput, Data: packet}, func(netguard.Verdict) {})
		in.Forget(f)
	}
	if n := in.Stats().Named; n == 0 {
		b.Fatal("nothing was judged by its name")
	}
}
