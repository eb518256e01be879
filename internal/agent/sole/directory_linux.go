package sole

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"interdict/internal/fault"
)

// Directory makes this process the only agent on a state directory. The kernel
// gives the lock up when the process ends, however it does.
func Directory(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fault.New(fault.Conflict, "another agent runs on this state directory").
				WithHint("see it with: interdict-agent status").Because(err)
		}
		return nil, fmt.Errorf("locking the state directory: %w", err)
	}
	return func() { _ = f.Close() }, nil
}
