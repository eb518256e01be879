package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"interdict/internal/lab/internet"
)

// peerPatience is how long a peer tries.
const peerPatience = 8 * time.Second

// peerMain plays a peer on a host of the lab: this program started again. The
// first argument is the file of the demo CA. It prints what it got and returns
// 0 if the connection worked.
func peerMain(name string, args []string) int {
	peers := map[string]func(context.Context, *x509.CertPool, []string) (string, error){
		"tls":       peerTLS,
		"bytes":     peerBytes,
		"records":   peerRecords,
		"http3":     peerHTTP3,
		"http3slow": peerHTTP3Slow,
		"nameless":  peerNameless,
		"line":      peerLine,

		"https-record": peerHTTPSRecord,
	}
	pem, err := os.ReadFile(args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	out, err := peers[name](context.Background(), pool, args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(os.Stdout, out)
	return 0
}

// peerTLS is Go's own client with a post-quantum key share: args are the name
// and the address.
func peerTLS(ctx context.Context, pool *x509.CertPool, args []string) (string, error) {
	return get(ctx, pool, args[0], args[1], func(c net.Conn) net.Conn { return c })
}

// peerBytes sends the ClientHello one byte at a time.
func peerBytes(ctx context.Context, pool *x509.CertPool, args []string) (string, error) {
	return get(ctx, pool, args[0], args[1], func(c net.Conn) net.Conn { return &byteConn{Conn: c} })
}

// peerRecords spreads the ClientHello over many TLS records.
func peerRecords(ctx context.Context, pool *x509.CertPool, args []string) (string, error) {
	return get(ctx, pool, args[0], args[1], func(c net.Conn) net.Conn { return &recordConn{Conn: c} })
}

// get fetches a page by HTTPS from an address, over a connection that wrap
// may change.
func get(ctx context.Context, pool *x509.CertPool, name, address string, wrap func(net.Conn) net.Conn) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, peerPatience)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer raw.Close()
	conn := tls.Client(wrap(raw), &tls.Config{
		ServerName: name, RootCAs: pool, CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.X25519},
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return "", err
	}
	if got := conn.ConnectionState().CurveID; got != tls.X25519MLKEM768 {
		return "", fmt.Errorf("the key share is %s, not post-quantum", got)
	}
	transport := &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	defer transport.CloseIdleConnections()
	return fetch(ctx, transport, "https://"+name+"/")
}

func fetch(ctx context.Context, transport http.RoundTripper, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return strings.TrimSpace(string(body)), err
}

// byteConn sends what is written first one byte at a time.
type byteConn struct {
	net.Conn

	wrote bool
}

func (c *byteConn) Write(b []byte) (int, error) {
	if c.wrote {
		return c.Conn.Write(b)
	}
	c.wrote = true
	for i := range b {
		if _, err := c.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

// recordConn cuts the record that is written first, a ClientHello, into many
// (RFC 8446, section 5.1, allows it).
type recordConn struct {
	net.Conn

	wrote bool
}

// recordSize is small enough to cut a host name in two.
const recordSize = 7

func (c *recordConn) Write(b []byte) (int, error) {
	if c.wrote {
		return c.Conn.Write(b)
	}
	c.wrote = true
	const header = 5
	var out []byte
	for rest := b[header:]; len(rest) > 0; {
		piece := rest[:min(recordSize, len(rest))]
		rest = rest[len(piece):]
		out = append(out, b[:3]...)
		out = binary.BigEndian.AppendUint16(out, uint16(len(piece)))
		out = append(out, piece...)
	}
	if _, err := c.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

// http3To returns a transport that goes to an address whatever the URL says.
func http3To(pool *x509.CertPool, address string) *http3.Transport {
	return &http3.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool},
		QUICConfig:      &quic.Config{HandshakeIdleTimeout: 3 * time.Second, MaxIdleTimeout: 3 * time.Second},
		Dial: func(ctx context.Context, _ string, tlsConf *tls.Config, conf *quic.Config) (*quic.Conn, error) {
			return quic.DialAddr(ctx, address, tlsConf, conf)
		},
	}
}

func peerHTTP3(ctx context.Context, pool *x509.CertPool, args []string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, peerPatience)
	defer cancel()
	transport := http3To(pool, args[1])
	defer transport.Close()
	return fetch(ctx, transport, "https://"+args[0]+"/")
}

// peerHTTP3Slow reads an endless download, and says so with its first bytes.
func peerHTTP3Slow(ctx context.Context, pool *x509.CertPool, args []string) (string, error) {
	transport := http3To(pool, args[1])
	// As most programs have it: a connection that falls silent lasts half a
	// minute.
	transport.QUICConfig = &quic.Config{MaxIdleTimeout: 30 * time.Second}
	defer transport.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+args[0]+"/slow", nil)
	if err != nil {
		return "", err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	_, err = io.Copy(os.Stdout, resp.Body)
	return "", errors.Join(errors.New("the download ended"), err)
}

// peerHTTPSRecord looks up the HTTPS record of a name and prints it.
func peerHTTPSRecord(ctx context.Context, _ *x509.CertPool, args []string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, peerPatience)
	defer cancel()
	conf, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		return "", err
	}
	q := new(dns.Msg).SetQuestion(dns.Fqdn(args[0]), dns.TypeHTTPS)
	a, err := dns.ExchangeContext(ctx, q, net.JoinHostPort(conf.Servers[0], conf.Port))
	if err != nil {
		return "", err
	}
	if len(a.Answer) == 0 {
		return "", fmt.Errorf("no answer: %s", dns.RcodeToString[a.Rcode])
	}
	return a.Answer[0].String(), nil
}

// peerNameless looks a name up, waits for a line on its standard input, and
// then connects to the address without ever saying the name.
func peerNameless(ctx context.Context, _ *x509.CertPool, args []string) (string, error) {
	addrs, err := new(net.Resolver).LookupHost(ctx, args[0])
	if err != nil {
		return "", err
	}
	fmt.Fprintln(os.Stdout, "resolved")
	if _, err = bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, peerPatience)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(addrs[0], fmt.Sprint(internet.PortEcho)))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err = conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	if _, err = io.WriteString(conn, "no name here\n"); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}
