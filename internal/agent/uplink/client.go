package uplink

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"interdict/internal/access"
	"interdict/internal/bundle"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/problem"
)

// The bounds of one exchange with the server.
const (
	exchangeTimeout = 30 * time.Second
	// bundleTimeout is longer: a whole bundle over a slow line.
	bundleTimeout = 3 * time.Minute
	// maxAnswer bounds any answer but a bundle.
	maxAnswer = 1 << 20
	// pingAfter is the silence after which the connection is probed, and
	// pingTimeout how long the answer to the probe may take. It notices a
	// path that died without a word, whatever request is on it.
	pingAfter   = 20 * time.Second
	pingTimeout = 10 * time.Second
)

// dialFunc opens a connection. Tests replace it.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// client speaks the agent protocol. It is safe for concurrent use.
type client struct {
	base string
	// fresh makes an HTTP client with connections of its own.
	fresh func() *http.Client
	http  atomic.Pointer[http.Client]
}

// newClient returns a client of the server at base, recognised by config.
func newClient(base string, config *tls.Config, dial dialFunc) *client {
	c := &client{base: strings.TrimSuffix(base, "/"), fresh: func() *http.Client {
		return &http.Client{
			Transport: &http.Transport{
				Proxy:                 http.ProxyFromEnvironment,
				DialContext:           dial,
				TLSClientConfig:       config.Clone(),
				TLSHandshakeTimeout:   exchangeTimeout,
				ResponseHeaderTimeout: exchangeTimeout,
				IdleConnTimeout:       time.Minute,
				ForceAttemptHTTP2:     true,
				HTTP2:                 &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
			},
			// The protocol has no redirects; following one would show the
			// device's certificate to somebody else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}}
	c.http.Store(c.fresh())
	return c
}

func (c *client) close() { c.http.Load().CloseIdleConnections() }

// reconnect has every later request use new connections. Those under way end
// on the old ones, which are closed when they are idle.
func (c *client) reconnect() { c.http.Swap(c.fresh()).CloseIdleConnections() }

// open sends a request and returns the answer if its status is 2xx, and a
// fault otherwise.
func (c *client) open(ctx context.Context, method, path string, body []byte, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("making a request to %s: %w", path, err)
	}
	maps.Copy(req.Header, header)
	resp, err := c.http.Load().Do(req)
	if err != nil {
		return nil, unreachable(c.base, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		defer func() { _ = resp.Body.Close() }()
		return nil, problem.Read(resp)
	}
	return resp, nil
}

// exchange posts in as JSON and reads the answer into out; either may be
// nil.
func (c *client) exchange(ctx context.Context, path string, in, out any) error {
	return c.call(ctx, http.MethodPost, path, http.Header{}, in, out)
}

// call is exchange by any method, with a header, which it adds to.
func (c *client) call(ctx context.Context, method, path string, header http.Header, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("writing a request to %s: %w", path, err)
		}
		header.Set("Content-Type", "application/json")
	}
	resp, err := c.open(ctx, method, path, body, header)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	return c.read(resp.Body, out)
}

// read reads a JSON document into out, which may be nil.
func (c *client) read(body io.Reader, out any) error {
	b, err := io.ReadAll(io.LimitReader(body, maxAnswer))
	if err != nil {
		return unreachable(c.base, err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("reading the server's answer: %w", err)
	}
	return nil
}

// errUnreadable says that the server answered with something that is no
// bundle at all.
var errUnreadable = errors.New("it is not a bundle")

// fetch asks for what is newer than have; the zero Current asks for the
// whole bundle. It reports false when there is nothing newer.
func (c *client) fetch(ctx context.Context, have bundle.Current) (bundle.Envelope, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, bundleTimeout)
	defer cancel()
	path := bundle.PathBundle
	if have.Digest != "" {
		path += "?" + url.Values{"version": {strconv.FormatUint(have.Version, 10)}, "digest": {have.Digest}}.Encode()
	}
	resp, err := c.open(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return bundle.Envelope{}, false, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusNoContent {
		return bundle.Envelope{}, false, nil
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, bundle.MaxBody))
	if err != nil {
		return bundle.Envelope{}, false, unreachable(c.base, err)
	}
	var e bundle.Envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return bundle.Envelope{}, false, fmt.Errorf("reading the server's bundle: %w: %w", errUnreadable, err)
	}
	return e, true, nil
}

func (c *client) applied(ctx context.Context, a fleet.Applied) error {
	return c.exchange(ctx, bundle.PathApplied, a, nil)
}

// usage uploads a report of what was used.
func (c *client) usage(ctx context.Context, key string, r bundle.UsageReport) error {
	header := http.Header{}
	header.Set(bundle.HeaderIdempotencyKey, key)
	return c.call(ctx, http.MethodPost, bundle.PathUsage, header, r, nil)
}

// requests returns the requests for access that the server knows of.
func (c *client) requests(ctx context.Context) ([]access.Request, error) {
	var known bundle.AccessRequests
	err := c.call(ctx, http.MethodGet, bundle.PathRequests, http.Header{}, nil, &known)
	return known.Requests, err
}

// unenroll has the server delete the device of a certificate. One that the
// server does not know any more is deleted already. With an expired
// certificate nobody can tell: the server refuses it whoever shows it.
func (c *client) unenroll(ctx context.Context, shown *x509.Certificate) error {
	err := c.exchange(ctx, bundle.PathUnenroll, nil, nil)
	if fault.CodeOf(err) == fault.Unauthorized && time.Now().Before(shown.NotAfter) {
		return nil
	}
	return err
}

// send uploads a batch of events.
func (c *client) send(ctx context.Context, key string, body []byte) (bundle.EventReceipt, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	header := http.Header{
		"Content-Type":     {"application/x-ndjson"},
		"Content-Encoding": {"zstd"},
	}
	header.Set(bundle.HeaderIdempotencyKey, key)
	resp, err := c.open(ctx, http.MethodPost, bundle.PathEvents, body, header)
	if err != nil {
		return bundle.EventReceipt{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	var receipt bundle.EventReceipt
	err = c.read(resp.Body, &receipt)
	return receipt, err
}

// unreachable makes a fault of an exchange that broke off, with a hint where
// the reason can be told.
func unreachable(server string, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	f := fault.New(fault.Unreachable, "the server at %s is not reachable: %v", server, rootCause(err)).Because(err)
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		f.Hint = "its certificate is out of date, or this machine's clock is wrong"
	case errors.As(err, &unknown):
		f.Hint = "another server answers at this address, or something on the way intercepts TLS"
	}
	return f
}

// rootCause takes the address and method off an http.Client's error, which
// the fault says already.
func rootCause(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
