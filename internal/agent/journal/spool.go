package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/oklog/ulid/v2"

	"interdict/internal/agent/state"
	"interdict/internal/bundle"
)

// lane says which events a segment holds. Audited events have a lane of
// their own, so that they can be dropped first without reading anything.
type lane string

const (
	laneAudit lane = "audit"
	laneMain  lane = "main"
)

const (
	segmentSuffix = ".jsonl"
	droppedFile   = "dropped.json"
	// maxSegment bounds a segment in bytes; bundle.MaxEventBatch bounds it
	// in events.
	maxSegment = 1 << 20
	// linger is how long the first event of a batch waits for company.
	linger = 200 * time.Millisecond
)

// segment is one file of the spool.
type segment struct {
	key    string
	lane   lane
	size   int64
	events int
	// file is open while the segment is being appended to.
	file  *os.File
	dirty bool
}

// Dropped counts events that never reached the server.
type Dropped struct {
	// Audited and Other were dropped because the spool was full or could
	// not be written.
	Audited uint64 `json:"audited"`
	Other   uint64 `json:"other"`
	// Rejected were refused by the server.
	Rejected uint64    `json:"rejected"`
	Last     time.Time `json:"last,omitzero"`
}

// Spool is where events wait for the server. It is safe for concurrent use.
// Where there is no server it is nil, which has nothing and takes nothing.
type Spool struct {
	dir   string
	limit int64
	// ready holds a token when there may be something to send.
	ready chan struct{}

	// mu guards everything below.
	mu sync.Mutex
	// segments are in the order of their keys, which is that of time.
	segments []*segment
	size     int64
	sending  string
	dropped  Dropped
	renamed  bool
}

// openSpool opens the spool at dir. What an earlier process left is closed to
// appending: it is sent as it is.
func openSpool(dir string, limit int64) (*Spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the spool's directory: %w", err)
	}
	s := &Spool{dir: dir, limit: limit, ready: make(chan struct{}, 1)}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the spool: %w", err)
	}
	for _, entry := range entries {
		if err := s.adopt(entry.Name()); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(s.segments, func(a, b *segment) int { return strings.Compare(a.key, b.key) })
	if b, err := os.ReadFile(filepath.Join(dir, droppedFile)); err == nil {
		// A count that cannot be read starts again from nothing.
		_ = json.Unmarshal(b, &s.dropped)
	}
	s.signal()
	return s, nil
}

// adopt takes over a segment of an earlier process. Other files are left
// alone.
func (s *Spool) adopt(name string) error {
	stem, ok := strings.CutSuffix(name, segmentSuffix)
	key, l, found := strings.Cut(stem, "-")
	if !ok || !found || !isULID(key) {
		return nil
	}
	seg := &segment{key: key, lane: lane(l)}
	content, err := os.ReadFile(s.path(seg))
	if err != nil {
		return fmt.Errorf("opening the spool: %w", err)
	}
	seg.size, seg.events = int64(len(content)), bytes.Count(content, []byte("\n"))
	s.segments = append(s.segments, seg)
	s.size += seg.size
	return nil
}

func isULID(s string) bool {
	_, err := ulid.ParseStrict(s)
	return err == nil
}

func (s *Spool) path(seg *segment) string {
	return filepath.Join(s.dir, seg.key+"-"+string(seg.lane)+segmentSuffix)
}

func (s *Spool) signal() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// append adds one event, a line that ends in a line feed.
func (s *Spool) append(l lane, line []byte) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.makeRoom(int64(len(line)))
	if err == nil {
		var seg *segment
		if seg, err = s.active(l, int64(len(line))); err == nil {
			err = s.write(seg, line)
		}
	}
	if err != nil {
		s.count(l, 1)
		return fmt.Errorf("spooling an event: %w", err)
	}
	s.signal()
	return nil
}

// active returns the lane's open segment, a new one if there is none or no
// room in it.
func (s *Spool) active(l lane, need int64) (*segment, error) {
	for _, seg := range s.segments {
		if seg.lane != l || seg.file == nil {
			continue
		}
		if seg.events < bundle.MaxEventBatch && seg.size+need <= maxSegment {
			return seg, nil
		}
		if err := s.seal(seg); err != nil {
			return nil, err
		}
	}
	seg := &segment{key: ulid.Make().String(), lane: l}
	f, err := os.OpenFile(s.path(seg), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	seg.file = f
	s.segments = append(s.segments, seg)
	s.renamed = true
	return seg, nil
}

func (s *Spool) write(seg *segment, line []byte) error {
	n, err := seg.file.Write(line)
	if err != nil {
		// Half a line must not be continued; the segment ends here, and
		// its torn end is ignored.
		if n > 0 {
			_ = seg.file.Truncate(seg.size)
		}
		_ = s.seal(seg)
		if seg.events == 0 {
			// A full disk still has room for names: without this it would
			// be one more for every event.
			_ = s.remove(seg)
		}
		return err
	}
	seg.size += int64(n)
	seg.events++
	seg.dirty = true
	s.size += int64(n)
	return nil
}

// seal ends appending to a segment and makes it durable.
func (s *Spool) seal(seg *segment) error {
	if seg.file == nil {
		return nil
	}
	err := seg.file.Sync()
	if closeErr := seg.file.Close(); err == nil {
		err = closeErr
	}
	seg.file, seg.dirty = nil, false
	return err
}

// errFull says that nothing can be dropped to make room.
var errFull = errors.New("the spool is full")

// makeRoom drops segments until need bytes fit: audited events before
// others, older before newer, and never what is being sent.
func (s *Spool) makeRoom(need int64) error {
	for s.size+need > s.limit {
		victim := s.oldest(func(seg *segment) bool { return seg.lane == laneAudit })
		if victim == nil {
			victim = s.oldest(func(*segment) bool { return true })
		}
		if victim == nil {
			return errFull
		}
		s.count(victim.lane, victim.events)
		if err := s.remove(victim); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spool) oldest(match func(*segment) bool) *segment {
	for _, seg := range s.segments {
		if seg.key != s.sending && match(seg) {
			return seg
		}
	}
	return nil
}

// remove deletes a segment.
func (s *Spool) remove(seg *segment) error {
	if seg.file != nil {
		_ = seg.file.Close()
		seg.file = nil
	}
	s.segments = slices.DeleteFunc(s.segments, func(other *segment) bool { return other == seg })
	s.size -= seg.size
	if err := os.Remove(s.path(seg)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("deleting a batch of events: %w", err)
	}
	return nil
}

// count counts dropped events, on disk as well as that is possible: on a
// full disk the count in memory has to do.
func (s *Spool) count(l lane, events int) {
	if l == laneAudit {
		s.dropped.Audited += uint64(events)
	} else {
		s.dropped.Other += uint64(events)
	}
	s.saveDropped()
}

func (s *Spool) saveDropped() {
	s.dropped.Last = time.Now().UTC()
	if b, err := json.Marshal(s.dropped); err == nil {
		_ = state.WriteFile(filepath.Join(s.dir, droppedFile), b)
	}
}

// sync makes durable what was appended since it was last called.
func (s *Spool) sync() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, seg := range s.segments {
		if !seg.dirty {
			continue
		}
		errs = append(errs, seg.file.Sync())
		seg.dirty = false
	}
	if s.renamed {
		s.renamed = false
		errs = append(errs, state.SyncDir(s.dir))
	}
	return errors.Join(errs...)
}

// Next returns the key and the body of the oldest batch, one JSON object a
// line compressed with zstd, and waits for one if there is none. Until it is
// done or rejected, Next returns the same batch. When ctx has ended already it
// returns a batch that is there, and waits for none. There must be one caller.
func (s *Spool) Next(ctx context.Context) (string, []byte, error) {
	for {
		key, content, err := s.take()
		if err != nil {
			return "", nil, err
		}
		if key != "" {
			body, err := compress(content)
			return key, body, err
		}
		select {
		case <-ctx.Done():
			return "", nil, ctx.Err()
		case <-s.ready:
		}
		// The first event of many often has others right behind it.
		select {
		case <-ctx.Done():
			return "", nil, ctx.Err()
		case <-time.After(linger):
		}
	}
}

// take closes the oldest segment that holds an event and reads it. The key
// is empty when there is none.
func (s *Spool) take() (string, []byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.segments) > 0 {
		seg := s.segments[0]
		if err := s.seal(seg); err != nil {
			return "", nil, fmt.Errorf("closing a batch of events: %w", err)
		}
		content, err := readSegment(s.path(seg))
		if err != nil {
			return "", nil, err
		}
		if len(content) > 0 {
			s.sending = seg.key
			return seg.key, content, nil
		}
		if err := s.remove(seg); err != nil {
			return "", nil, err
		}
	}
	return "", nil, nil
}

// readSegment returns the lines of a segment that are whole.
func readSegment(path string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading a batch of events: %w", err)
	}
	whole := content[:0]
	for line := range bytes.Lines(content) {
		if bytes.HasSuffix(line, []byte("\n")) && json.Valid(line) {
			whole = append(whole, line...)
		}
	}
	return whole, nil
}

func compress(content []byte) ([]byte, error) {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(1<<17))
	if err != nil {
		return nil, fmt.Errorf("compressing a batch of events: %w", err)
	}
	return w.EncodeAll(content, nil), w.Close()
}

// Done removes a batch that the server has taken.
func (s *Spool) Done(key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.finish(key)
}

// Reject removes a batch that the server will never take, and counts it.
func (s *Spool) Reject(key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range s.segments {
		if seg.key == key {
			s.dropped.Rejected += uint64(seg.events)
			s.saveDropped()
		}
	}
	return s.finish(key)
}

func (s *Spool) finish(key string) error {
	s.sending = ""
	for _, seg := range s.segments {
		if seg.key == key {
			return s.remove(seg)
		}
	}
	return nil
}

// SpoolStats is what waits in a spool.
type SpoolStats struct {
	Events  int     `json:"events"`
	Bytes   int64   `json:"bytes"`
	Limit   int64   `json:"limit"`
	Dropped Dropped `json:"dropped"`
}

// Stats returns what waits.
func (s *Spool) Stats() SpoolStats {
	if s == nil {
		return SpoolStats{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := SpoolStats{Bytes: s.size, Limit: s.limit, Dropped: s.dropped}
	for _, seg := range s.segments {
		st.Events += seg.events
	}
	return st
}

// close makes everything durable and closes it.
func (s *Spool) close() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, seg := range s.segments {
		errs = append(errs, s.seal(seg))
	}
	return errors.Join(errs...)
}
