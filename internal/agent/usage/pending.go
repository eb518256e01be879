package usage

import (
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

	"github.com/oklog/ulid/v2"

	"interdict/internal/agent/state"
	"interdict/internal/bundle"
)

// The bounds of what waits: the reports of a day, and their size in bytes.
const (
	maxPending = int(24 * time.Hour / interval)
	maxBytes   = 16 << 20
)

const suffix = ".json"

// pending is the reports that wait for the server.
type pending struct {
	dir string
	// ready holds a token when there may be a report.
	ready chan struct{}

	// mu guards what follows, and the directory.
	mu sync.Mutex
	// waiting are in the order of their keys, which is that of time.
	waiting []waiting
	size    int64
	// sending is the key of the report that was handed out, empty for none.
	sending string
	// lost counts the connections of reports that are gone.
	lost int
}

// waiting is one report.
type waiting struct {
	key  string
	size int64
}

// openPending takes over what an earlier process left.
func openPending(dir string) (*pending, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of reports of use: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the directory of reports of use: %w", err)
	}
	p := &pending{dir: dir, ready: make(chan struct{}, 1)}
	for _, entry := range entries {
		name, whole := strings.CutSuffix(entry.Name(), suffix)
		if _, err := ulid.ParseStrict(name); err != nil || !whole {
			// A crash left it half written.
			_ = os.Remove(filepath.Join(dir, entry.Name()))
			continue
		}
		info, err := entry.Info()
		if err != nil {
			return nil, fmt.Errorf("reading the directory of reports of use: %w", err)
		}
		p.waiting = append(p.waiting, waiting{name, info.Size()})
		p.size += info.Size()
	}
	slices.SortFunc(p.waiting, func(a, b waiting) int { return strings.Compare(a.key, b.key) })
	p.signal()
	return p, nil
}

func (p *pending) path(key string) string { return filepath.Join(p.dir, key+suffix) }

func (p *pending) signal() {
	select {
	case p.ready <- struct{}{}:
	default:
	}
}

// add writes a report, if it says anything, and removes older ones where there
// is no room. A report that cannot be written is lost and counted.
func (p *pending) add(r bundle.UsageReport) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	r.Dropped += p.lost
	if connections(r) == 0 {
		return nil
	}
	p.lost = 0
	content, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("writing a report of use: %w", err)
	}
	w := waiting{ulid.Make().String(), int64(len(content))}
	if err := state.WriteFile(p.path(w.key), content); err != nil {
		p.lost = connections(r)
		return err
	}
	p.waiting = append(p.waiting, w)
	p.size += w.size
	p.signal()
	return p.makeRoom()
}

// makeRoom drops the oldest reports, but for the one that is on its way.
func (p *pending) makeRoom() error {
	var errs []error
	for len(p.waiting) > maxPending || p.size > maxBytes {
		oldest := slices.IndexFunc(p.waiting, func(w waiting) bool { return w.key != p.sending })
		if oldest < 0 {
			break
		}
		key := p.waiting[oldest].key
		if r, err := p.read(key); err == nil {
			p.lost += connections(r)
		}
		errs = append(errs, p.remove(key))
	}
	return errors.Join(errs...)
}

func (p *pending) read(key string) (r bundle.UsageReport, err error) {
	content, err := os.ReadFile(p.path(key))
	if err == nil {
		err = json.Unmarshal(content, &r)
	}
	if err != nil {
		return r, fmt.Errorf("reading report of use %s: %w", key, err)
	}
	return r, nil
}

func (p *pending) remove(key string) error {
	i := slices.IndexFunc(p.waiting, func(w waiting) bool { return w.key == key })
	if i < 0 {
		return nil
	}
	p.size -= p.waiting[i].size
	p.waiting = slices.Delete(p.waiting, i, i+1)
	if err := os.Remove(p.path(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing a report of use: %w", err)
	}
	return nil
}

func (p *pending) next(ctx context.Context) (string, bundle.UsageReport, error) {
	for {
		key, r, err := p.oldest()
		if key != "" || err != nil {
			return key, r, err
		}
		select {
		case <-ctx.Done():
			return "", bundle.UsageReport{}, ctx.Err()
		case <-p.ready:
		}
	}
}

// oldest returns the oldest report that can be read, with an empty key when
// there is none. Others are removed: they will not get better.
func (p *pending) oldest() (string, bundle.UsageReport, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.waiting) > 0 {
		key := p.waiting[0].key
		r, err := p.read(key)
		if err == nil {
			p.sending = key
			return key, r, nil
		}
		if err := p.remove(key); err != nil {
			return "", r, err
		}
	}
	return "", bundle.UsageReport{}, nil
}

func (p *pending) done(key string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sending = ""
	return p.remove(key)
}
