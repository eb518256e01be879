package command

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// tryTimeout bounds each stage of a tried connection.
const tryTimeout = 5 * time.Second

// target is what test connects to.
type target struct {
	// host is empty when addr is what was given.
	host string
	addr netip.Addr
	port uint16
	// path is of a plain http URL only: no other shows it.
	path string
	tls  bool
}

// parseTarget reads a URL, a host name or an address; without a scheme it is
// https.
func parseTarget(text string) (target, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return target{addr: addr, port: 443, tls: true}, nil
	}
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return target{}, fmt.Errorf("reading %q: it is neither a URL nor a host nor an address", text)
	}
	t := target{host: u.Hostname(), port: 443, tls: true}
	switch u.Scheme {
	case "https":
	case "http":
		t.port, t.tls, t.path = 80, false, u.EscapedPath()
		if t.path == "" {
			t.path = "/"
		}
	default:
		return target{}, fmt.Errorf("reading %q: the scheme must be http or https, not %q", text, u.Scheme)
	}
	if p := u.Port(); p != "" {
		port, err := strconv.ParseUint(p, 10, 16)
		if err != nil || port == 0 {
			return target{}, fmt.Errorf("reading %q: the port must be between 1 and 65535", text)
		}
		t.port = uint16(port)
	}
	if t.host == "" {
		return target{}, fmt.Errorf("reading %q: it has no host", text)
	}
	if addr, err := netip.ParseAddr(t.host); err == nil {
		t.addr, t.host = addr, ""
	}
	return t, nil
}

// try connects to the target as a program would, up to the first answer to
// bytes that name the host.
func (t target) try(ctx context.Context, found lookup) *attempt {
	began := time.Now().Add(-found.took)
	a := &attempt{Stage: "look-up"}
	err := found.err
	if err == nil && len(found.addrs) > 0 {
		a.Stage, a.IP = "connection", found.addrs[0].Unmap()
		err = t.connect(ctx, a)
	}
	a.Took = milliseconds(time.Since(began))
	if err == nil && len(found.addrs) == 0 {
		err = &net.DNSError{Err: "no such host", Name: t.host, IsNotFound: true}
	}
	a.Outcome = outcomeOf(err)
	a.Connected = a.Outcome == outcomeConnected
	if !a.Connected {
		a.Error = err.Error()
	}
	return a
}

func (t target) connect(ctx context.Context, a *attempt) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", netip.AddrPortFrom(a.IP, t.port).String())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if t.tls {
		a.Stage = "tls"
		// Whether the certificate is good is not asked: only whether the
		// name may be said.
		return tls.Client(conn, &tls.Config{ServerName: t.host, InsecureSkipVerify: true}).HandshakeContext(ctx) //nolint:gosec // see above
	}
	a.Stage = "http"
	if err = conn.SetDeadline(time.Now().Add(tryTimeout)); err != nil {
		return err
	}
	host := t.host
	if host == "" {
		host = t.addr.String()
	}
	if _, err = fmt.Fprintf(conn, "HEAD %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", t.path, host); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}
