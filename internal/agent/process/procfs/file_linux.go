package procfs

import (
	"io/fs"
	"syscall"
)

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
