// Package client speaks the admin API for the commands: pages become lists,
// problem documents the faults they tell, and a server that does not answer,
// or is not the one it should be, a fault that says what to do next.
package client

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
	"time"

	"interdict/internal/fault"
	"interdict/internal/problem"
)

const (
	// apiPrefix is the version of the admin API that this client speaks.
	apiPrefix = "/api/v1"
	// pageSize is how many items of a list are asked for at once.
	pageSize = 500
	// maxAnswer bounds an answer in bytes.
	maxAnswer = 64 << 20
	// requestTimeout bounds a request, unless the caller's context does so
	// earlier or the request is meant to wait.
	requestTimeout = 30 * time.Second
)

// Client speaks the admin API. Its errors are faults: those of the server, or
// Unreachable.
type Client struct {
	base  *url.URL
	token string
	http  *http.Client
}

// Config says which server to speak to.
type Config struct {
	// Server is its address, https://host:port. Required.
	Server string
	// Token is an API token. Required.
	Token string
	// CAFingerprint pins the authority that the server's chain must lead to,
	// see bundle.Fingerprint. Without it Roots decide.
	CAFingerprint string
	// Roots are the authorities to trust; nil means the system's.
	Roots *x509.CertPool
}

// New makes a client; it does not connect yet.
func New(conf Config) (*Client, error) {
	base, err := url.Parse(conf.Server)
	if err != nil || base.Scheme != "https" || base.Host == "" || (base.Path != "" && base.Path != "/") {
		return nil, fault.New(fault.Invalid, "the server's address %q is not an https URL without a path", conf.Server).
			WithHint("write it like https://interdict.example.com:8443")
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: conf.Roots}
	if conf.CAFingerprint != "" {
		pinAuthority(t, base.Hostname(), conf.CAFingerprint)
	}
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSClientConfig:     t,
		TLSHandshakeTimeout: 10 * time.Second,
		ForceAttemptHTTP2:   true,
	}
	return &Client{base: base, token: conf.Token, http: &http.Client{
		Transport: transport,
		// The API has no redirects; following one would show the token to
		// somebody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Get asks for a document.
func (c *Client) Get(ctx context.Context, path string, query url.Values) (json.RawMessage, error) {
	a, err := c.send(ctx, request{method: http.MethodGet, path: path, query: query})
	return a.body, err
}

// Post sends body and returns the answer's document.
func (c *Client) Post(ctx context.Context, path string, body any) (json.RawMessage, error) {
	a, err := c.send(ctx, request{method: http.MethodPost, path: path, body: body})
	return a.body, err
}

// PostAndWait is Post without a body to what answers when something has come
// about. It waits for as long as ctx does.
func (c *Client) PostAndWait(ctx context.Context, path string) (json.RawMessage, error) {
	a, err := c.send(ctx, request{method: http.MethodPost, path: path, waits: true})
	return a.body, err
}

// Put replaces a document.
func (c *Client) Put(ctx context.Context, path string, body any) (json.RawMessage, error) {
	a, err := c.send(ctx, request{method: http.MethodPut, path: path, body: body})
	return a.body, err
}

// Patch changes parts of a document.
func (c *Client) Patch(ctx context.Context, path string, body any) (json.RawMessage, error) {
	a, err := c.send(ctx, request{method: http.MethodPatch, path: path, body: body})
	return a.body, err
}

// Delete deletes what path names.
func (c *Client) Delete(ctx context.Context, path string, query url.Values) (json.RawMessage, error) {
	a, err := c.send(ctx, request{method: http.MethodDelete, path: path, query: query})
	return a.body, err
}

// Edit reads a document, and sends what change makes of it back with the
// method, provided that nobody else changed it meanwhile.
func Edit[T any](ctx context.Context, c *Client, method, path string, change func(*T) (any, error)) (json.RawMessage, error) {
	return EditPart(ctx, c, method, path, "", change)
}

// EditPart is Edit for a part of a document that is sent to a path of its own
// below the document's, such as /scope.
func EditPart[T any](ctx context.Context, c *Client, method, path, part string, change func(*T) (any, error)) (json.RawMessage, error) {
	a, err := c.send(ctx, request{method: http.MethodGet, path: path})
	if err != nil {
		return nil, err
	}
	v, err := Decode[T](a.body)
	if err != nil {
		return nil, err
	}
	body, err := change(&v)
	if err != nil {
		return nil, err
	}
	out, err := c.send(ctx, request{method: method, path: path + part, body: body, ifMatch: a.etag})
	return out.body, err
}

// SetQuery sets a query parameter if it has a value.
func SetQuery(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}

// List asks for a list page by page, until limit items are there or all, if
// limit is 0.
func (c *Client) List(ctx context.Context, path string, query url.Values, limit int) ([]json.RawMessage, error) {
	q := url.Values{}
	maps.Copy(q, query)
	var items []json.RawMessage
	for {
		size := pageSize
		if limit > 0 {
			size = min(size, limit-len(items))
		}
		q.Set("limit", strconv.Itoa(size))
		raw, err := c.Get(ctx, path, q)
		if err != nil {
			return nil, err
		}
		p, err := Decode[Page](raw)
		if err != nil {
			return nil, err
		}
		items = append(items, p.Items...)
		if p.Next == "" || limit > 0 && len(items) >= limit {
			return items, nil
		}
		q.Set("cursor", p.Next)
	}
}

// Page is one page of any list.
type Page struct {
	Items []json.RawMessage `json:"items"`
	Next  string            `json:"next"`
}

// Decode reads a document of the server.
func Decode[T any](raw json.RawMessage) (T, error) {
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, fmt.Errorf("reading the server's answer: %w", err)
	}
	return v, nil
}

type request struct {
	method, path string
	query        url.Values
	body         any
	ifMatch      string
	// waits says that the answer comes when it comes.
	waits bool
}

type answer struct {
	body json.RawMessage
	etag string
}

func (c *Client) send(ctx context.Context, r request) (answer, error) {
	if !r.waits {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, requestTimeout)
		defer cancel()
	}
	req, err := c.newRequest(ctx, r)
	if err != nil {
		return answer{}, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, c.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusMultipleChoices {
		return answer{}, problem.Read(resp)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{}, c.unreachable(ctx, err)
	}
	return answer{body: body, etag: resp.Header.Get("ETag")}, nil
}

func (c *Client) newRequest(ctx context.Context, r request) (*http.Request, error) {
	var body io.Reader = http.NoBody
	if r.body != nil {
		b, err := json.Marshal(r.body)
		if err != nil {
			return nil, fmt.Errorf("writing the request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	u := *c.base
	u.Path, u.RawPath, u.RawQuery = "", "", ""
	target := u.String() + apiPrefix + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, fmt.Errorf("writing the request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.ifMatch != "" {
		req.Header.Set("If-Match", r.ifMatch)
	}
	return req, nil
}

// unreachable tells why no answer came.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Canceled
	}
	var trust *trustError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case errors.As(err, &trust):
		return fault.New(fault.Unreachable, "%s", trust.Error()).Because(err).
			WithHint("is this the right server? if it was set up anew, type 'interdict login' again")
	case errors.As(err, &unknown):
		return fault.New(fault.Unreachable, "the certificate of %s is signed by an authority that is not known here", c.base.Host).
			Because(err).WithHint("give the server's DIR/ca.pem with --ca, or type 'interdict login'")
	case errors.As(err, &name):
		return fault.New(fault.Unreachable, "the certificate of the server is not for %s", c.base.Hostname()).Because(err).
			WithHint("start the server with --host %s", c.base.Hostname())
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return fault.New(fault.Unreachable, "the server at %s does not answer: %v", c.base.Host, err).Because(err).
		WithHint("is it running there, and can this machine reach it?")
}
