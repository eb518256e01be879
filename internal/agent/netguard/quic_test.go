package netguard_test

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"interdict/internal/agent/netguard"
)

// quicHello returns the datagrams of a client's first flight, as quic-go
// sends them: a ClientHello with a post-quantum key share needs two.
func quicHello(tb testing.TB, name string) [][]byte {
	tb.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, dialErr := quic.DialAddr(ctx, conn.LocalAddr().String(), &tls.Config{ServerName: name, NextProtos: []string{"h3"}}, nil)
		if dialErr == nil {
			tb.Error("somebody answered")
		}
	}()
	defer func() { cancel(); <-done }()
	if err = conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		tb.Fatal(err)
	}
	var datagrams [][]byte
	for len(datagrams) < 2 {
		buf := make([]byte, 2048)
		n, _, readErr := conn.ReadFrom(buf)
		if readErr != nil {
			tb.Fatal(readErr)
		}
		datagrams = append(datagrams, buf[:n])
	}
	return datagrams
}

// strange is an Initial that goes to a connection id which the server chose:
// nobody can open it who has not seen the beginning.
func strange() []byte {
	d := make([]byte, 1280)
	copy(d, "\xc3\x00\x00\x00\x01\x04\x8e\xb1\x21\x2e\x00\x00\x44\xf2")
	for i := 14; i < len(d); i++ {
		d[i] = byte(i * 7)
	}
	return d
}

func TestAQUICConnectionStaysWhatItWasDecidedToBe(t *testing.T) {
	tests := []struct {
		name, mode string
		want       netguard.Decision
	}{
		{"refused in block mode", "block", netguard.Refuse},
		{"let through in audit mode", "audit", netguard.Accept},
	}
	hello := quicHello(t, "init.itunes.apple.com")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk(t, nil)
			d.rules(tt.mode, block("itunes.apple.com"))
			if v := d.judge(netguard.QueueFlow, udpPacket(client, server, hello[0])); v.Decision != netguard.Pass {
				t.Fatalf("the first datagram: got decision %d, want pass", v.Decision)
			}
			if v := d.judge(netguard.QueueFlow, udpPacket(client, server, hello[1])); v.Decision != tt.want {
				t.Fatalf("the second datagram: got decision %d, want %d", v.Decision, tt.want)
			}
			if v := d.judge(netguard.QueueFlow, udpPacket(client, server, strange())); v.Decision != tt.want {
				t.Errorf("a datagram to the server's own connection id: got decision %d, want %d", v.Decision, tt.want)
			}
			if len(d.reported) != 1 {
				t.Errorf("got %d reports, want 1:\n%s", len(d.reported), d.summary())
			}
		})
	}
}

func TestAQUICConnectionThatWasLetThroughCanBeCut(t *testing.T) {
	d := newDesk(t, nil)
	d.rules("audit", block("itunes.apple.com"))
	for _, datagram := range append(quicHello(t, "init.itunes.apple.com"), strange()) {
		d.judge(netguard.QueueFlow, udpPacket(client, server, datagram))
	}
	cut := d.rules("block", block("itunes.apple.com"))
	if len(cut) != 1 || cut[0].Destination.Host != "init.itunes.apple.com" {
		t.Fatalf("got %+v, want the one connection", cut)
	}
	if v := d.judge(netguard.QueueFlow, udpPacket(client, server, strange())); v.Decision != netguard.Refuse {
		t.Errorf("after the cut: got decision %d, want refuse", v.Decision)
	}
}

func TestANewConnectionFromTheSamePortIsJudgedAnew(t *testing.T) {
	d := newDesk(t, nil)
	d.rules("block", block("itunes.apple.com"))
	for _, datagram := range quicHello(t, "init.itunes.apple.com") {
		d.judge(netguard.QueueFlow, udpPacket(client, server, datagram))
	}
	for _, datagram := range quicHello(t, "www.example.com") {
		if v := d.judge(netguard.QueueFlow, udpPacket(client, server, datagram)); v.Decision == netguard.Refuse {
			t.Error("a name that is not listed is refused after one that is")
		}
	}
	d.now = d.now.Add(time.Minute)
	if v := d.judge(netguard.QueueFlow, udpPacket(client, server, strange())); v.Decision == netguard.Refuse {
		t.Error("a minute later the port is still refused")
	}
}
