package sniff

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"interdict/internal/event"
)

var capture = flag.Bool("capture", false, "write what the real peers send as cases under testdata")

const (
	peerHost = "init.itunes.apple.com"
	// peerPatience ends a client whose words were not understood.
	peerPatience = 5 * time.Second
)

var (
	loopback      = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	documentation = netip.AddrFrom4([4]byte{192, 0, 2, 7})
)

// TestRealPeers lets real programs talk to a listener on loopback and reads
// what they say.
func TestRealPeers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		// replies answers the client's messages, in turn; what it says
		// after the last one stays without an answer.
		replies []string
		dial    func(t *testing.T, addr string)
		want    Finding
	}{
		{
			name: "crypto-tls-post-quantum",
			dial: dialTLS(&tls.Config{ServerName: peerHost, CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.X25519}}),
			want: Finding{State: Named, Host: peerHost, Evidence: event.EvidenceTLSSNI},
		},
		{
			name: "crypto-tls-1.2",
			dial: dialTLS(&tls.Config{ServerName: peerHost, MaxVersion: tls.VersionTLS12}),
			want: Finding{State: Named, Host: peerHost, Evidence: event.EvidenceTLSSNI},
		},
		{
			name: "crypto-tls-without-name",
			dial: dialTLS(&tls.Config{InsecureSkipVerify: true}),
			want: Finding{State: Nameless, Reason: ReasonNoName},
		},
		{
			name: "openssl-upper-case-trailing-dot",
			dial: command("openssl", "s_client", "-connect", "ADDR", "-servername", "Init.iTunes.Apple.COM."),
			want: Finding{State: Named, Host: peerHost, Evidence: event.EvidenceTLSSNI},
		},
		{
			// The list of protocols makes the ClientHello longer than a
			// record may be.
			name: "openssl-several-records",
			dial: command("openssl", "s_client", "-connect", "ADDR", "-servername", peerHost,
				"-max_send_frag", "512", "-alpn", strings.Repeat("a-protocol-with-a-long-name,", 40)+"h2"),
			want: Finding{State: Named, Host: peerHost, Evidence: event.EvidenceTLSSNI},
		},
		{
			name: "openssl-without-name",
			dial: command("openssl", "s_client", "-connect", "ADDR", "-noservername"),
			want: Finding{State: Nameless, Reason: ReasonNoName},
		},
		{
			name: "curl-http",
			dial: command("curl", "-s", "-m1", "--resolve", peerHost+":PORT:127.0.0.1", "http://"+peerHost+":PORT/a/b?c=d"),
			want: Finding{State: Named, Host: peerHost, Path: "/a/b", Evidence: event.EvidenceHTTPHost},
		},
		{
			name: "curl-http-address",
			dial: command("curl", "-s", "-m1", "http://ADDR/"),
			want: Finding{State: Nameless, Addr: loopback, Path: "/", Evidence: event.EvidenceHTTPHost, Reason: ReasonAddress},
		},
		{
			name: "curl-http2-prior-knowledge",
			dial: command("curl", "-s", "-m1", "--http2-prior-knowledge", "http://ADDR/"),
			want: Finding{State: Nameless, Reason: ReasonHTTP2},
		},
		{
			name: "curl-proxy-absolute-form",
			dial: command("curl", "-s", "-m1", "-x", "http://ADDR", "http://"+peerHost+"/x"),
			want: Finding{State: Named, Host: peerHost, Port: 80, Path: "/x", Evidence: event.EvidenceHTTPHost},
		},
		{
			name: "curl-proxy-connect",
			dial: command("curl", "-s", "-m1", "-x", "http://ADDR", "https://"+peerHost+"/"),
			want: Finding{State: Named, Host: peerHost, Port: 443, Evidence: event.EvidenceHTTPConnect},
		},
		{
			name:    "curl-proxy-connect-address",
			replies: []string{"HTTP/1.1 200 OK\r\n\r\n"},
			dial: command("curl", "-s", "-m1", "-x", "http://ADDR", "-p",
				"--connect-to", peerHost+":443:192.0.2.7:8443", "https://"+peerHost+"/"),
			want: Finding{State: Named, Host: peerHost, Addr: documentation, Port: 8443, Evidence: event.EvidenceTLSSNI},
		},
		{
			name:    "curl-socks5h",
			replies: []string{"\x05\x00"},
			dial:    command("curl", "-s", "-m1", "-x", "socks5h://ADDR", "https://"+peerHost+"/"),
			want:    Finding{State: Named, Host: peerHost, Port: 443, Evidence: event.EvidenceSOCKS5},
		},
		{
			name:    "curl-socks5h-password",
			replies: []string{"\x05\x02", "\x01\x00"},
			dial:    command("curl", "-s", "-m1", "-x", "socks5h://user:secret@ADDR", "http://"+peerHost+"/"),
			want:    Finding{State: Named, Host: peerHost, Port: 80, Evidence: event.EvidenceSOCKS5},
		},
		{
			name:    "curl-socks5-address",
			replies: []string{"\x05\x00", "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"},
			dial: command("curl", "-s", "-m1", "-x", "socks5://ADDR",
				"--resolve", peerHost+":443:192.0.2.7", "https://"+peerHost+"/"),
			want: Finding{State: Named, Host: peerHost, Addr: documentation, Port: 443, Evidence: event.EvidenceTLSSNI},
		},
		{
			name: "curl-socks4a",
			dial: command("curl", "-s", "-m1", "-x", "socks4a://ADDR", "https://"+peerHost+"/"),
			want: Finding{State: Named, Host: peerHost, Port: 443, Evidence: event.EvidenceSOCKS5},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			segments := recordTCP(t, tt.replies, tt.dial)
			if *capture {
				writeCapture(t, tt.name, "tcp", segments)
			}
			r := NewTCP()
			var got Finding
			var seq uint32
			for _, s := range segments {
				got = r.Add(seq, s)
				seq += uint32(len(s))
			}
			if got != tt.want {
				t.Errorf("the finding in %d segments is %+v, want %+v", len(segments), got, tt.want)
			}
		})
	}
}

// recordTCP accepts one connection and returns what its client sends in one
// piece each, answering with replies.
func recordTCP(t *testing.T, replies []string, dial func(*testing.T, string)) [][]byte {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	recorded := make(chan [][]byte, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			recorded <- nil
			return
		}
		defer conn.Close()
		var segments [][]byte
		var seq uint32
		r := NewTCP()
		for i := 0; ; i++ {
			buf := make([]byte, 8192)
			n, err := conn.Read(buf)
			if err != nil {
				break
			}
			segments = append(segments, buf[:n])
			found := r.Add(seq, buf[:n])
			seq += uint32(n)
			if i >= len(replies) {
				// A client may need several writes to say it all.
				if found.State == Undecided {
					continue
				}
				break
			}
			if _, err := conn.Write([]byte(replies[i])); err != nil {
				break
			}
		}
		recorded <- segments
	}()
	dial(t, l.Addr().String())
	l.Close()
	segments := <-recorded
	if len(segments) == 0 {
		t.Fatal("the client sent nothing")
	}
	return segments
}

func dialTLS(config *tls.Config) func(*testing.T, string) {
	return func(t *testing.T, addr string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), peerPatience)
		defer cancel()
		d := tls.Dialer{Config: config}
		if conn, err := d.DialContext(ctx, "tcp", addr); err == nil {
			conn.Close()
		}
	}
}

// command runs a program with ADDR and PORT replaced. That it fails is in
// order: nobody answers it.
func command(name string, args ...string) func(*testing.T, string) {
	return func(t *testing.T, addr string) {
		t.Helper()
		path, err := exec.LookPath(name)
		if err != nil {
			t.Skipf("%s is not installed: %v", name, err)
		}
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		replaced := make([]string, len(args))
		for i, a := range args {
			replaced[i] = strings.NewReplacer("ADDR", addr, "PORT", port).Replace(a)
		}
		ctx, cancel := context.WithTimeout(t.Context(), peerPatience)
		defer cancel()
		var failed *exec.ExitError
		if err := exec.CommandContext(ctx, path, replaced...).Run(); err != nil && !errors.As(err, &failed) {
			t.Fatalf("running %s: %v", name, err)
		}
	}
}

// TestRealQUICPeers records the datagrams of quic-go, which cuts and shuffles
// its ClientHello.
func TestRealQUICPeers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		versions []quic.Version
		retry    bool
	}{
		{name: "quic-go-v1", versions: []quic.Version{quic.Version1}},
		{name: "quic-go-v2", versions: []quic.Version{quic.Version2}},
		{name: "quic-go-v1-retry", versions: []quic.Version{quic.Version1}, retry: true},
		{name: "quic-go-v2-retry", versions: []quic.Version{quic.Version2}, retry: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			datagrams := recordQUIC(t, tt.versions, tt.retry)
			if tt.retry {
				datagrams = loseEndBeforeRetry(datagrams)
			}
			if *capture {
				writeCapture(t, tt.name, "quic", datagrams[:min(4, len(datagrams))])
			}
			want := Finding{State: Named, Host: peerHost, Evidence: event.EvidenceQUICSNI}
			r := NewQUIC()
			if tt.retry {
				if got := r.Add(datagrams[0]); got.State != Undecided {
					t.Fatalf("half a ClientHello gives %+v, want undecided", got)
				}
			}
			var got Finding
			for _, d := range datagrams {
				got = r.Add(d)
			}
			if got != want {
				t.Errorf("the finding in %d datagrams is %+v, want %+v", len(datagrams), got, want)
			}
		})
	}
}

// loseEndBeforeRetry drops all but the first datagram to the first connection
// id, so that only what follows the Retry can complete the ClientHello.
func loseEndBeforeRetry(datagrams [][]byte) [][]byte {
	first, kept := datagrams[0], datagrams[:1:1]
	for _, d := range datagrams[1:] {
		if id := first[5 : 6+first[5]]; !bytes.HasPrefix(d[5:], id) {
			kept = append(kept, d)
		}
	}
	return kept
}

// recordQUIC makes one connection to a real server and returns the datagrams
// of its client.
func recordQUIC(t *testing.T, versions []quic.Version, retry bool) [][]byte {
	t.Helper()
	serverConn, clientConn := listenUDP(t), &recordingConn{PacketConn: listenUDP(t)}
	server := &quic.Transport{Conn: serverConn, VerifySourceAddress: func(net.Addr) bool { return retry }}
	t.Cleanup(func() { server.Close() })
	config := &quic.Config{Versions: versions}
	l, err := server.Listen(&tls.Config{Certificates: []tls.Certificate{selfSigned(t)}, NextProtos: []string{"h3"}}, config)
	if err != nil {
		t.Fatal(err)
	}
	client := &quic.Transport{Conn: clientConn}
	t.Cleanup(func() { client.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), peerPatience)
	defer cancel()
	conn, err := client.Dial(ctx, l.Addr(), &tls.Config{
		ServerName: peerHost, NextProtos: []string{"h3"}, InsecureSkipVerify: true,
	}, config)
	if err != nil {
		t.Fatal(err)
	}
	conn.CloseWithError(0, "")
	client.Close()
	return clientConn.sent
}

func listenUDP(t *testing.T) net.PacketConn {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// recordingConn keeps what is sent through it. Hiding the real type keeps
// quic-go from writing several datagrams at once.
type recordingConn struct {
	net.PacketConn

	sent [][]byte
}

func (c *recordingConn) WriteTo(b []byte, to net.Addr) (int, error) {
	c.sent = append(c.sent, append([]byte(nil), b...))
	return c.PacketConn.WriteTo(b, to)
}

// SetReadBuffer and SetWriteBuffer keep quic-go from complaining about small
// buffers.
func (c *recordingConn) SetReadBuffer(int) error  { return nil }
func (c *recordingConn) SetWriteBuffer(int) error { return nil }

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{peerHost}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func writeCapture(t *testing.T, name, kind string, packets [][]byte) {
	t.Helper()
	comment := "Captured over loopback from a real client: " + strings.ReplaceAll(name, "-", " ") + "."
	file := filepath.Join("testdata", "peer-"+name+".txt")
	if err := os.WriteFile(file, formatCase(comment, kind, packets), 0o644); err != nil {
		t.Fatal(err)
	}
}
