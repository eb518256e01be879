package procfs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"time"
)

// FileID tells a file from every other and from its own earlier contents. The
// zero value stands for no file.
type FileID struct {
	Dev, Inode uint64
	Size       int64
	Modified   time.Time
}

// Bounds of a Hasher.
const (
	hashSizeMax  = 512 << 20
	hashesMax    = 1024
	hashQueueMax = 32
	hashChunk    = 256 << 10
)

// The errors a look-up of a hash ends with.
var (
	errTooLarge = errors.New("the file is larger than 512 MiB")
	errChanged  = errors.New("the file is no longer what it was")
	errBusy     = errors.New("too many files are waiting to be hashed")
	errClosed   = errors.New("the hasher is closed")
)

// Hasher computes the SHA-256 of programs, one after another in a goroutine
// of its own, each once: results are kept by [FileID], the most recent 1024.
// Files larger than 512 MiB are not hashed.
type Hasher struct {
	queue chan *hashing
	stop  context.CancelFunc
	done  chan struct{}

	mu    sync.Mutex // Guards what follows.
	known map[FileID]*hashing
	order []FileID // Oldest first.
}

// hashing is one file on its way. Its sum and err are final when ready is
// closed.
type hashing struct {
	id    FileID
	open  func() (fs.File, error)
	ready chan struct{}
	sum   string
	err   error
}

// NewHasher starts a Hasher; Close ends it.
func NewHasher() *Hasher {
	ctx, stop := context.WithCancel(context.Background())
	h := &Hasher{
		queue: make(chan *hashing, hashQueueMax),
		stop:  stop,
		done:  make(chan struct{}),
		known: make(map[FileID]*hashing),
	}
	go h.run(ctx)
	return h
}

// Close ends the work, also on a file that is half read. It is called once.
func (h *Hasher) Close() {
	h.stop()
	<-h.done
	// With the lock held, nobody is between asking whether this Hasher is
	// closed and queueing a file.
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		select {
		case w := <-h.queue:
			w.finish("", errClosed)
		default:
			return
		}
	}
}

// Sum gives the hash of the file as hexadecimal digits. If it is not known
// yet, it has the file opened and hashed, and waits for that until ctx is done
// or the time is over; then the work goes on, for the next to ask. A file that
// turns out to be another than id says is not hashed. Failures are not kept:
// the next to ask tries again. open is called at most once, from another
// goroutine.
func (h *Hasher) Sum(ctx context.Context, wait time.Duration, id FileID, open func() (fs.File, error)) (string, error) {
	w, err := h.request(id, open)
	if err != nil {
		return "", fmt.Errorf("hashing a program: %w", err)
	}
	select {
	case <-w.ready:
		return w.result()
	default: // What is known is given even if ctx is done.
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	select {
	case <-w.ready:
		return w.result()
	case <-ctx.Done():
		return "", fmt.Errorf("hashing a program: %w", context.Cause(ctx))
	}
}

func (w *hashing) result() (string, error) {
	if w.err != nil {
		return "", fmt.Errorf("hashing a program: %w", w.err)
	}
	return w.sum, nil
}

func (h *Hasher) request(id FileID, open func() (fs.File, error)) (*hashing, error) {
	if id.Size > hashSizeMax {
		return nil, errTooLarge
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if w, ok := h.known[id]; ok {
		return w, nil
	}
	select {
	case <-h.done:
		return nil, errClosed
	default:
	}
	w := &hashing{id: id, open: open, ready: make(chan struct{})}
	select {
	case h.queue <- w:
	default:
		return nil, errBusy
	}
	h.remember(w)
	return w, nil
}

// remember adds a file and forgets the oldest. The caller holds the lock.
func (h *Hasher) remember(w *hashing) {
	if len(h.order) >= hashesMax {
		delete(h.known, h.order[0])
		h.order = append(h.order[:0], h.order[1:]...)
	}
	h.known[w.id] = w
	h.order = append(h.order, w.id)
}

func (h *Hasher) forget(w *hashing) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known[w.id] != w {
		return
	}
	delete(h.known, w.id)
	if i := slices.Index(h.order, w.id); i >= 0 {
		h.order = slices.Delete(h.order, i, i+1)
	}
}

func (h *Hasher) run(ctx context.Context) {
	defer close(h.done)
	buf := make([]byte, hashChunk)
	for {
		select {
		case <-ctx.Done():
			return
		case w := <-h.queue:
			result, err := w.compute(ctx, buf)
			if err != nil {
				h.forget(w)
			}
			w.finish(result, err)
		}
	}
}

func (w *hashing) finish(sum string, err error) {
	w.sum, w.err = sum, err
	close(w.ready)
}

func (w *hashing) compute(ctx context.Context, buf []byte) (string, error) {
	f, err := w.open()
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if fileID(info) != w.id {
		return "", errChanged
	}
	return sum(ctx, f, buf)
}

// sum reads a file to its end, or to the largest size, or until ctx is done.
func sum(ctx context.Context, f io.Reader, buf []byte) (string, error) {
	hash := sha256.New()
	for total := 0; total <= hashSizeMax; {
		n, err := f.Read(buf)
		hash.Write(buf[:n])
		total += n
		switch {
		case errors.Is(err, io.EOF):
			return hex.EncodeToString(hash.Sum(nil)), nil
		case err != nil:
			return "", err
		case ctx.Err() != nil:
			return "", errClosed
		}
	}
	return "", errTooLarge
}
