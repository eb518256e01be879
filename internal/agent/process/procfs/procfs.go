// Package procfs decides what a process is, from what the kernel tells about
// it under /proc: the program it runs, its command line, its parent, its
// user, its container, and which sockets it has open.
//
// The layout is that of proc(5). The tree is passed in as a file system, so
// that nothing here needs a real process or Linux to be tested; only the
// identity of a file, which hashes are cached by, is the platform's.
package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"interdict/internal/event"
)

// Limits on what is read of one process, in bytes.
const (
	commandMax = 4 << 10
	argsMax    = 5 << 10
	pathMax    = 4 << 10
	fileMax    = 64 << 10
)

// Config says where to read.
type Config struct {
	// Proc is the tree of /proc; it must implement [fs.ReadLinkFS], as
	// os.DirFS does. Required.
	Proc fs.FS
	// Etc is the tree of /etc, for the names of users in its file passwd.
	// Nil leaves users without names.
	Etc fs.FS
}

// FS reads what processes are. It is safe for concurrent use.
type FS struct {
	proc  fs.FS
	users *users
}

// New makes an FS. It reads nothing yet.
func New(cfg Config) (*FS, error) {
	if cfg.Proc == nil {
		return nil, errors.New("reading processes: Proc is missing")
	}
	if _, ok := cfg.Proc.(fs.ReadLinkFS); !ok {
		return nil, errors.New("reading processes: Proc cannot read links")
	}
	return &FS{proc: cfg.Proc, users: &users{etc: cfg.Etc}}, nil
}

// Description is what a process was when it was looked at.
type Description struct {
	Process event.Process
	User    event.User
	// Started is when the process was forked, counted from the machine's
	// boot, in steps of 10 ms, rounded down. With the process id it tells a
	// process from an earlier one.
	Started time.Duration
	// Image tells the programs apart that one process runs one after
	// another: it is the address of the arguments, which execve(2) makes
	// random. Zero if the reader may not see it.
	Image uint64
	// File is the program's file, zero where it could not be read.
	File FileID
}

// Describe tells what a process is. Process and User have no control
// characters and are cut to 4 KiB a field; what cannot be read stays empty.
//
// Path is without the mark " (deleted)" that the kernel adds to the name of
// a program whose file is gone, and as the process itself sees it, which in a
// container is not the host's path. Command is as the function of that name
// makes it; a thread of the kernel, which has no path either, has its name in
// brackets instead. The user is the real one, who started the process. SHA256
// is empty: see [Hasher].
//
// The error wraps [fs.ErrNotExist] when there is no such process.
func (f *FS) Describe(pid int) (Description, error) {
	st, err := f.stat(pid)
	if err != nil {
		return Description{}, fmt.Errorf("describing process %d: %w", pid, err)
	}
	d := f.describe(pid, st)
	// A process can start another program while it is looked at: then what
	// was seen is of both. One that is ending has no image any more; then
	// what was seen is better than what could be.
	if now, err := f.stat(pid); err == nil && now.image != 0 && now.image != st.image {
		d = f.describe(pid, now)
	}
	return d, nil
}

func (f *FS) stat(pid int) (stat, error) {
	b, err := f.read(strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	return parseStat(b)
}

func (f *FS) describe(pid int, st stat) Description {
	dir := strconv.Itoa(pid)
	d := Description{Started: st.started, Image: st.image}
	d.Process = event.Process{
		PID:        pid,
		Path:       f.exe(dir),
		Command:    f.command(dir),
		ParentPath: f.exe(strconv.Itoa(st.parent)),
	}
	if d.Process.Path == "" && d.Process.Command == "" {
		d.Process.Command = clean("["+st.comm+"]", commandMax)
	}
	if b, err := f.read(dir + "/cgroup"); err == nil {
		d.Process.Container = parseContainer(b)
	}
	if b, err := f.read(dir + "/status"); err == nil {
		if uid, ok := parseUID(b); ok {
			d.User = f.User(uid)
		}
	}
	if info, err := fs.Stat(f.proc, dir+"/exe"); err == nil {
		d.File = fileID(info)
	}
	return d
}

// User is the user with this id, with its name if the file passwd has it.
// Users of directory services have none there.
func (f *FS) User(uid uint32) event.User {
	return event.User{UID: &uid, Name: f.users.name(uid)}
}

// OpenExe opens the program a process runs, also when its file was deleted.
func (f *FS) OpenExe(pid int) (fs.File, error) {
	file, err := f.proc.Open(strconv.Itoa(pid) + "/exe")
	if err != nil {
		return nil, fmt.Errorf("opening the program of process %d: %w", pid, err)
	}
	return file, nil
}

func (f *FS) exe(dir string) string {
	target, err := fs.ReadLink(f.proc, dir+"/exe")
	if err != nil {
		return "" // A thread of the kernel, or gone, or not ours to see.
	}
	return Path(target)
}

func (f *FS) command(dir string) string {
	b, err := f.read(dir + "/cmdline")
	if err != nil {
		return ""
	}
	return Command(b)
}

// read reads a small file whole, a large one in part.
func (f *FS) read(name string) ([]byte, error) {
	file, err := f.proc.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, fileMax))
}

// Path makes the target of a process's exe link, or a path a program was
// started by, fit for an event.
func Path(target string) string {
	return clean(strings.TrimSuffix(target, " (deleted)"), pathMax)
}

// Command makes a command line out of arguments that are each ended by a zero
// byte: joined with spaces, control characters replaced, cut to 4 KiB. What
// looks secret is replaced by [redacted].
func Command(args []byte) string {
	// Cut afterwards: half a secret could not be told from a word.
	whole := redact(string(bytes.TrimRight(args[:min(len(args), argsMax)], "\x00")))
	return clean(strings.ReplaceAll(whole, "\x00", " "), commandMax)
}

// clean replaces what could disturb a reader of the text (control characters
// of ASCII and Unicode, line separators, bytes that are not UTF-8) and cuts it
// between two characters to at most limit bytes.
func clean(s string, limit int) string {
	s = strings.ToValidUTF8(s[:min(len(s), limit)], "\ufffd")
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return '\ufffd'
		}
		return r
	}, s)
	// Replacements are up to three times as long as what they replace.
	for len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return s
}
