package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/cli/output"
	"interdict/internal/fault"
	"interdict/internal/fleet"
)

// pollProgress is how often a waiting command looks how far a change has come.
const pollProgress = 25 * time.Millisecond

// failGrace is how long a device that failed is waited for: until it has tried
// this change, it shows the failure of an earlier one.
const failGrace = 2 * time.Second

// Wait are the flags of commands that change what devices enforce. Its zero
// value does not wait.
type Wait struct {
	wait    bool
	timeout time.Duration
}

// Add makes the flags.
func (w *Wait) Add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&w.wait, "wait", false, "return when every device that is online enforces the change")
	cmd.Flags().DurationVar(&w.timeout, "timeout", time.Minute, "with --wait, give up after this `time`")
}

// change is the API's answer to a change.
type change struct {
	// ID is that of the thing that was made or changed, if it has one.
	ID       string `json:"id,omitempty"`
	Revision uint64 `json:"revision"`
	// Progress is nil unless it was waited for.
	Progress *fleet.Progress `json:"progress,omitempty"`
}

func changeColumns() []output.Column[change] {
	return []output.Column[change]{
		{Head: "id", Cell: func(c change) string { return c.ID }},
		{Head: "revision", Cell: func(c change) string { return strconv.FormatUint(c.Revision, 10) }},
	}
}

// Changed ends a command that changed what devices enforce, given the API's
// answer: it waits if it was asked to, and says what was done. Devices that
// failed are an error.
func (s *Session) Changed(cmd *cobra.Command, w Wait, answer json.RawMessage, format string, args ...any) error {
	done := fmt.Sprintf(format, args...)
	if !w.wait {
		if s.Format != output.FormatTable {
			return output.One(s.Stdout, s.Format, answer, changeColumns())
		}
		_, err := fmt.Fprintln(s.Stdout, output.Printable(done))
		return err
	}
	c, err := s.Client()
	if err != nil {
		return err
	}
	ch, err := client.Decode[change](answer)
	if err != nil {
		return err
	}
	start := time.Now()
	r, err := s.waitApplied(cmd.Context(), c, ch.Revision, w.timeout)
	if err != nil {
		return err
	}
	ch.Progress = &r
	return errors.Join(s.printChange(ch, done, time.Since(start)), s.explainRest(cmd.Context(), c, ch.Revision, r))
}

// printChange says what was done, and how far it has come.
func (s *Session) printChange(ch change, done string, took time.Duration) (err error) {
	r := ch.Progress
	switch {
	case s.Format != output.FormatTable:
		var raw json.RawMessage
		if raw, err = json.Marshal(ch); err != nil {
			return fmt.Errorf("writing JSON: %w", err)
		}
		return output.One(s.Stdout, s.Format, raw, append(changeColumns(),
			output.Column[change]{Head: "devices", Cell: func(c change) string { return strconv.Itoa(c.Progress.Total) }},
			output.Column[change]{Head: "applied", Cell: func(c change) string { return strconv.Itoa(c.Progress.Applied) }},
			output.Column[change]{Head: "offline", Cell: func(c change) string { return strconv.Itoa(c.Progress.Offline) }},
			output.Column[change]{Head: "failed", Cell: func(c change) string { return strconv.Itoa(c.Progress.Failed) }}))
	case r.Total == 0:
		_, err = fmt.Fprintf(s.Stdout, "%s; no device is concerned\n", output.Printable(done))
	default:
		_, err = fmt.Fprintf(s.Stdout, "%s; applied on %d of %s in %s\n",
			output.Printable(done), r.Applied, output.Count(r.Total, "device", "devices"), took.Round(time.Millisecond))
	}
	return err
}

// waitApplied waits until no device that is online lacks the change with the
// revision.
func (s *Session) waitApplied(ctx context.Context, c *client.Client, revision uint64, timeout time.Duration) (fleet.Progress, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(pollProgress)
	defer tick.Stop()
	defer s.EndProgress()
	start := time.Now()
	var last fleet.Progress
	for {
		r, err := progressSince(ctx, c, revision)
		switch {
		case err == nil && r.Pending == 0 && (r.Failed == 0 || time.Since(start) > failGrace):
			return r, nil
		case err == nil:
			s.Progress("applied %d / %d", r.Applied, r.Total)
			last = r
		case ctx.Err() == nil:
			return last, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return last, gaveUp(ctx, last, timeout)
		}
	}
}

func progressSince(ctx context.Context, c *client.Client, revision uint64) (fleet.Progress, error) {
	raw, err := c.Get(ctx, "/progress", url.Values{"revision": {strconv.FormatUint(revision, 10)}})
	if err != nil {
		return fleet.Progress{}, err
	}
	return client.Decode[fleet.Progress](raw)
}

// gaveUp says why a wait ended before the change was everywhere.
func gaveUp(ctx context.Context, last fleet.Progress, timeout time.Duration) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Canceled
	}
	return fault.New(fault.Internal, "after %s only %d of %d devices have applied the change", timeout, last.Applied, last.Total).
		WithHint("the change stands, and they go on applying it; 'interdict device list' shows which are behind")
}

// explainRest says which devices do not enforce the change. Those that failed
// are an error, those that are offline are not.
func (s *Session) explainRest(ctx context.Context, c *client.Client, revision uint64, r fleet.Progress) error {
	if r.Offline == 0 && r.Failed == 0 {
		return nil
	}
	items, err := c.List(ctx, "/devices", url.Values{}, 0)
	if err != nil {
		return err
	}
	var offline, failed []string
	for _, raw := range items {
		d, err := client.Decode[fleet.Device](raw)
		if err != nil {
			return err
		}
		if d.DesiredSince < revision {
			continue
		}
		switch d.State() {
		case fleet.StateOffline:
			offline = append(offline, d.Name)
		case fleet.StateFailed:
			failed = append(failed, d.Name+" ("+d.Applied.Error+")")
		case fleet.StateApplied, fleet.StatePending:
		}
	}
	if len(offline) > 0 {
		fmt.Fprintf(s.Stderr, "offline, will apply it when back: %s\n", output.Printable(output.Some(offline)))
	}
	if len(failed) > 0 {
		return fault.New(fault.Internal, "it could not be applied on %s", output.Some(failed)).
			WithHint("type 'interdict-agent doctor' on the device")
	}
	return nil
}

// Progress shows how far something has come, in place, on a terminal only.
func (s *Session) Progress(format string, args ...any) {
	if s.Terminal {
		fmt.Fprintf(s.Stderr, "\r\x1b[K"+format, args...)
	}
}

// EndProgress takes what Progress showed away.
func (s *Session) EndProgress() {
	if s.Terminal {
		fmt.Fprint(s.Stderr, "\r\x1b[K")
	}
}

// Removal is the one thing that Ref names below Path; Kind is what people call
// such things.
type Removal struct {
	Path, Ref, Kind string
	Query           url.Values
}

// Remove deletes something, and ends the command as Changed does.
func (s *Session) Remove(cmd *cobra.Command, w Wait, r Removal) error {
	c, err := s.Client()
	if err != nil {
		return err
	}
	raw, err := c.Delete(cmd.Context(), r.Path+url.PathEscape(r.Ref), r.Query)
	if err != nil {
		return err
	}
	return s.Changed(cmd, w, raw, "deleted %s %s", r.Kind, r.Ref)
}
