package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"interdict/internal/agent/state"
	"interdict/internal/bundle"
	"interdict/internal/fault"
)

// unenrolTimeout is how long an agent that is unenrolled may take to end: each
// step of that is bounded by shutdownTimeout.
const unenrolTimeout = 3 * shutdownTimeout

// Client asks a running agent.
type Client struct {
	dir  state.Dir
	http *http.Client
}

// NewClient returns a client of the agent that runs on a state directory.
func NewClient(dir state.Dir) *Client {
	path := dir.Path(state.FileSocket)
	return &Client{dir: dir, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
		DisableKeepAlives: true,
	}}}
}

// Status returns how the agent is doing. Without an agent that answers the
// error, as that of the other methods, is a fault.Unreachable.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	err := c.call(ctx, http.MethodGet, pathStatus, nil, &s)
	return s, err
}

// Sync has the newest bundle fetched now, and returns when it is in force.
func (c *Client) Sync(ctx context.Context) (Status, error) {
	var s Status
	err := c.call(ctx, http.MethodPost, pathSync, nil, &s)
	return s, err
}

// Explain asks what would happen to a connection of a user. What is not known
// of it is left zero.
func (c *Client) Explain(ctx context.Context, about bundle.Question) (Explanation, error) {
	q := url.Values{"host": {about.Host}, "path": {about.Path}, "user": {about.User}}
	if about.IP.IsValid() {
		q.Set("ip", about.IP.String())
	}
	if about.Port != 0 {
		q.Set("port", strconv.Itoa(int(about.Port)))
	}
	var e Explanation
	err := c.call(ctx, http.MethodGet, pathExplain, q, &e)
	return e, err
}

// Rescue has every trace removed from the kernel.
func (c *Client) Rescue(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, pathRescue, nil, nil)
}

// Set makes a setting on the machine, and returns it as it is in force then:
// another channel may go before.
func (c *Client) Set(ctx context.Context, name, value string) (Setting, error) {
	var s Setting
	err := c.call(ctx, http.MethodPost, pathSetting, url.Values{"name": {name}, "value": {value}}, &s)
	return s, err
}

// Unset takes back what Set did, and returns the setting as it is in force
// then.
func (c *Client) Unset(ctx context.Context, name string) (Setting, error) {
	var s Setting
	err := c.call(ctx, http.MethodPost, pathSetting, url.Values{"name": {name}}, &s)
	return s, err
}

// Enrolled has an agent that runs without a server begin anew as the server's,
// and reports whether there was one.
func (c *Client) Enrolled(ctx context.Context) (begins bool, err error) {
	err = c.call(ctx, http.MethodPost, pathEnrolled, nil, &begins)
	return begins, err
}

// Unenrolment says how far an unenrolment goes.
type Unenrolment struct {
	// Local leaves the device on the server's list.
	Local bool
	// KeepEvents leaves the local event log.
	KeepEvents bool
}

// Unenroll has the device deleted on the server and on this machine. The
// agent ends; when Unenroll returns nil it has cleared its state directory, so
// that the machine can be enrolled again.
func (c *Client) Unenroll(ctx context.Context, u Unenrolment) error {
	q := url.Values{}
	if u.Local {
		q.Set("local", "1")
	}
	if u.KeepEvents {
		q.Set("keep_events", "1")
	}
	// The lock is the last file that the agent removes.
	lock, statErr := os.Stat(c.dir.Path(state.FileLock))
	if err := c.call(ctx, http.MethodPost, pathUnenroll, q, nil); err != nil {
		return err
	}
	if statErr != nil {
		return fmt.Errorf("looking for the lock of the agent that ends: %w", statErr)
	}
	return c.waitUntilGone(ctx, lock)
}

// waitUntilGone returns when the lock of an agent that ends is gone, or is
// that of the next agent.
func (c *Client) waitUntilGone(ctx context.Context, lock fs.FileInfo) error {
	ctx, cancel := context.WithTimeout(ctx, unenrolTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		now, err := os.Stat(c.dir.Path(state.FileLock))
		if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(lock, now) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fault.New(fault.Internal, "the agent takes leave but has not cleared %s yet", c.dir.Path("")).
				WithHint("see what keeps it: journalctl -u interdict-agent --since -1h").Because(ctx.Err())
		case <-tick.C:
		}
	}
}

func (c *Client) open(ctx context.Context, method, path string, query url.Values) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, fmt.Errorf("asking the agent: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fault.New(fault.Unreachable, "the agent does not answer").
			WithHint("start it: systemctl start interdict-agent, or interdict-agent run").Because(err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	var p problem
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || p.Code == "" {
		return nil, fmt.Errorf("asking the agent: it answers %s", resp.Status)
	}
	return nil, fault.New(p.Code, "%s", p.Message).WithHint("%s", p.Hint)
}

func (c *Client) call(ctx context.Context, method, path string, query url.Values, out any) error {
	resp, err := c.open(ctx, method, path, query)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if out == nil {
		// An agent that ends may cut its answer short.
		_, _ = io.Copy(io.Discard, resp.Body)
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("reading the agent's answer: %w", err)
	}
	return nil
}
