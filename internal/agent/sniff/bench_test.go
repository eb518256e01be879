package sniff

import (
	"testing"

	"github.com/miekg/dns"
)

func BenchmarkTCP(b *testing.B) {
	hello := records(hello{name: "init.itunes.apple.com", pad: 1300}.message(), maxRecord)
	request := []byte("GET /a/b?c=d HTTP/1.1\r\nUser-Agent: curl/8.0\r\nAccept: */*\r\nHost: init.itunes.apple.com\r\n\r\n")
	socks := []byte("\x05\x01\x00\x05\x01\x00\x03\x15init.itunes.apple.com\x01\xbb")
	for _, bb := range []struct {
		name   string
		stream []byte
		size   int
	}{
		{"tls in one segment", hello, len(hello)},
		{"tls in two segments", hello, 1400},
		{"tls in single bytes", hello, 1},
		{"http", request, len(request)},
		{"socks5", socks, len(socks)},
		{"unknown", []byte("SSH-2.0-OpenSSH_9.2\r\n"), 100},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				addAll(bb.stream, bb.size)
			}
		})
	}
}

func BenchmarkQUIC(b *testing.B) {
	message := hello{name: "init.itunes.apple.com", pad: 700}.message()
	one := initialPacket{version: quicV1, destID: testDestID, frames: cryptoFrame(message, span{0, len(message)})}.seal(b)
	b.ReportAllocs()
	for b.Loop() {
		if f := NewQUIC().Add(one); f.State != Named {
			b.Fatalf("the finding is %+v, want named", f)
		}
	}
}

func BenchmarkDNS(b *testing.B) {
	https := reply{name: "a.example.", kind: dns.TypeHTTPS, edns: true, records: []string{
		`a.example. 60 HTTPS 1 . alpn="h2,h3" ipv4hint="192.0.2.7,192.0.2.8" ech="AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" ipv6hint="2001:db8::7"`,
	}}.pack(b)
	chain := reply{name: "a.example.", kind: dns.TypeA, edns: true, records: []string{
		"a.example. 9 CNAME b.example.", "b.example. 9 CNAME c.example.", "c.example. 9 A 192.0.2.7", "c.example. 9 A 192.0.2.8",
	}}.pack(b)
	for _, bb := range []struct {
		name string
		run  func() error
	}{
		{"parse an alias chain", func() error { _, err := ParseDNSAnswer(chain); return err }},
		{"parse an HTTPS record", func() error { _, err := ParseDNSAnswer(https); return err }},
		{"refuse", func() error {
			_, err := RefuseDNS(chain, RefuseOptions{Reason: "Blocked.", Length: len(chain)})
			return err
		}},
		{"strip ech", func() error { _, _, err := StripECH(https); return err }},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := bb.run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPacket(b *testing.B) {
	data := ipv4(ProtocolUDP, udp(string(make([]byte, 100))))
	payload := make([]byte, 80)
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ParsePacket(data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("replace a payload", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ReplaceUDPPayload(data, payload); err != nil {
				b.Fatal(err)
			}
		}
	})
}
