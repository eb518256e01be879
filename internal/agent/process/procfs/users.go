package procfs

import (
	"io"
	"io/fs"
	"sync"
	"time"
)

// users knows the names in the file passwd and reads it again when it has
// changed. The file is looked at on every question: that costs less than
// being wrong.
type users struct {
	etc fs.FS

	mu       sync.Mutex // Guards what follows.
	modified time.Time
	size     int64
	names    map[uint32]string
}

func (u *users) name(uid uint32) string {
	if u.etc == nil {
		return ""
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.refresh()
	return u.names[uid]
}

// refresh keeps the names it has when the file cannot be read: it is being
// replaced. The caller holds the lock.
func (u *users) refresh() {
	info, err := fs.Stat(u.etc, "passwd")
	if err != nil || u.names != nil && info.ModTime().Equal(u.modified) && info.Size() == u.size {
		return
	}
	f, err := u.etc.Open("passwd")
	if err != nil {
		return
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, passwdMax))
	if err != nil {
		return
	}
	u.names, u.modified, u.size = parsePasswd(b), info.ModTime(), info.Size()
}
