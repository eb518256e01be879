//go:build !linux

package procfs

import (
	"errors"
	"io/fs"
)

// OpenSame fails: files have no identity here.
func OpenSame(string, FileID) (fs.File, error) {
	return nil, errors.ErrUnsupported
}

func fileID(fs.FileInfo) FileID { return FileID{} }

func fileOwner(fs.FileInfo) (uint32, bool) { return 0, false }
