package why

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"interdict/internal/fault"
)

// The agent's service has a directory for what everybody may know; in a file
// there it says where the page is.
const (
	runtimeDir  = "/run/interdict-agent"
	fileAddress = "why-address"
)

const (
	askTimeout = 10 * time.Second
	maxAnswer  = 1 << 20
)

// Announce writes down in a directory where a page is, for everybody to read.
// The function that it returns takes that back.
func Announce(dir string, address netip.AddrPort) (withdraw func(), err error) {
	path := filepath.Join(dir, fileAddress)
	// Whoever reads it meanwhile finds it whole.
	next := path + ".new"
	err = os.WriteFile(next, []byte(address.String()+"\n"), 0o600)
	if err == nil {
		err = os.Chmod(next, 0o644) //nolint:gosec // it is for everybody
	}
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return nil, fmt.Errorf("saying where the why page is: %w", err)
	}
	return func() { _ = os.Remove(path) }, nil
}

// Find returns the address of the page on this machine: as the agent's service
// says, else the usual one.
func Find() (string, error) { return find(runtimeDir) }

func find(dir string) (string, error) {
	content, err := os.ReadFile(filepath.Join(dir, fileAddress))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return DefaultListen, nil
	case err != nil:
		return "", fmt.Errorf("looking for the why page: %w", err)
	default:
		return strings.TrimSpace(string(content)), nil
	}
}

// Client asks the server of the page in the name of the user whose process it
// is part of.
type Client struct {
	address netip.AddrPort
	http    *http.Client
}

// NewClient returns a client of the page at an address.
func NewClient(address string) (*Client, error) {
	a, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	return &Client{address: a, http: &http.Client{
		Timeout: askTimeout, Transport: &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close closes what is open to the server.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// List returns what the user was refused, the newest first. Without an agent
// that answers the error, as that of the other methods, is a
// fault.Unreachable.
func (c *Client) List(ctx context.Context) ([]Refusal, error) {
	return c.ask(ctx, http.MethodGet, pathRefusals, "")
}

// Continue has the user go on after a warning, and returns it as it is then.
func (c *Client) Continue(ctx context.Context, id, reason string) (Refusal, error) {
	return c.act(ctx, id, "continue", reason)
}

// Request asks the administrators for access in the name of the user, and
// returns the refusal as it is then.
func (c *Client) Request(ctx context.Context, id, reason string) (Refusal, error) {
	return c.act(ctx, id, "request", reason)
}

func (c *Client) act(ctx context.Context, id, what, reason string) (Refusal, error) {
	body := url.Values{"reason": {reason}}.Encode()
	all, err := c.ask(ctx, http.MethodPost, pathRefusals+"/"+url.PathEscape(id)+"/"+what, body)
	if err != nil {
		return Refusal{}, err
	}
	if len(all) != 1 {
		return Refusal{}, c.noAgent(fmt.Errorf("%d refusals in the answer", len(all)))
	}
	return all[0], nil
}

func (c *Client) ask(ctx context.Context, method, path, body string) ([]Refusal, error) {
	var own netip.AddrPort
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
		own, _ = netip.ParseAddrPort(c.Conn.LocalAddr().String())
	}})
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.address.String()+path, strings.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("asking the agent: %w", err)
	}
	req.Header.Set(headerCommand, "why")
	if body != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.noAgent(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := c.check(own); err != nil {
		return nil, err
	}
	return c.read(resp)
}

// check returns nil if the other end of a connection is the agent's. Where
// there is none any user can open its port, and tell others what they like.
func (c *Client) check(own netip.AddrPort) (err error) {
	peers, err := OpenPeers()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, peers.Close()) }()
	uid, err := peers.UID(c.address, own)
	if err != nil {
		return c.noAgent(err)
	}
	if uid != 0 && int64(uid) != int64(os.Geteuid()) {
		return c.noAgent(fmt.Errorf("it is a program of user %d", uid))
	}
	return nil
}

// read reads an answer, which may be anybody's.
func (c *Client) read(resp *http.Response) ([]Refusal, error) {
	answer := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode == http.StatusOK {
		var l list
		if err := answer.Decode(&l); err != nil {
			return nil, c.noAgent(err)
		}
		return l.Refusals, nil
	}
	if resp.StatusCode == http.StatusTooManyRequests && resp.Header.Get("Retry-After") != "" {
		return nil, fault.New(fault.TooMany, "you ask too often").WithHint("try again in a moment")
	}
	var p problem
	if err := answer.Decode(&p); err != nil || p.Code == "" {
		return nil, c.noAgent(fmt.Errorf("it answers %s", resp.Status))
	}
	return nil, fault.New(p.Code, "%s", p.Message).WithHint("%s", p.Hint)
}

func (c *Client) noAgent(cause error) error {
	return fault.New(fault.Unreachable, "no agent answers on %s", c.address).
		WithHint("see whether it runs: systemctl status interdict-agent; if it listens elsewhere, say so with --why-listen").Because(cause)
}
