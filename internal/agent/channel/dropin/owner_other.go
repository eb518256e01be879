//go:build !linux

package dropin

import "io/fs"

// ownerOf does not know: the rights of the directory have to do.
func ownerOf(fs.FileInfo) (uid int, known bool) { return 0, false }
