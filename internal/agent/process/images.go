package process

import (
	"strings"
	"time"

	"interdict/internal/agent/process/bpf"
	"interdict/internal/agent/process/procfs"
	"interdict/internal/event"
)

// imagesMax bounds the descriptions that are kept. One has some hundred bytes
// and at most 12 KiB.
const imagesMax = 512

// images describes the programs that the kernel has seen connecting. It keeps
// the descriptions, since a process may be gone when it is asked for.
type images struct {
	proc  *procfs.FS
	known *cache[imageKey, image]
}

// imageKey tells a program from others that the same process runs. Where the
// kernel does not tell them apart, image is zero for all.
type imageKey struct {
	pid   int
	image uint64
}

type image struct {
	procfs.Description
	// since is when the process was first known to run, counted from the
	// machine's boot: what connected earlier was another with its number.
	since time.Duration
}

func newImages(proc *procfs.FS) *images {
	return &images{proc: proc, known: newCache[imageKey, image](imagesMax)}
}

// announce describes a process that has just connected, from its own tale if
// it is gone.
func (im *images) announce(a bpf.Announcement) {
	// Without an image, execve(2) and a process with the same number go
	// unnoticed in what is known.
	if _, ok := im.find(a.Connect); ok && a.Image != 0 {
		return
	}
	command := procfs.Command(a.Args)
	if command == "" {
		command = commOnly(a.Connect)
	}
	if _, ok := im.describe(a.Connect, command); ok {
		return
	}
	path := procfs.Path(a.Path)
	if !strings.HasPrefix(path, "/") {
		path = "" // Relative to a directory that is not known any more.
	}
	im.known.put(keyOf(a.Connect), image{
		Description: procfs.Description{
			Process: event.Process{PID: a.PID, Path: path, Command: command},
			User:    im.proc.User(a.UID),
		},
		since: a.Since,
	})
}

// owner names who connected: as described, or with what the record itself
// says.
func (im *images) owner(c bpf.Connect) found {
	d, ok := im.find(c)
	if !ok {
		d, ok = im.describe(c, commOnly(c))
	}
	if !ok {
		return found{owner: Owner{
			Process: event.Process{PID: c.PID, Command: commOnly(c)},
			User:    im.proc.User(c.UID),
		}}
	}
	o := Owner{Process: d.Process, User: d.User}
	if o.User.UID == nil || *o.User.UID != c.UID {
		// The user at the time of the connection counts.
		o.User = im.proc.User(c.UID)
	}
	return found{owner: o, file: d.File}
}

func (im *images) find(c bpf.Connect) (procfs.Description, bool) {
	known, ok := im.known.get(keyOf(c))
	if !ok || known.since > c.Since {
		return procfs.Description{}, false
	}
	return known.Description, true
}

// describe looks at the process, if it still is the one that connected and
// runs the same program. A process that is ending loses its command line
// first; then command stands in for it.
func (im *images) describe(c bpf.Connect, command string) (procfs.Description, bool) {
	d, err := im.proc.Describe(c.PID)
	if err != nil || d.Started > c.Since {
		return procfs.Description{}, false
	}
	if c.Image != 0 && d.Image != 0 && c.Image != d.Image {
		return procfs.Description{}, false
	}
	if d.Process.Path == "" {
		return procfs.Description{}, false // It has ended but for its number.
	}
	if d.Process.Command == "" {
		d.Process.Command = command
	}
	im.known.put(keyOf(c), image{Description: d, since: d.Started})
	return d, true
}

func keyOf(c bpf.Connect) imageKey { return imageKey{c.PID, c.Image} }

// commOnly is the command of a process of which nothing but a thread's name
// is known, in brackets as ps(1) does.
func commOnly(c bpf.Connect) string { return procfs.Command([]byte("[" + c.Comm + "]")) }
