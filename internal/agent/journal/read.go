package journal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"time"

	"interdict/internal/event"
)

// followEvery is how often a log that is followed is looked at.
const followEvery = 200 * time.Millisecond

// mostFiles is more than a log has files.
const mostFiles = 32

// Read yields the events of the log in dir, oldest first, each revision by
// itself. Lines that cannot be read are skipped; it needs no running agent.
func Read(dir string) iter.Seq2[event.Event, error] {
	return func(yield func(event.Event, error) bool) {
		for n := oldest(dir); n >= 0; n-- {
			if !readLog(logName(dir, n), yield) {
				return
			}
		}
	}
}

// Newest is Read with only the newest revision of each event.
func Newest(dir string) iter.Seq2[event.Event, error] {
	return func(yield func(event.Event, error) bool) {
		// Each revision has a higher count than the one before.
		counts := make(map[string]int)
		for e, err := range Read(dir) {
			if err != nil {
				yield(event.Event{}, err)
				return
			}
			counts[e.ID] = max(counts[e.ID], e.Count)
		}
		for e, err := range Read(dir) {
			if err == nil && e.Count < counts[e.ID] {
				continue
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// oldest is the number of the log's oldest file. While the log is being
// rotated there is a gap in it.
func oldest(dir string) int {
	for n := mostFiles - 1; n > 0; n-- {
		if fileExists(logName(dir, n)) {
			return n
		}
	}
	return 0
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func readLog(path string, yield func(event.Event, error) bool) bool {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil {
		return yield(event.Event{}, fmt.Errorf("reading the event log: %w", err))
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	lines.Buffer(make([]byte, 0, 4<<10), maxLine)
	for lines.Scan() {
		var e event.Event
		if json.Unmarshal(lines.Bytes(), &e) == nil && !yield(e, nil) {
			return false
		}
	}
	if err := lines.Err(); err != nil {
		return yield(event.Event{}, fmt.Errorf("reading %s: %w", path, err))
	}
	return true
}

// Follow yields the last wanted revisions of the log in dir, at most last, and
// then those that are written, until ctx ends. It follows the files: it needs no
// running agent, and outlives one that is started again.
func Follow(ctx context.Context, dir string, last int, wanted func(event.Event) bool) iter.Seq2[event.Event, error] {
	return func(yield func(event.Event, error) bool) {
		f := &follower{dir: dir}
		defer f.close()
		tail, err := f.tail(last, wanted)
		for _, e := range tail {
			if !yield(e, nil) {
				return
			}
		}
		more := true
		take := func(e event.Event) bool {
			more = !wanted(e) || yield(e, nil)
			return more
		}
		for err == nil && sleep(ctx, followEvery) {
			if err = f.poll(take); !more {
				return
			}
		}
		if err != nil {
			yield(event.Event{}, err)
		}
	}
}

// sleep returns false when ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// follower is a place in a log that grows and is rotated.
type follower struct {
	dir string
	// file is nil before the log has one. It may have been rotated.
	file *os.File
	// offset is behind the last whole line that was read. What follows may
	// be half a line, which is read when it is whole, or cut off.
	offset int64
}

func (f *follower) close() {
	if f.file != nil {
		_ = f.file.Close()
		f.file = nil
	}
}

// tail returns what is there and wanted, at most the last events.
func (f *follower) tail(last int, wanted func(event.Event) bool) (tail []event.Event, err error) {
	err = f.poll(func(e event.Event) bool {
		if !wanted(e) {
			return true
		}
		if tail = append(tail, e); len(tail) > last {
			tail = tail[1:]
		}
		return true
	})
	return tail, err
}

// poll gives all that was written since it was last called to take, until
// that returns false.
func (f *follower) poll(take func(event.Event) bool) error {
	for {
		// Looked for before reading: what is written to a file before it is
		// rotated is read before the next one is.
		n, err := f.position()
		if err != nil {
			return err
		}
		if more, err := f.read(take); err != nil || !more || n == 0 {
			return err
		}
		if opened, err := f.advance(n); err != nil || !opened {
			return err
		}
	}
}

// position returns which of the log's files the follower's is now. Without
// one, or when it is gone, it counts as the one before the oldest.
func (f *follower) position() (int, error) {
	if f.file == nil {
		return oldest(f.dir) + 1, nil
	}
	own, err := f.file.Stat()
	if err != nil {
		return 0, fmt.Errorf("following the event log: %w", err)
	}
	for n := range mostFiles {
		if info, err := os.Stat(logName(f.dir, n)); err == nil && os.SameFile(own, info) {
			return n, nil
		}
	}
	return oldest(f.dir) + 1, nil
}

// advance goes on with the file after the n-th, which the follower's is, and
// reports false if there is none.
func (f *follower) advance(n int) (bool, error) {
	file, err := os.Open(logName(f.dir, n-1))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("following the event log: %w", err)
	}
	// Older files are renamed first: with ours still where it was, this is
	// the one after it.
	if now, err := f.position(); err != nil || now != n {
		return err == nil, errors.Join(err, file.Close())
	}
	f.close()
	f.file, f.offset = file, 0
	return true, nil
}

// read gives the whole lines that the file has more to take, and reports
// false when that wants no more.
func (f *follower) read(take func(event.Event) bool) (more bool, err error) {
	buf := make([]byte, 2*maxLine)
	for f.file != nil {
		n, err := f.file.ReadAt(buf, f.offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return false, fmt.Errorf("following the event log: %w", err)
		}
		whole := bytes.LastIndexByte(buf[:n], '\n') + 1
		if whole == 0 {
			break
		}
		f.offset += int64(whole)
		for line := range bytes.Lines(buf[:whole]) {
			var e event.Event
			if json.Unmarshal(line, &e) == nil && !take(e) {
				return false, nil
			}
		}
	}
	return true, nil
}
