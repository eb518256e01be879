package sniff

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// rewriter is a name server on loopback whose every answer has been
// rewritten.
type rewriter struct {
	addr    string
	records []string
	rewrite func(msg []byte) ([]byte, error)
}

// start serves UDP and TCP on one port until the test ends.
func (s *rewriter) start(t *testing.T) {
	t.Helper()
	udp := listenUDP(t)
	s.addr = udp.LocalAddr().String()
	tcp, err := net.Listen("tcp", s.addr)
	if err != nil {
		t.Skipf("the port is taken for TCP: %v", err)
	}
	t.Cleanup(func() { tcp.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			udp.WriteTo(s.answer(t, buf[:n]), from)
		}
	}()
	go func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			s.serveStream(t, conn)
		}
	}()
}

// serveStream answers one question.
func (s *rewriter) serveStream(t *testing.T, conn net.Conn) {
	t.Helper()
	defer conn.Close()
	head := make([]byte, 2)
	if _, err := io.ReadFull(conn, head); err != nil {
		return
	}
	query := make([]byte, binary.BigEndian.Uint16(head))
	if _, err := io.ReadFull(conn, query); err != nil {
		return
	}
	msg := s.answer(t, query)
	conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...))
}

func (s *rewriter) answer(t *testing.T, query []byte) []byte {
	t.Helper()
	q, m := new(dns.Msg), new(dns.Msg)
	if err := q.Unpack(query); err != nil {
		t.Errorf("reading a query: %v", err)
		return nil
	}
	m.SetReply(q)
	m.RecursionAvailable = true
	if q.IsEdns0() != nil {
		m.SetEdns0(1232, false)
	}
	for _, text := range s.records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Errorf("reading %q: %v", text, err)
			return nil
		}
		m.Answer = append(m.Answer, rr)
	}
	msg, err := m.Pack()
	if err != nil {
		t.Errorf("making an answer: %v", err)
		return nil
	}
	out, err := s.rewrite(msg)
	if err != nil {
		t.Errorf("rewriting an answer: %v", err)
	}
	return out
}

func refuseInPlace(msg []byte) ([]byte, error) {
	return RefuseDNS(msg, RefuseOptions{Reason: "Blocked by policy.", Length: len(msg)})
}

func stripInPlace(msg []byte) ([]byte, error) {
	out, _, err := StripECH(msg)
	return out, err
}

// TestRealResolvers shows rewritten answers to programs that must understand
// them.
func TestRealResolvers(t *testing.T) {
	t.Parallel()
	address := []string{"a.example. 60 A 192.0.2.7"}
	https := []string{`a.example. 60 HTTPS 1 . alpn="h2" ech="AAAA" ipv4hint="192.0.2.7"`}
	tests := []struct {
		name    string
		records []string
		rewrite func([]byte) ([]byte, error)
		args    []string
		want    []string
		never   string
	}{
		{"dig over UDP", address, refuseInPlace, []string{"a"}, []string{"status: NXDOMAIN", "EDE: 15 (Blocked)"}, "malformed"},
		{"dig over TCP", address, refuseInPlace, []string{"+tcp", "a"}, []string{"status: NXDOMAIN", "EDE: 15 (Blocked)"}, "malformed"},
		{"dig without EDNS", address, refuseInPlace, []string{"+noedns", "a"}, []string{"status: NXDOMAIN", "ADDITIONAL: 1"}, "malformed"},
		{"dig for HTTPS", https, stripInPlace, []string{"type65"}, []string{"status: NOERROR", "192.0.2.7"}, "ech="},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path, err := exec.LookPath("dig")
			if err != nil {
				t.Skipf("dig is not installed: %v", err)
			}
			s := &rewriter{records: tt.records, rewrite: tt.rewrite}
			s.start(t)
			_, port, err := net.SplitHostPort(s.addr)
			if err != nil {
				t.Fatal(err)
			}
			args := append([]string{"@127.0.0.1", "-p", port, "+tries=1", "+time=3", "a.example"}, tt.args...)
			out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
			if err != nil {
				t.Fatalf("running dig: %v\n%s", err, out)
			}
			for _, want := range tt.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("dig does not say %q:\n%s", want, out)
				}
			}
			if strings.Contains(string(out), tt.never) {
				t.Errorf("dig says %q:\n%s", tt.never, out)
			}
		})
	}
	t.Run("Go", func(t *testing.T) {
		t.Parallel()
		s := &rewriter{records: address, rewrite: refuseInPlace}
		s.start(t)
		r := &net.Resolver{PreferGo: true}
		r.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.addr)
		}
		var failed *net.DNSError
		if _, err := r.LookupHost(t.Context(), "a.example."); !errors.As(err, &failed) || !failed.IsNotFound {
			t.Errorf("the error is %v, want that the name was not found", err)
		}
	})
}
