package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// maxLine bounds one line of the log and of the spool in bytes.
const maxLine = 64 << 10

// logName is the name of the log's n-th file, 0 being the one written to.
func logName(dir string, n int) string {
	if n == 0 {
		return filepath.Join(dir, "events.jsonl")
	}
	return filepath.Join(dir, "events."+strconv.Itoa(n)+".jsonl")
}

// log is the local event log. It is not safe for concurrent use.
type log struct {
	dir     string
	maxSize int64
	files   int
	file    *os.File
	size    int64
}

func openLog(dir string, maxSize int64, files int) (*log, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the event log's directory: %w", err)
	}
	l := &log{dir: dir, maxSize: maxSize, files: files}
	return l, l.open()
}

// open opens the current file. What a crash left of a last line is cut off,
// so that the next line does not grow out of it.
func (l *log) open() error {
	f, err := os.OpenFile(logName(l.dir, 0), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("opening the event log: %w", err)
	}
	size, err := cutTornLine(f)
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("opening the event log: %w", err)
	}
	l.file, l.size = f, size
	return nil
}

// cutTornLine ends a file after its last line feed, if that is near, and
// leaves the file's offset at the end.
func cutTornLine(f *os.File) (int64, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	tail := make([]byte, min(size, maxLine))
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil {
		return 0, err
	}
	torn := len(tail) - (bytes.LastIndexByte(tail, '\n') + 1)
	size -= int64(torn)
	if torn > 0 {
		if err := f.Truncate(size); err != nil {
			return 0, err
		}
	}
	return f.Seek(size, io.SeekStart)
}

// append writes a line that ends in a line feed.
func (l *log) append(line []byte) error {
	if l.file == nil {
		if err := l.open(); err != nil {
			return err
		}
	}
	if l.size > 0 && l.size+int64(len(line)) > l.maxSize {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	n, err := l.file.Write(line)
	if err != nil {
		// A full disk may have taken half a line. If that cannot be cut
		// off now it will be when the file is opened again.
		if n > 0 {
			_ = l.file.Truncate(l.size)
		}
		_ = l.file.Close()
		l.file = nil
		return fmt.Errorf("writing the event log: %w", err)
	}
	l.size += int64(n)
	return nil
}

// sync makes durable what was written to the current file.
func (l *log) sync() error {
	if l.file == nil {
		return nil
	}
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("writing the event log: %w", err)
	}
	return nil
}

func (l *log) rotate() error {
	if err := l.close(); err != nil {
		return fmt.Errorf("rotating the event log: %w", err)
	}
	for n := l.files - 1; n > 0; n-- {
		if err := os.Rename(logName(l.dir, n-1), logName(l.dir, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rotating the event log: %w", err)
		}
	}
	if l.files == 1 {
		if err := os.Remove(logName(l.dir, 0)); err != nil {
			return fmt.Errorf("rotating the event log: %w", err)
		}
	}
	return l.open()
}

func (l *log) close() error {
	if l.file == nil {
		return nil
	}
	f := l.file
	l.file = nil
	return f.Close()
}
