package uplink

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"interdict/internal/agent/health"
	"interdict/internal/bundle"
	"interdict/internal/fault"
)

const (
	// silentIntervals is how many intervals of pings may pass in silence.
	silentIntervals = 3
	// defaultPing is assumed until the server's hello has said better, and
	// maxPing bounds what it may say.
	defaultPing = 15 * time.Second
	maxPing     = 10 * time.Minute
	// steady is how long a stream must have lived for the next attempt to
	// be a fast one again: a server that hangs up at once is not helped by
	// being called at once.
	steady = 10 * time.Second
	// clockTolerance is how far apart the clocks may be.
	clockTolerance = time.Minute
	// maxMessage bounds one message in bytes.
	maxMessage = 64 << 10
)

// The reasons for which a stream ends without a broken connection.
var (
	errSilent = errors.New("the server has gone silent")
	errEnded  = errors.New("the server ended the stream")
	// errRenewed: a connection shows the certificate it began with for as long
	// as it lasts, which may be longer than that certificate is valid.
	errRenewed = errors.New("the device has a new certificate")
)

// holdStream keeps the stream open until ctx ends.
func (u *Uplink) holdStream(ctx context.Context) {
	var retry backoff
	for {
		began := time.Now()
		err := u.stream(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errRenewed) {
			continue
		}
		if time.Since(began) > steady {
			retry.reset()
		}
		u.disconnected(ctx, err)
		if !pause(ctx, retry.next(), nil) {
			return
		}
	}
}

func (u *Uplink) disconnected(ctx context.Context, err error) {
	var was bool
	u.update(func(s *Status) {
		was = s.Connected
		if was {
			s.Connected, s.Since = false, time.Now().UTC()
		}
	})
	if was {
		u.cfg.Log.WarnContext(ctx, "lost the server", "error", err)
	}
	switch fault.CodeOf(err) {
	case fault.Unauthorized, fault.Forbidden:
		// It is there, and says no.
		u.cfg.Health.Clear(health.ServerUnreachable)
		u.cfg.Health.Raise(health.DeviceRefused, "%v; the device may have been deleted: enrol it again", err)
	default:
		u.cfg.Health.Raise(health.ServerUnreachable, "%v; the last good bundle stays in force", err)
	}
}

// stream opens the stream and reads it until it ends, which is always an
// error.
func (u *Uplink) stream(ctx context.Context) error {
	var answers errgroup.Group
	answers.SetLimit(maxAnswers)
	// After the context has ended.
	defer func() { _ = answers.Wait() }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	u.mu.Lock()
	u.hangUp = cancel
	u.mu.Unlock()
	facts, err := json.Marshal(u.cfg.Facts)
	if err != nil {
		return fmt.Errorf("writing this machine's facts: %w", err)
	}
	header := http.Header{bundle.HeaderFacts: {string(facts)}}
	// Ending the request's context is what ends a connect or a read that
	// waits.
	watchdog := time.AfterFunc(exchangeTimeout, func() { cancel(errSilent) })
	defer watchdog.Stop()
	resp, err := u.client.open(ctx, http.MethodGet, bundle.PathStream, nil, header)
	if err != nil {
		return u.broken(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()

	interval := defaultPing
	watchdog.Reset(silentIntervals * interval)
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 4<<10), maxMessage)
	for lines.Scan() {
		var m bundle.Message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return fmt.Errorf("reading the stream: %w", err)
		}
		if m.Type == bundle.MessageHello && m.PingSeconds > 0 {
			interval = min(time.Duration(m.PingSeconds)*time.Second, maxPing)
		}
		watchdog.Reset(silentIntervals * interval)
		u.handle(ctx, m, &answers)
	}
	if err := lines.Err(); err != nil {
		return u.broken(ctx, unreachable(u.client.base, err))
	}
	return u.broken(ctx, unreachable(u.client.base, errEnded))
}

// broken returns why a stream ended in err: because we ended it, where we did.
func (u *Uplink) broken(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errRenewed):
		return errRenewed
	case errors.Is(cause, errSilent):
		return unreachable(u.client.base, errSilent)
	default:
		return err
	}
}

// handle takes one message in. Types that are not known are ignored. Answers
// to questions are found in answers.
func (u *Uplink) handle(ctx context.Context, m bundle.Message, answers *errgroup.Group) {
	switch m.Type {
	case bundle.MessageHello:
		u.greeted(ctx, m)
		token(u.nudged)
	case bundle.MessageNudge:
		token(u.nudged)
	case bundle.MessageSync:
		u.acknowledge.Store(true)
		token(u.nudged)
	case bundle.MessageRequests:
		token(u.decided)
	case bundle.MessageAsk:
		if u.cfg.Answer == nil || m.Question == nil {
			return
		}
		answers.TryGo(func() error {
			u.answer(ctx, *m.Question)
			return nil
		})
	case bundle.MessagePing:
	}
}

// greeted notes that the server is there.
func (u *Uplink) greeted(ctx context.Context, m bundle.Message) {
	u.cfg.Health.Clear(health.ServerUnreachable)
	u.cfg.Health.Clear(health.DeviceRefused)
	u.update(func(s *Status) { s.Connected, s.Since = true, time.Now().UTC() })
	u.cfg.Log.InfoContext(ctx, "connected to the server", "server", u.client.base)
	token(u.hurry)
	token(u.decided)

	if m.Now.IsZero() {
		return
	}
	if ahead := time.Since(m.Now); ahead.Abs() > clockTolerance {
		u.cfg.Health.Raise(health.ClockWrong, "this machine's clock and the server's differ by %s; bundles and certificates may be refused",
			ahead.Abs().Round(time.Second))
		return
	}
	u.cfg.Health.Clear(health.ClockWrong)
}
