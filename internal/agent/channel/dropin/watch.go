package dropin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settle is how long a change has to be over before the files are read:
	// an editor makes several of one. settleMost bounds that where changes
	// do not end.
	settle     = 100 * time.Millisecond
	settleMost = 500 * time.Millisecond
	// pollEvery is how often the files are read where nobody can be told of
	// changes.
	pollEvery = time.Second
)

// Watch calls changed at once, and then whenever the files may say something
// else than before, until ctx ends. Where changes cannot be watched blind is
// called with the reason, once, and changed every second.
func (d *Directory) Watch(ctx context.Context, changed func(), blind func(error)) {
	if d.cfg.Dir == "" {
		<-ctx.Done()
		return
	}
	for said := false; ctx.Err() == nil; {
		// The watch begins before the files are read, so that no change
		// falls in between; and it is made anew each time, since a directory
		// that was replaced is another one under the same name.
		w, err := d.watcher()
		changed()
		if err != nil {
			if !said {
				said = true
				blind(err)
			}
			wait(ctx, pollEvery)
			continue
		}
		d.next(ctx, w)
		_ = w.Close()
	}
}

// watcher watches the directory and those above it, any of which may be made,
// moved or replaced.
func (d *Directory) watcher() (*fsnotify.Watcher, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watching %s: %w", d.cfg.Dir, err)
	}
	for dir := d.absolute(); ; dir = filepath.Dir(dir) {
		err := w.Add(dir)
		// Without the right to a directory above, those below still tell.
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			_ = w.Close()
			return nil, fmt.Errorf("watching %s: %w", dir, err)
		}
		if dir == filepath.Dir(dir) {
			return w, nil
		}
	}
}

func (d *Directory) absolute() string {
	dir, err := filepath.Abs(d.cfg.Dir)
	if err != nil {
		return d.cfg.Dir
	}
	return dir
}

// next returns when something about the files has changed and settled, or ctx
// has ended.
func (d *Directory) next(ctx context.Context, w *fsnotify.Watcher) {
	if !d.await(ctx, w, nil) {
		return
	}
	most := time.NewTimer(settleMost)
	defer most.Stop()
	for {
		quiet := time.NewTimer(settle)
		more := d.await(ctx, w, quiet.C)
		quiet.Stop()
		if !more {
			return
		}
		select {
		case <-most.C:
			return
		default:
		}
	}
}

// await waits for a change that matters, and reports false when ctx ended or
// a time came first.
func (d *Directory) await(ctx context.Context, w *fsnotify.Watcher, until <-chan time.Time) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-until:
			return false
		case e := <-w.Events:
			if d.concerns(e) {
				return true
			}
		case <-w.Errors: //nolint:errcheck // whatever it is, it means this:
			// Changes were lost: there may have been one of ours.
			return true
		}
	}
}

// concerns reports whether an event is about a file of the directory, the
// directory, or one above it.
func (d *Directory) concerns(e fsnotify.Event) bool {
	dir, name := d.absolute(), filepath.Clean(e.Name)
	if filepath.Dir(name) == dir {
		return isPolicy(filepath.Base(name))
	}
	return dir == name || strings.HasPrefix(dir, name+string(filepath.Separator))
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
