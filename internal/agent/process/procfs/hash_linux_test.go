package procfs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"
)

func idOf(t *testing.T, path string) FileID {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fileID(info)
}

func opener(path string) func() (fs.File, error) {
	return func() (fs.File, error) { return os.Open(path) }
}

func newHasher(t *testing.T) *Hasher {
	t.Helper()
	h := NewHasher()
	t.Cleanup(h.Close)
	return h
}

func TestHasher(t *testing.T) {
	h := newHasher(t)
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("content"), 0o755); err != nil {
		t.Fatal(err)
	}
	id := idOf(t, path)
	digest := sha256.Sum256([]byte("content"))
	want := hex.EncodeToString(digest[:])

	t.Run("hashes a file once", func(t *testing.T) {
		if got, err := h.Sum(t.Context(), time.Minute, id, opener(path)); err != nil || got != want {
			t.Fatalf("Sum = %q, %v; want %q", got, err, want)
		}
		got, err := h.Sum(t.Context(), time.Minute, id, func() (fs.File, error) { return nil, errors.New("opened twice") })
		if err != nil || got != want {
			t.Errorf("Sum again = %q, %v; want %q", got, err, want)
		}
	})
	t.Run("refuses another file than the one asked for, and forgets that", func(t *testing.T) {
		other := id
		other.Inode++
		if _, err := h.Sum(t.Context(), time.Minute, other, opener(path)); !errors.Is(err, errChanged) {
			t.Errorf("got %v, want %v", err, errChanged)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if _, ok := h.known[other]; ok || len(h.order) != 1 {
			t.Errorf("the failure is kept: %v", h.order)
		}
	})
	t.Run("refuses what is too large without opening it", func(t *testing.T) {
		if _, err := h.Sum(t.Context(), time.Minute, FileID{Inode: 1, Size: hashSizeMax + 1}, nil); !errors.Is(err, errTooLarge) {
			t.Errorf("got %v, want %v", err, errTooLarge)
		}
	})
	t.Run("stops waiting with the context, and goes on hashing", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		opened, release := make(chan struct{}), make(chan struct{})
		slow := id
		slow.Inode++
		go func() {
			<-opened
			cancel()
		}()
		_, err := h.Sum(ctx, time.Minute, slow, func() (fs.File, error) {
			close(opened)
			<-release
			return nil, errors.New("released")
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
		close(release)
	})
}

func TestHasherIsBounded(t *testing.T) {
	h := newHasher(t)
	for i := range hashesMax + 100 {
		h.mu.Lock()
		h.remember(&hashing{id: FileID{Inode: uint64(i)}})
		h.mu.Unlock()
	}
	if len(h.known) != hashesMax || len(h.order) != hashesMax {
		t.Errorf("%d and %d entries are kept, want %d", len(h.known), len(h.order), hashesMax)
	}
}

func TestHasherRefusesAfterClose(t *testing.T) {
	h := NewHasher()
	h.Close()
	if _, err := h.Sum(t.Context(), time.Minute, FileID{Inode: 1}, nil); !errors.Is(err, errClosed) {
		t.Errorf("got %v, want %v", err, errClosed)
	}
}

func TestDescribeSelf(t *testing.T) {
	f, err := New(Config{Proc: os.DirFS("/proc"), Etc: os.DirFS("/etc")})
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.Describe(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if got.Process.Path != exe || got.Process.PID != os.Getpid() || got.Process.ParentPath == "" {
		t.Errorf("got %+v, want path %q and a parent's path", got.Process, exe)
	}
	if got.User.UID == nil || *got.User.UID != uint32(os.Getuid()) {
		t.Errorf("got %+v, want user %d", got.User, os.Getuid())
	}
	if got.Image == 0 || got.Started == 0 {
		t.Errorf("image %#x, started %v: want both", got.Image, got.Started)
	}
	if want := idOf(t, exe); got.File != want {
		t.Errorf("got file %+v, want %+v", got.File, want)
	}
}

func TestFindInodeOfOwnSocket(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	f, err := New(Config{Proc: os.DirFS("/proc")})
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.FindInode(t.Context(), st.Ino, uint32(os.Getuid()))
	if err != nil || got != os.Getpid() {
		t.Errorf("FindInode = %d, %v; want %d", got, err, os.Getpid())
	}
}

func TestFindInodePrefersTheUser(t *testing.T) {
	tree := fstest.MapFS{}
	for i, uid := range []uint32{1, 2} {
		dir := fmt.Sprint(i + 10)
		tree[dir] = &fstest.MapFile{Mode: fs.ModeDir | 0o555, Sys: &syscall.Stat_t{Uid: uid}}
		tree[dir+"/fd/1"] = symlink("socket:[5]")
	}
	f, err := New(Config{Proc: tree})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := f.FindInode(t.Context(), 5, 2); err != nil || got != 11 {
		t.Errorf("FindInode for user 2 = %d, %v; want 11", got, err)
	}
	if got, err := f.FindInode(t.Context(), 5, 3); err != nil || got != 10 {
		t.Errorf("FindInode for user 3 = %d, %v; want 10", got, err)
	}
}

func BenchmarkDescribe(b *testing.B) {
	f, err := New(Config{Proc: os.DirFS("/proc"), Etc: os.DirFS("/etc")})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err = f.Describe(os.Getpid()); err != nil {
			b.Fatal(err)
		}
	}
}

func TestOpenSameTouchesNoOtherFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "program")
	if err := os.WriteFile(path, []byte("text"), 0o700); err != nil {
		t.Fatal(err)
	}
	id := idOf(t, path)
	f, err := OpenSame(path, id)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()

	for name, replace := range map[string]func() error{
		"a pipe, which would wait for a writer": func() error { return unix.Mkfifo(path, 0o600) },
		"a link to a device":                    func() error { return os.Symlink("/dev/null", path) },
		"another program":                       func() error { return os.WriteFile(path, []byte("other"), 0o700) },
		"a folder":                              func() error { return os.Mkdir(path, 0o700) },
		"nothing":                               func() error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			if err := replace(); err != nil {
				t.Fatal(err)
			}
			if f, err := OpenSame(path, id); err == nil {
				f.Close()
				t.Error("it was opened")
			}
		})
	}
}
