package state_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"interdict/internal/agent/state"
)

func TestADirectoryThatOthersMayReadIsClosedToThem(t *testing.T) {
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := state.Open(root); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(root); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("got mode %v (%v), want 0700", info.Mode().Perm(), err)
	}
}

func TestAFileHasItsOldContentOrItsNew(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := state.WriteFile(path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	// What a crash left behind is no obstacle.
	if err := os.WriteFile(path+".new", []byte("half of something much longer"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := state.WriteFile(path, []byte("new")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); string(got) != "new" {
		t.Errorf("got %q (%v), want the new content", got, err)
	}
	// A write that fails leaves the file alone.
	if err := os.Mkdir(path+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := state.WriteFile(path, []byte("newer")); err == nil {
		t.Error("got no error")
	}
	if got, err := os.ReadFile(path); string(got) != "new" {
		t.Errorf("after a failed write got %q (%v)", got, err)
	}
}

func TestWithoutAnIdentityAMachineIsNotEnrolled(t *testing.T) {
	dir := state.At(filepath.Join(t.TempDir(), "missing"))
	if err := dir.Enrolled(); !errors.Is(err, state.ErrNotEnrolled) {
		t.Errorf("got %v, want ErrNotEnrolled", err)
	}
	if _, err := dir.Identity(); !errors.Is(err, state.ErrNotEnrolled) {
		t.Errorf("got %v, want ErrNotEnrolled", err)
	}
	if _, err := dir.Bundle(state.Identity{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that there is no bundle", err)
	}
}

func TestDamagedIdentitiesAreErrors(t *testing.T) {
	for name, content := range map[string]string{
		"no JSON":              "{",
		"a short key":          `{"device_id":"d","server_url":"https://x","bundle_key":"AAAA"}`,
		"no certificate files": `{"device_id":"d","server_url":"https://x","bundle_key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := state.Open(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(dir.Path("identity.json"), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := dir.Identity(); err == nil || errors.Is(err, state.ErrNotEnrolled) {
				t.Errorf("got %v, want an error that says what is damaged", err)
			}
		})
	}
}

func FuzzBundleOnDisk(f *testing.F) {
	f.Add([]byte(`{"header":"e30=","signature":"","body":""}`))
	f.Add([]byte("{"))
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	id := state.Identity{BundleKey: public}
	f.Fuzz(func(t *testing.T, content []byte) {
		dir, err := state.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir.Path("bundle.json"), content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := dir.Bundle(id); !errors.Is(err, state.ErrDamaged) {
			t.Errorf("got %v for a bundle that nobody signed, want ErrDamaged", err)
		}
		if _, err := dir.Bundle(id); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v the second time, want it set aside", err)
		}
	})
}
