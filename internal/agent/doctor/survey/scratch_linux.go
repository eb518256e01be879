package survey

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// inScratch calls f on a thread with a network namespace of its own, which has
// loopback and nothing else, and which is gone afterwards. So rules can be
// tried out where they harm nobody. f must not start goroutines that open
// sockets.
func inScratch(f func() error) error {
	done := make(chan error)
	go func() {
		// The thread is not unlocked, and so ends with the goroutine.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("making a network namespace: %w", err)
			return
		}
		done <- errors.Join(loopbackUp(), f())
	}()
	return <-done
}

// loopbackUp brings loopback up, see netdevice(7).
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bringing loopback up: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("bringing loopback up: %w", err)
	}
	request.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("bringing loopback up: %w", err)
	}
	return nil
}
