package sniff

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// seed adds the packets of all cases of a kind; several packets of one case
// are added one by one and joined.
func seed(f *testing.F, kind string) {
	f.Helper()
	for _, file := range corpusFiles(f) {
		_, c := readCase(f, file)
		if c.kind != kind {
			continue
		}
		var all []byte
		for _, p := range c.packets {
			f.Add(p.data)
			all = append(all, p.data...)
		}
		f.Add(all)
	}
}

// checkFinding holds a finding to what its documentation says.
func checkFinding(t *testing.T, got Finding) {
	t.Helper()
	if (got.State == Named) != (got.Host != "") || (got.State == Nameless) != (got.Reason != ReasonNone) {
		t.Fatalf("the finding %+v contradicts itself", got)
	}
	if len(got.Host) > maxName || got.Host != string(bytes.ToLower([]byte(got.Host))) {
		t.Fatalf("the host %q is not canonical", got.Host)
	}
	if _, err := netip.ParseAddr(got.Host); err == nil {
		t.Fatalf("the host %q is an address", got.Host)
	}
}

// fuzzTCP checks that how a stream is cut does not change what is found in
// it.
func fuzzTCP(f *testing.F) {
	f.Helper()
	f.Fuzz(func(t *testing.T, stream []byte) {
		want := addAll(stream, max(1, len(stream)))
		checkFinding(t, want)
		for _, size := range []int{1, 3, 100} {
			got := addAll(stream, size)
			checkFinding(t, got)
			if got != want {
				t.Fatalf("in segments of %d bytes the finding is %+v, in one %+v", size, got, want)
			}
		}
	})
}

func FuzzTLS(f *testing.F) {
	seed(f, "tcp")
	f.Add(records(hello{name: "a.example", ech: true}.message(), 20))
	f.Add(records(hello{bare: true}.message(), maxRecord))
	fuzzTCP(f)
}

func FuzzHTTP(f *testing.F) {
	f.Add([]byte("GET http://u@A.example:80/x?y HTTP/1.1\r\nHost: b.example\r\n\r\n"))
	f.Add([]byte("\r\nGET / HTTP/1.1\r\nX: y\r\n z\r\nHost:\r\n [2001:db8::7]:80\r\n\r\n"))
	f.Add([]byte("CONNECT 192.0.2.7:443 HTTP/1.1\r\n\r\nGET / HTTP/1.1\nHost: a.example.\n\n"))
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	fuzzTCP(f)
}

func FuzzSOCKS(f *testing.F) {
	f.Add([]byte("\x05\x01\x00\x05\x01\x00\x03\x09a.example\x01\xbb"))
	f.Add([]byte("\x05\x02\x00\x02\x01\x04user\x06secret\x05\x01\x00\x01\xc0\x00\x02\x07\x01\xbb\x16"))
	f.Add([]byte("\x04\x01\x01\xbb\x00\x00\x00\x01\x00a.example\x00"))
	f.Add([]byte("\x04\x01\x01\xbb\xc0\x00\x02\x07user\x00"))
	fuzzTCP(f)
}

// FuzzQUIC feeds datagrams as they are, and the same bytes as the frames of
// a well-protected packet, which chance would hardly ever make.
func FuzzQUIC(f *testing.F) {
	seed(f, "quic")
	message := hello{name: "a.example"}.message()
	f.Add(append(cryptoFrame(message, span{40, len(message)}), cryptoFrame(message, span{0, 50})...))
	f.Add([]byte{frameACKECN, 9, 0, 0, 3, 1, 1, 1, framePing, frameCrypto, 0x40, 0, 0x40, 1, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		raw := NewQUIC()
		checkFinding(t, raw.Add(data))
		checkFinding(t, raw.Add(data))
		if len(data) > 2000 {
			return
		}
		p := initialPacket{version: quicV1, destID: testDestID, frames: padded(bytes.Clone(data))}
		checkFinding(t, NewQUIC().Add(p.seal(t)))
	})
}

// FuzzDNS reads and rewrites; miekg/dns must be able to read what becomes of
// a message that it can read.
func FuzzDNS(f *testing.F) {
	seed(f, "dns")
	for _, r := range []reply{
		{name: "a.example.", kind: dns.TypeA, edns: true, records: []string{"a.example. 9 CNAME b.example.", "b.example. 9 A 192.0.2.7"}},
		{name: "a.example.", kind: dns.TypeHTTPS, records: []string{`a.example. 60 HTTPS 1 b.example. mandatory="ech" ech="AAAA" ipv4hint="192.0.2.7"`}},
	} {
		f.Add(r.pack(f))
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		before := bytes.Clone(msg)
		_, _ = ParseDNSAnswer(msg)
		for _, length := range []int{0, len(msg)} {
			checkRewritten(t, msg, func() ([]byte, error) {
				return RefuseDNS(msg, RefuseOptions{Reason: "Blocked.", Length: length})
			}, length)
		}
		checkRewritten(t, msg, func() ([]byte, error) {
			out, _, err := StripECH(msg)
			return out, err
		}, len(msg))
		if !bytes.Equal(msg, before) {
			t.Fatal("the message was changed in place")
		}
	})
}

func checkRewritten(t *testing.T, msg []byte, rewrite func() ([]byte, error), length int) {
	t.Helper()
	out, err := rewrite()
	if err != nil {
		return
	}
	if length != 0 && len(out) != length {
		t.Fatalf("the result has %d bytes, want %d", len(out), length)
	}
	if new(dns.Msg).Unpack(msg) != nil {
		return
	}
	if err := new(dns.Msg).Unpack(out); err != nil {
		t.Fatalf("unpacking what became of a message: %v", err)
	}
}

// FuzzParsePacket also replaces payloads, which must be found again in the
// result.
func FuzzParsePacket(f *testing.F) {
	seed(f, "packet")
	f.Add(ipv4(ProtocolUDP, udp("x")))
	f.Add(ipv4(ProtocolTCP, tcp("x")))
	f.Add(ipv6(extHopByHop, append([]byte{ProtocolUDP, 0, 1, 4, 0, 0, 0, 0}, udp("x")...)))
	f.Add(ipv6(ProtocolTCP, tcp("x")))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParsePacket(data)
		if err != nil {
			return
		}
		payload := bytes.Repeat([]byte{'y'}, len(p.Payload))
		replace := ReplaceTCPPayload
		if p.Protocol == ProtocolUDP {
			payload = binary.BigEndian.AppendUint32(payload, 7)
			replace = ReplaceUDPPayload
		}
		out, err := replace(data, payload)
		if err != nil {
			return
		}
		got, err := ParsePacket(out)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Payload, payload) || got.Source != p.Source || got.Dest != p.Dest {
			t.Fatalf("the packet is %+v, want the payload %q in %+v", got, payload, p)
		}
	})
}
