//go:build !linux

package procfs

import "io/fs"

func fileID(fs.FileInfo) FileID { return FileID{} }

func fileOwner(fs.FileInfo) (uint32, bool) { return 0, false }
