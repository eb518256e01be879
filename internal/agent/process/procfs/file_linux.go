package procfs

import (
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// OpenSame opens the file at path if it is the one with this identity, and
// touches no other: where a program was, whoever owns the folder may have put
// a pipe, whose opening waits for a writer, or a link to a device, whose
// opening has effects. So the path only leads to the file (O_PATH in open(2)),
// which is looked at before it is opened.
func OpenSame(path string, id FileID) (fs.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("finding the program %q: %w", path, err)
	}
	place := os.NewFile(uintptr(fd), path)
	defer place.Close()
	info, err := place.Stat()
	if err != nil {
		return nil, fmt.Errorf("looking at the program %q: %w", path, err)
	}
	if !info.Mode().IsRegular() || fileID(info) != id {
		return nil, fmt.Errorf("opening the program %q: %w", path, errChanged)
	}
	return os.Open("/proc/self/fd/" + strconv.Itoa(fd))
}

// fileID is the identity of a file, zero if the file system does not tell.
func fileID(info fs.FileInfo) FileID {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return FileID{}
	}
	return FileID{Dev: st.Dev, Inode: st.Ino, Size: info.Size(), Modified: info.ModTime()}
}

// fileOwner is the user a file belongs to.
func fileOwner(info fs.FileInfo) (uint32, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return st.Uid, true
}
