package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"interdict/internal/agent/health"
	"interdict/internal/event"
)

// The defaults and bounds of a journal.
const (
	defaultWindow   = time.Minute
	defaultLogSize  = 10 << 20
	defaultLogFiles = 5
	defaultSpool    = 64 << 20
	// maxWindows bounds the events that may still repeat.
	maxWindows = 4096
	// syncEvery is how long an event may be in the kernel and not on disk.
	syncEvery = time.Second
	// droppedShown is how long dropped events stay a health item. The count
	// stays for good.
	droppedShown = 24 * time.Hour
)

// Config is what a Journal needs.
type Config struct {
	// LogDir and SpoolDir are directories of the journal's own. LogDir is
	// required; without SpoolDir nothing is spooled, since there is no server.
	LogDir, SpoolDir string
	// Device is put into events that have none.
	Device string
	// System takes a copy of each event for the system's own journal, and
	// must not block; nil for none.
	System func(e event.Event)
	// Health is told of what does not work. Required.
	Health *health.Set
	Log    *slog.Logger
	// Zero values take the defaults: windows of 60 seconds, five log files
	// of 10 MiB, a spool of 64 MiB.
	Window   time.Duration
	LogSize  int64
	LogFiles int
	SpoolMax int64
}

func (c Config) withDefaults() Config {
	if c.Window == 0 {
		c.Window = defaultWindow
	}
	if c.LogSize == 0 {
		c.LogSize = defaultLogSize
	}
	if c.LogFiles == 0 {
		c.LogFiles = defaultLogFiles
	}
	if c.SpoolMax == 0 {
		c.SpoolMax = defaultSpool
	}
	return c
}

// Journal writes events down. It is safe for concurrent use.
type Journal struct {
	cfg   Config
	spool *Spool
	// wake holds a token when Run has something new to wait for.
	wake chan struct{}

	// mu guards everything below, and with it the order of what is written.
	mu      sync.Mutex
	windows *windows
	log     *log
	// unsynced is when the first event since the last sync was written;
	// zero if there is none.
	unsynced time.Time
}

// Open opens the journal. Run must be called for windows to close.
func Open(cfg Config) (*Journal, error) {
	cfg = cfg.withDefaults()
	var spool *Spool
	if cfg.SpoolDir != "" {
		var err error
		if spool, err = openSpool(cfg.SpoolDir, cfg.SpoolMax); err != nil {
			return nil, err
		}
	}
	l, err := openLog(cfg.LogDir, cfg.LogSize, cfg.LogFiles)
	if err != nil {
		return nil, err
	}
	j := &Journal{
		cfg: cfg, spool: spool, log: l, wake: make(chan struct{}, 1),
		windows: newWindows(cfg.Window, maxWindows),
	}
	j.reportDropped()
	return j, nil
}

// Spool returns where events wait for the server, nil where there is none.
func (j *Journal) Spool() *Spool { return j.spool }

// Record takes one event in. It fills in what is missing of id, device,
// time, count, first_seen and last_seen. When it returns, the event or its
// place in a window cannot be lost by the end of this process, except for
// a window's count. It does not fail: what does not work is a health item,
// since nobody who sees something happen can do anything about a full disk.
func (j *Journal) Record(ctx context.Context, e event.Event) {
	now := time.Now()
	j.complete(&e, now)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.write(ctx, j.windows.add(now, e))
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

func (j *Journal) complete(e *event.Event, now time.Time) {
	if e.Time.IsZero() {
		e.Time = now
	}
	e.Time = e.Time.UTC()
	if e.ID == "" {
		e.ID = ulid.Make().String()
	}
	if e.Device == "" {
		e.Device = j.cfg.Device
	}
	if e.Count == 0 {
		e.Count = 1
	}
	if e.FirstSeen.IsZero() {
		e.FirstSeen = e.Time
	}
	if e.LastSeen.IsZero() {
		e.LastSeen = e.Time
	}
}

// Changes records one 5007 event for each setting that changed.
func (j *Journal) Changes(ctx context.Context, policyID string, version uint64, changes ...event.Change) {
	for _, c := range changes {
		j.Record(ctx, event.Event{
			EventID: event.IDConfigChanged, Action: event.ActionConfigChanged,
			PolicyID: policyID, BundleVersion: version, Change: &c,
		})
	}
}

// write writes events to every place they go to. The caller holds mu.
func (j *Journal) write(ctx context.Context, events []event.Event) {
	for _, e := range events {
		if err := j.writeOne(e); err != nil {
			j.cfg.Health.Raise(health.JournalFailing, "%v; what happens is enforced but not written down", err)
			j.cfg.Log.DebugContext(ctx, "writing an event", "error", err, "id", e.ID)
		} else {
			j.cfg.Health.Clear(health.JournalFailing)
		}
	}
	if len(events) > 0 {
		if j.unsynced.IsZero() {
			j.unsynced = time.Now()
		}
		j.reportDropped()
	}
}

func (j *Journal) writeOne(e event.Event) error {
	line, err := encode(e)
	if err != nil {
		return fmt.Errorf("writing event %s: %w", e.ID, err)
	}
	if len(line) > maxLine {
		return fmt.Errorf("writing event %s: %d bytes are more than %d", e.ID, len(line), maxLine)
	}
	l := laneMain
	if e.Action == event.ActionAudited || e.Action == event.ActionExecAudited {
		l = laneAudit
	}
	err = errors.Join(j.log.append(line), j.spool.append(l, line))
	if j.cfg.System != nil {
		j.cfg.System(e)
	}
	return err
}

// encode makes a line of an event. Nothing is escaped that JSON does not ask
// for: what a program is called must not make its events too long to be kept.
func encode(e event.Event) ([]byte, error) {
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	err := enc.Encode(e)
	return line.Bytes(), err
}

// reportDropped makes a health item of events that were dropped.
func (j *Journal) reportDropped() {
	d := j.spool.Stats().Dropped
	if d.Audited+d.Other == 0 || time.Since(d.Last) > droppedShown {
		j.cfg.Health.Clear(health.EventsDropped)
		return
	}
	j.cfg.Health.Raise(health.EventsDropped, "%d audited and %d other events were dropped, last on %s, because the spool was full; they are in the local log only",
		d.Audited, d.Other, d.Last.Format(time.RFC3339))
}

// Run closes windows when their time is up and makes durable what was
// written, until ctx ends.
func (j *Journal) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-j.wake:
		case <-timer.C:
			j.tick(ctx)
		}
		if wait, ok := j.nextTick(); ok {
			timer.Reset(wait)
		}
	}
}

// nextTick returns how long nothing needs to be done, and false when nothing
// ever does unless an event comes.
func (j *Journal) nextTick() (time.Duration, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.unsynced.IsZero() {
		return time.Until(j.unsynced.Add(syncEvery)), true
	}
	closes, ok := j.windows.next()
	return time.Until(closes), ok
}

func (j *Journal) tick(ctx context.Context) {
	j.mu.Lock()
	j.write(ctx, j.windows.due(time.Now()))
	j.unsynced = time.Time{}
	j.mu.Unlock()
	if err := j.spool.sync(); err != nil {
		j.cfg.Health.Raise(health.JournalFailing, "%v", err)
	}
}

// Sync makes durable what was recorded. Without it the loss of power can cost
// the last second.
func (j *Journal) Sync() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return errors.Join(j.log.sync(), j.spool.sync())
}

// Flush writes what the open windows have counted, and closes them.
func (j *Journal) Flush(ctx context.Context) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.write(ctx, j.windows.drain())
}

// Close writes what the open windows have counted and closes the files. Run
// must have ended.
func (j *Journal) Close(ctx context.Context) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.write(ctx, j.windows.drain())
	return errors.Join(j.log.close(), j.spool.close())
}
