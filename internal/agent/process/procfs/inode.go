package procfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
)

// linksMax bounds one search: more open files than this are not looked at.
const linksMax = 1 << 20

// ErrNoProcess says that no process has a socket open.
var ErrNoProcess = errors.New("no process has this socket open")

// FindInode finds a process that has the socket with this inode open, by
// looking at every open file of every process: slow, some 20 to 80 ms on a
// busy machine. Processes of the user given are searched first, so that the
// usual case costs less. Of several processes that share the socket it
// returns any. The error wraps [ErrNoProcess] or the context's.
func (f *FS) FindInode(ctx context.Context, inode uint64, uid uint32) (int, error) {
	first, rest, err := f.processes(uid)
	if err != nil {
		return 0, fmt.Errorf("searching socket %d: %w", inode, err)
	}
	want := "socket:[" + strconv.FormatUint(inode, 10) + "]"
	links := linksMax
	for _, dir := range append(first, rest...) {
		if err = context.Cause(ctx); err != nil {
			return 0, fmt.Errorf("searching socket %d: %w", inode, err)
		}
		if f.hasOpen(dir, want, &links) {
			return strconv.Atoi(dir)
		}
		if links <= 0 {
			break
		}
	}
	return 0, fmt.Errorf("searching socket %d: %w", inode, ErrNoProcess)
}

// processes lists the directories of processes: those of the user and the
// others.
func (f *FS) processes(uid uint32) (own, others []string, err error) {
	entries, err := fs.ReadDir(f.proc, ".")
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if _, err := strconv.ParseUint(e.Name(), 10, 31); err != nil {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // It has ended.
		}
		if owner, ok := fileOwner(info); ok && owner == uid {
			own = append(own, e.Name())
		} else {
			others = append(others, e.Name())
		}
	}
	return own, others, nil
}

// hasOpen tells whether one of a process's descriptors links to target, and
// counts down the links it reads.
func (f *FS) hasOpen(dir, target string, links *int) bool {
	dir += "/fd"
	entries, err := fs.ReadDir(f.proc, dir)
	if err != nil {
		return false // It has ended or is not ours to see.
	}
	for _, e := range entries {
		*links--
		if got, err := fs.ReadLink(f.proc, dir+"/"+e.Name()); err == nil && got == target {
			return true
		}
	}
	return false
}
