package process

import (
	"fmt"
	"io/fs"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/agent/process/bpf"
	"interdict/internal/agent/process/procfs"
	"interdict/internal/event"
)

// tree is /proc with process 42, started 10 s after boot, whose arguments are
// at address 1000.
func tree() fstest.MapFS {
	return fstest.MapFS{
		"42/stat": {Data: []byte("42 (new) S 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1000 " +
			"0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1000 0 0 0 0\n")},
		"42/exe":     {Data: []byte("/usr/bin/new"), Mode: fs.ModeSymlink},
		"42/cmdline": {Data: []byte("new\x00program\x00")},
		"42/status":  {Data: []byte("Uid:\t7\t7\t7\t7\n")},
	}
}

func newTestImages(t *testing.T, proc fs.FS) *images {
	t.Helper()
	f, err := procfs.New(procfs.Config{Proc: proc})
	if err != nil {
		t.Fatal(err)
	}
	return newImages(f)
}

func TestImages(t *testing.T) {
	uid := uint32(7)
	user := event.User{UID: &uid}
	described := Owner{
		Process: event.Process{PID: 42, Path: "/usr/bin/new", Command: "new program"}, User: user,
	}
	unknown := Owner{Process: event.Process{PID: 42, Command: "[thread]"}, User: user}
	connect := func(since time.Duration, image uint64) bpf.Connect {
		return bpf.Connect{PID: 42, UID: 7, Since: since, Image: image, Comm: "thread"}
	}
	early := bpf.Announcement{Connect: connect(5*time.Second, 500), Path: "/usr/bin/old", Args: []byte("old\x00args\x00")}
	old := Owner{Process: event.Process{PID: 42, Path: "/usr/bin/old", Command: "old args"}, User: user}
	relative := early
	relative.Path, relative.Args = "./old", nil

	tests := []struct {
		name      string
		announced []bpf.Announcement
		connect   bpf.Connect
		want      Owner
	}{
		{"a process that was never announced is described when asked for", nil, connect(11*time.Second, 1000), described},
		{"a process that started after the connection is another", nil, connect(9*time.Second, 1000), unknown},
		{"a process that runs another program since is another", nil, connect(11*time.Second, 999), unknown},
		{"a process is described without images too", nil, connect(11*time.Second, 0), described},
		{"a process that was gone when announced is known by its own tale", []bpf.Announcement{early}, connect(5*time.Second, 500), old},
		{"a tale does not reach back before it was told", []bpf.Announcement{early}, connect(4*time.Second, 500), unknown},
		{"a relative path is not believed", []bpf.Announcement{relative}, connect(5*time.Second, 500), unknown},
		{
			"two programs of one process are kept apart",
			[]bpf.Announcement{early, {Connect: connect(11*time.Second, 1000)}},
			connect(5*time.Second, 500), old,
		},
		{
			"without images the latest program replaces the one before",
			[]bpf.Announcement{
				{Connect: connect(5*time.Second, 0), Path: "/usr/bin/old"}, {Connect: connect(11*time.Second, 0)},
			},
			connect(12*time.Second, 0), described,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			im := newTestImages(t, tree())
			for _, a := range tt.announced {
				im.announce(a)
			}
			if diff := cmp.Diff(tt.want, im.owner(tt.connect).owner); diff != "" {
				t.Errorf("owner (-want +got):\n%s", diff)
			}
		})
	}

	t.Run("a described process is known when it is gone", func(t *testing.T) {
		proc := tree()
		im := newTestImages(t, proc)
		im.announce(bpf.Announcement{Connect: connect(11*time.Second, 1000)})
		for name := range proc {
			delete(proc, name)
		}
		if diff := cmp.Diff(described, im.owner(connect(12*time.Second, 1000)).owner); diff != "" {
			t.Errorf("owner (-want +got):\n%s", diff)
		}
	})
	t.Run("a process that has lost its command line is known by its own tale", func(t *testing.T) {
		proc := tree()
		delete(proc, "42/cmdline")
		im := newTestImages(t, proc)
		im.announce(bpf.Announcement{Connect: connect(11*time.Second, 1000), Args: []byte("new\x00program\x00")})
		if diff := cmp.Diff(described, im.owner(connect(12*time.Second, 1000)).owner); diff != "" {
			t.Errorf("owner (-want +got):\n%s", diff)
		}
	})
	t.Run("the user of the connection counts", func(t *testing.T) {
		c := connect(11*time.Second, 1000)
		c.UID = 8
		if got := newTestImages(t, tree()).owner(c).owner.User; got.UID == nil || *got.UID != 8 {
			t.Errorf("got %+v, want user 8", got)
		}
	})
}

func TestImagesAreBounded(t *testing.T) {
	im := newTestImages(t, fstest.MapFS{})
	for i := range 10 * imagesMax {
		im.announce(bpf.Announcement{Connect: bpf.Connect{PID: i}, Path: fmt.Sprintf("/bin/%d", i)})
	}
	if got := im.known.len(); got != imagesMax {
		t.Errorf("%d descriptions are kept, want %d", got, imagesMax)
	}
}

func TestCacheForgetsWhatWasUsedLongestAgo(t *testing.T) {
	c := newCache[string, int](2)
	c.put("a", 1)
	c.put("b", 2)
	if v, ok := c.get("a"); !ok || v != 1 {
		t.Fatalf("get(a) = %d, %t", v, ok)
	}
	c.put("c", 3)
	c.put("c", 4)
	if _, ok := c.get("b"); ok {
		t.Error("b is still there")
	}
	if diff := cmp.Diff([]int{4, 1}, c.values()); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
}
