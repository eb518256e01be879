package nfqueue

import (
	"context"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"interdict/internal/agent/netguard"
	"interdict/internal/agent/netguard/nft"
	"interdict/internal/agent/netguard/nft/netnstest"
)

// BenchmarkVerdict measures the way of one packet to the handler and back:
// a datagram that is queued each time, over loopback, less the same datagram
// unqueued.
func BenchmarkVerdict(b *testing.B) {
	if !netnstest.Isolated(b) {
		return
	}
	l, err := net.ListenPacket("udp", "127.0.0.1:4000")
	if err != nil {
		b.Fatal(err)
	}
	serveUDP(b, l)
	roundTrips := func(b *testing.B) {
		b.Helper()
		c := dial(b, "udp", "127.0.0.1:4000")
		payload := quicLike()
		for b.Loop() {
			if err := exchange(c, payload); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("unqueued", roundTrips)
	guarded(b, netguard.Config{})
	listening(b, always(netguard.Pass), nil)
	b.Run("queued", roundTrips)
}

// BenchmarkConnection measures a new TCP connection with one question and
// answer, to another machine and over loopback, without and with the rules
// and a handler that accepts at once. The two alternate, so that their ratio
// does not depend on what else the machine does.
func BenchmarkConnection(b *testing.B) {
	if !netnstest.Isolated(b) {
		return
	}
	echo(b, linked(b), at(peer4, 4000))
	for name, address := range map[string]string{"veth": at(peer4, 4000), "loopback": local(b)} {
		b.Run(name, func(b *testing.B) {
			compare(b, func() {
				c, err := net.Dial("tcp", address)
				if err != nil {
					b.Fatal(err)
				}
				if err := exchange(c, []byte("hello")); err != nil {
					b.Fatal(err)
				}
				_ = c.Close()
			})
		})
	}
}

// BenchmarkDecided measures a megabyte over a connection that is accepted.
func BenchmarkDecided(b *testing.B) {
	if !netnstest.Isolated(b) {
		return
	}
	echo(b, linked(b), at(peer4, 4000))
	b.Run("veth", func(b *testing.B) { benchmarkDecided(b, at(peer4, 4000)) })
	b.Run("loopback", func(b *testing.B) { benchmarkDecided(b, local(b)) })
}

func benchmarkDecided(b *testing.B, address string) {
	b.Helper()
	payload := make([]byte, 1<<20)
	var c net.Conn
	compare(b, func() {
		if c == nil {
			// The rules are in place at first: this decides the connection.
			c = dial(b, "tcp", address)
			if err := exchange(c, []byte("first")); err != nil {
				b.Fatal(err)
			}
		}
		var sending sync.WaitGroup
		sending.Go(func() { _, _ = c.Write(payload) })
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.CopyN(io.Discard, c, int64(len(payload))); err != nil {
			b.Fatal(err)
		}
		sending.Wait()
	})
}

// compare runs do in turns with and without rules and reports both medians
// and their ratio. Connections are tracked in any case, as on every host with
// a firewall or containers.
func compare(b *testing.B, do func()) {
	b.Helper()
	netnstest.Run(b, "nft", "add table inet tracking; "+
		"add chain inet tracking output { type filter hook output priority 0; }; "+
		"flush table inet tracking; add rule inet tracking output ct state established accept")
	guard, err := nft.New(nft.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = guard.Close() }()
	q := listening(b, &judge{}, nil)
	defer func() { _ = q.Shutdown(context.Background()) }()
	samples := map[bool][]time.Duration{}
	const turn = 50
	for i := 0; b.Loop(); i++ {
		inspect := i/turn%2 == 0
		if i%turn == 0 {
			if err := guard.Set(b.Context(), netguard.Config{Inspect: inspect, QueueBase: base}); err != nil {
				b.Fatal(err)
			}
			do()
		}
		start := time.Now()
		do()
		samples[inspect] = append(samples[inspect], time.Since(start))
	}
	if err := guard.CleanUp(context.Background()); err != nil {
		b.Fatal(err)
	}
	if len(samples[false]) == 0 {
		return
	}
	slices.Sort(samples[false])
	slices.Sort(samples[true])
	bare := samples[false][len(samples[false])/2]
	guarded := samples[true][len(samples[true])/2]
	b.ReportMetric(float64(bare), "bare-p50-ns")
	b.ReportMetric(float64(guarded), "guarded-p50-ns")
	b.ReportMetric(float64(guarded)/float64(bare), "ratio")
}

// local serves echo on loopback.
func local(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			})
		}
	})
	b.Cleanup(func() {
		_ = l.Close()
		served.Wait()
	})
	return l.Addr().String()
}
