package dropin

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// watched runs a watch and returns a channel with a token for each call of
// changed.
func watched(t *testing.T, dir string) <-chan time.Time {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	calls, ended := make(chan time.Time, 100), make(chan struct{})
	go func() {
		defer close(ended)
		New(Config{Dir: dir, Kept: t.TempDir(), Protected: protected}).Watch(ctx, func() { calls <- time.Now() }, func(err error) { t.Errorf("blind: %v", err) })
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	expect(t, calls, "the first reading")
	return calls
}

func expect(t *testing.T, calls <-chan time.Time, what string) {
	t.Helper()
	select {
	case <-calls:
	case <-time.After(10 * time.Second):
		t.Fatalf("never noticed: %s", what)
	}
}

func TestEveryWayOfChangingFilesIsNoticed(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "etc", "interdict", "policy.d")
	path := filepath.Join(dir, "a.yaml")
	calls := watched(t, dir)
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"the directory appears, with those above it", func() error { return os.MkdirAll(dir, 0o755) }},
		{"a file is written", func() error { return os.WriteFile(path, []byte(blocking), 0o600) }},
		{"a file is written over", func() error { return os.WriteFile(path, []byte(auditing), 0o600) }},
		{"a file is replaced", func() error {
			if err := os.WriteFile(path+".new", []byte(blocking), 0o600); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		}},
		{"its mode is changed", func() error { return os.Chmod(path, 0o640) }},
		{"the directory is replaced", func() error {
			if err := os.Rename(dir, dir+".old"); err != nil {
				return err
			}
			return os.Rename(dir+".old", dir)
		}},
		{"a file is written in the new directory", func() error { return os.WriteFile(path, []byte(auditing), 0o600) }},
		{"a directory above is moved away", func() error { return os.Rename(filepath.Join(root, "etc"), filepath.Join(root, "etc.old")) }},
		{"and back", func() error { return os.Rename(filepath.Join(root, "etc.old"), filepath.Join(root, "etc")) }},
		{"a file is deleted", func() error { return os.Remove(path) }},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		expect(t, calls, step.name)
	}
}

func TestManyChangesAreFew(t *testing.T) {
	dir := t.TempDir()
	calls := watched(t, dir)
	const changes = 100
	for range changes {
		if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(blocking), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, calls, "the changes")
	read := 1
	for quiet := time.After(5 * settle); ; read++ {
		select {
		case <-calls:
			continue
		case <-quiet:
		}
		break
	}
	// A busy machine may take its time between two of them.
	if read > changes/10 {
		t.Errorf("%d changes were %d readings", changes, read)
	}
}

func TestOtherFilesAreNoReason(t *testing.T) {
	dir := t.TempDir()
	calls := watched(t, dir)
	for _, name := range []string{"a.yaml.swp", ".a.yaml", "notes"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-calls:
		t.Error("files that are not looked at were a reason to read the others")
	case <-time.After(3 * settle):
	}
}
