package procfs

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/event"
)

func file(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s), Mode: 0o444} }

func symlink(to string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(to), Mode: fs.ModeSymlink | 0o777}
}

// statLine is a line as Linux 6 writes it, for a process whose parent is 7.
func statLine(comm string) string {
	return "42 (" + comm + ") S 7 42 42 0 -1 4194304 100 0 0 0 0 0 0 0 20 0 1 0 98765 " +
		"5000000 500 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 1 1 1 140720000000000 1 1 1 0\n"
}

var containerID = strings.Repeat("0123456789abcdef", 4)

func newFS(t *testing.T, proc fstest.MapFS) *FS {
	t.Helper()
	f, err := New(Config{Proc: proc, Etc: fstest.MapFS{"passwd": file("root:x:0:0::/:/bin/sh\nada:x:1000:1000::/:/bin/sh\n")}})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestDescribe(t *testing.T) {
	uid, unnamed := uint32(1000), uint32(4242)
	tests := []struct {
		name string
		tree fstest.MapFS
		want Description
	}{
		{
			"a program on the host",
			fstest.MapFS{
				"42/stat":    file(statLine("curl")),
				"42/exe":     symlink("/usr/bin/curl"),
				"42/cmdline": file("curl\x00-s\x00https://init.itunes.apple.com/\x00"),
				"42/status":  file("Name:\tcurl\nUid:\t1000\t0\t0\t0\n"),
				"42/cgroup":  file("0::/user.slice/user-1000.slice/session-1.scope\n"),
				"7/exe":      symlink("/usr/bin/bash"),
			},
			Description{
				Process: event.Process{
					PID: 42, Path: "/usr/bin/curl", Command: "curl -s https://init.itunes.apple.com/", ParentPath: "/usr/bin/bash",
				},
				User:    event.User{Name: "ada", UID: &uid},
				Started: 987650 * time.Millisecond,
				Image:   140720000000000,
			},
		},
		{
			"a deleted program of an unnamed user in a container",
			fstest.MapFS{
				"42/stat":    file(statLine("a) (b")),
				"42/exe":     symlink("/opt/app (deleted)"),
				"42/cmdline": file("app\nwith\x1b[31m\x00\xff\x00"),
				"42/status":  file("Uid:\t4242\t4242\t4242\t4242\n"),
				"42/cgroup":  file("0::/system.slice/docker-" + containerID + ".scope\n"),
			},
			Description{
				Process: event.Process{
					PID: 42, Path: "/opt/app", Command: "app\ufffdwith\ufffd[31m \ufffd", Container: containerID,
				},
				User:    event.User{UID: &unnamed},
				Started: 987650 * time.Millisecond,
				Image:   140720000000000,
			},
		},
		{
			"a thread of the kernel, of which only stat can be read",
			fstest.MapFS{"42/stat": file(statLine("kworker/0:1")), "42/cmdline": file("")},
			Description{
				Process: event.Process{PID: 42, Command: "[kworker/0:1]"},
				Started: 987650 * time.Millisecond,
				Image:   140720000000000,
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := newFS(t, tt.tree).Describe(42)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Describe(42) (-want +got):\n%s", diff)
			}
		})
	}

	t.Run("no such process", func(t *testing.T) {
		if _, err := newFS(t, fstest.MapFS{}).Describe(42); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want an error that wraps fs.ErrNotExist", err)
		}
	})
	t.Run("stat is cut short", func(t *testing.T) {
		if got, err := newFS(t, fstest.MapFS{"42/stat": file("42 (x) S 7")}).Describe(42); err == nil {
			t.Errorf("got %+v, want an error", got)
		}
	})
}

// execTree is a /proc in which process 42 starts another program after its
// stat was read for the first time.
type execTree struct {
	fstest.MapFS
	read bool
}

func (e *execTree) Open(name string) (fs.File, error) {
	f, err := e.MapFS.Open(name)
	if name == "42/stat" && !e.read {
		e.read = true
		e.MapFS = fstest.MapFS{
			"42/stat":    file(strings.Replace(statLine("new"), "140720000000000", "140730000000000", 1)),
			"42/exe":     symlink("/usr/bin/new"),
			"42/cmdline": file("new\x00"),
		}
	}
	return f, err
}

func TestDescribeKeepsProgramsApart(t *testing.T) {
	f, err := New(Config{Proc: &execTree{MapFS: fstest.MapFS{"42/stat": file(statLine("old"))}}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.Describe(42)
	if err != nil || got.Process.Path != "/usr/bin/new" || got.Image != 140730000000000 {
		t.Errorf("got %+v, %v; want the new program with its own image", got, err)
	}
}

func TestNewRefusesATreeWithoutLinks(t *testing.T) {
	for _, proc := range []fs.FS{nil, struct{ fs.FS }{fstest.MapFS{}}} {
		if _, err := New(Config{Proc: proc}); err == nil {
			t.Errorf("New accepted %#v", proc)
		}
	}
}

func TestCommandIsBounded(t *testing.T) {
	for _, long := range []string{strings.Repeat("a\x00", 10000), strings.Repeat("\n", 10000), strings.Repeat("\u20ac", 4000)} {
		got := Command([]byte(long))
		if len(got) > commandMax || len(got) < commandMax-3 {
			t.Errorf("Command of %d bytes of %q... has %d bytes, want nearly %d", len(long), long[:6], len(got), commandMax)
		}
	}
}

func TestContainer(t *testing.T) {
	id := containerID
	inner := strings.Repeat("f", 64)
	tests := []struct{ name, cgroup, want string }{
		{"host, version 2", "0::/init.scope\n", ""},
		{"host, version 1", "12:pids:/user.slice\n1:name=systemd:/user.slice/user-0.slice\n0::/\n", ""},
		{"Docker with cgroupfs, version 1", "12:pids:/docker/" + id + "\n0::/docker/" + id + "\n", id},
		{"Docker with systemd, version 2", "0::/system.slice/docker-" + id + ".scope\n", id},
		{"Docker in Docker names the inner one", "0::/docker/" + id + "/docker/" + inner + "\n", inner},
		{"Docker, a service inside", "0::/docker/" + id + "/system.slice/sshd.service\n", id},
		{"Podman", "0::/machine.slice/libpod-" + id + ".scope/container\n", id},
		{"Podman without root", "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id + ".scope\n", id},
		{"Podman's monitor is on the host", "0::/machine.slice/libpod-conmon-" + id + ".scope\n", ""},
		{"containerd for Kubernetes, systemd", "0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-" + id + ".scope\n", id},
		{"containerd for Kubernetes, cgroupfs", "4:memory:/kubepods/besteffort/pod12-34/" + id + "\n", id},
		{"containerd for Kubernetes, a colon", "4:memory:/system.slice/containerd.service/kubepods-besteffort-pod1.slice:cri-containerd:" + id + "\n", id},
		{"CRI-O", "0::/kubepods.slice/crio-" + id + ".scope\n", id},
		{"CRI-O's monitor is on the host", "0::/kubepods.slice/crio-conmon-" + id + ".scope\n", ""},
		{"systemd-nspawn", "0::/machine.slice/systemd-nspawn@web\\x2d1.service/payload\n", "web-1"},
		{"systemd-machined", "0::/machine.slice/machine-debian.scope/payload\n", "debian"},
		{"a virtual machine's monitor is on the host", "0::/machine.slice/machine-qemu\\x2d1\\x2dvm.scope\n", ""},
		{"LXC 4", "0::/lxc.payload.web/init.scope\n", "web"},
		{"LXC before 4", "3:cpu:/lxc/web/user.slice\n", "web"},
		{"LXC's monitor is on the host", "0::/lxc.monitor.web\n", ""},
		{"64 digits behind something else", "0::/x" + id + "\n", ""},
		{"garbage", "garbage\n:::\n\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := parseContainer([]byte(tt.cgroup)); got != tt.want {
				t.Errorf("parseContainer(%q) = %q, want %q", tt.cgroup, got, tt.want)
			}
		})
	}
}

func TestUserNamesFollowTheFile(t *testing.T) {
	etc := fstest.MapFS{"passwd": file("# a comment\nbad\nx:y:z:w\nroot:x:0:0::/:/bin/sh\ntoor:x:0:0::/:/bin/sh\n")}
	f, err := New(Config{Proc: fstest.MapFS{}, Etc: etc})
	if err != nil {
		t.Fatal(err)
	}
	if got := f.User(0).Name; got != "root" {
		t.Errorf("user 0 is %q, want the first name, root", got)
	}
	etc["passwd"] = &fstest.MapFile{Data: []byte("admin:x:0:0::/:/bin/sh\n"), ModTime: time.Unix(1, 0)}
	if got := f.User(0).Name; got != "admin" {
		t.Errorf("user 0 is %q after a change, want admin", got)
	}
	delete(etc, "passwd")
	if got := f.User(0).Name; got != "admin" {
		t.Errorf("user 0 is %q while the file is away, want admin", got)
	}
}

func TestFindInode(t *testing.T) {
	f := newFS(t, fstest.MapFS{
		"self/fd/3": symlink("socket:[99]"),
		"1/fd/0":    symlink("/dev/null"),
		"5/fd/0":    symlink("socket:[77]"),
		"5/fd/12":   symlink("socket:[99]"),
	})
	if pid, err := f.FindInode(t.Context(), 99, 1000); err != nil || pid != 5 {
		t.Errorf("FindInode(99) = %d, %v; want 5", pid, err)
	}
	if _, err := f.FindInode(t.Context(), 9, 1000); !errors.Is(err, ErrNoProcess) {
		t.Errorf("FindInode(9): %v, want ErrNoProcess", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.FindInode(ctx, 99, 1000); !errors.Is(err, context.Canceled) {
		t.Errorf("FindInode with a cancelled context: %v", err)
	}
}

// FuzzParsers feeds every parser; none may panic or return what an event
// refuses.
func FuzzParsers(f *testing.F) {
	f.Add([]byte(statLine("a (b) c")))
	f.Add([]byte("Name:\tx\nUid:\t1\t2\t3\t4\n"))
	f.Add([]byte("0::/system.slice/docker-" + containerID + ".scope\n1:a:/machine.slice/systemd-nspawn@a\\x2.service"))
	f.Add([]byte("root:x:0:0::/:/bin/sh\n"))
	f.Add([]byte("curl\x00\x00--x\xff\x00\u2028\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if st, err := parseStat(b); err == nil && (st.started < 0 || st.parent < 0) {
			t.Errorf("parseStat(%q) = %+v", b, st)
		}
		parseUID(b)
		for _, s := range []string{parseContainer(b), Command(b), Path(string(b))} {
			if len(s) > commandMax || strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
				t.Errorf("%q is not fit for an event", s)
			}
		}
		if n := len(parsePasswd(b)); n > usersMax {
			t.Errorf("parsePasswd kept %d names", n)
		}
	})
}
