package session_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/agent/notify/desktoptest"
	"interdict/internal/agent/notify/session"
	"interdict/internal/agent/wording"
)

func file(content string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(content)} }

// socket makes what looks like the bus in a directory.
func socket(t *testing.T, dir string) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "bus"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestTheSessionOfAUserIsFound(t *testing.T) {
	const anna, ben, carla, dora = 61001, 61002, 61003, 61004
	annas, bens := socket(t, t.TempDir()), socket(t, t.TempDir())
	bus := desktoptest.Logind(
		t, t.TempDir(),
		desktoptest.Session{ID: "c1", UID: anna, Name: "anna", RuntimePath: annas, Type: "tty", Class: "user", Active: true, Leader: 10},
		desktoptest.Session{ID: "c2", UID: anna, Name: "anna", RuntimePath: annas, Type: "x11", Class: "user", Leader: 20},
		desktoptest.Session{ID: "c3", UID: anna, Name: "anna", RuntimePath: annas, Type: "wayland", Class: "user", Active: true, Leader: 30},
		desktoptest.Session{ID: "c4", UID: anna, Name: "anna", RuntimePath: annas, Type: "x11", Class: "user", Leader: 40},
		desktoptest.Session{ID: "c5", UID: ben, Name: "ben", RuntimePath: bens, Type: "x11", Class: "user", Leader: 50},
		desktoptest.Session{ID: "c6", UID: carla, Name: "carla", RuntimePath: t.TempDir(), Type: "wayland", Class: "user", Active: true, Leader: 60},
		desktoptest.Session{ID: "c7", UID: dora, Name: "dora", RuntimePath: t.TempDir(), Type: "wayland", Class: "user", Active: true, Leader: 70},
		desktoptest.Session{ID: "c8", UID: 111, Name: "gdm", RuntimePath: annas, Type: "wayland", Class: "greeter", Active: true, Leader: 80},
		desktoptest.Session{ID: "c9", UID: 112, Name: "tom", RuntimePath: annas, Type: "tty", Class: "user", Active: true, Leader: 90},
	)
	finder := session.New(session.Config{
		SystemBus: bus,
		Proc: fstest.MapFS{
			"20/environ": file("LANG=en_US.UTF-8\x00"),
			"30/environ": file("HOME=/home/anna\x00LANG=de_DE.UTF-8\x00WAYLAND_DISPLAY=wayland-0\x00SECRET=1\x00LD_PRELOAD=x\x00"),
			"60/environ": file("DBUS_SESSION_BUS_ADDRESS=unix:abstract=/tmp/dbus-1\x00LANGUAGE=de\x00LANG=en_US.UTF-8"),
		},
		Etc: fstest.MapFS{"locale.conf": file("# systemd's\nLANG=\"de_AT.UTF-8\"\n")},
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()

	got, err := finder.Find(ctx, anna)
	if err != nil {
		t.Fatal(err)
	}
	want := session.Session{
		UID: anna, GID: anna, Groups: []uint32{anna}, Name: "anna", Home: "/home/anna", RuntimePath: annas,
		Bus: "unix:path=" + filepath.Join(annas, "bus"), Language: wording.German, Display: []string{"WAYLAND_DISPLAY=wayland-0"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("of two graphical sessions (-want +got):\n%s", diff)
	}
	if got, err = finder.Find(ctx, ben); err != nil || got.Language != wording.German {
		t.Errorf("without an environment the machine's language counts: got %q, %v", got.Language, err)
	}
	if got, err = finder.Find(ctx, carla); err != nil || got.Bus != "unix:abstract=/tmp/dbus-1" || got.Language != wording.German {
		t.Errorf("without a socket the leader's address counts: got %+v, %v", got, err)
	}
	for uid, who := range map[uint32]string{dora: "without a bus", 111: "of a greeter", 112: "on a terminal", 999: "who is not there"} {
		if got, err := finder.Find(ctx, uid); !errors.Is(err, session.ErrNone) {
			t.Errorf("a user %s: got %+v, %v", who, got, err)
		}
	}
}

func TestWithoutLogindThereIsNoSession(t *testing.T) {
	empty := desktoptest.Bus(t, uint32(os.Geteuid()), t.TempDir())
	for name, bus := range map[string]string{"no bus": "unix:path=" + filepath.Join(t.TempDir(), "none"), "a bus without logind": empty} {
		finder := session.New(session.Config{SystemBus: bus, Proc: fstest.MapFS{}, Etc: fstest.MapFS{}})
		if _, err := finder.Find(t.Context(), 61001); !errors.Is(err, session.ErrNone) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
