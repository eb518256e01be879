package e2e

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

const (
	// cable is the interface at either end of a line.
	cable = "lan0"
	// tunDevice makes such interfaces.
	tunDevice = "/dev/net/tun"
)

// peerLine is a line between the host it runs on and another: packets that are
// sent to the interface of the one come out of the other's. args are the name
// of both interfaces and the other host's network namespace. It prints a line
// when both are there, and goes on until it is killed.
func peerLine(_ context.Context, _ *x509.CertPool, args []string) (string, error) {
	near, err := openTUN(args[0])
	if err != nil {
		return "", err
	}
	far, err := openTUNIn(args[1], args[0])
	if err != nil {
		return "", err
	}
	fmt.Fprintln(os.Stdout, "ready")
	ended := make(chan error, 2)
	for _, way := range [][2]*os.File{{near, far}, {far, near}} {
		go func() { ended <- carry(way[0], way[1]) }()
	}
	return "", <-ended
}

// carry passes packets on until it cannot. Those for an end that is not up yet
// are lost.
func carry(to io.Writer, from io.Reader) error {
	packet := make([]byte, 64<<10)
	for {
		n, err := from.Read(packet)
		if err != nil {
			return fmt.Errorf("the line is broken: %w", err)
		}
		if _, err := to.Write(packet[:n]); err != nil && !errors.Is(err, unix.EIO) {
			return fmt.Errorf("the line is broken: %w", err)
		}
	}
}

// openTUNIn is openTUN in another network namespace.
func openTUNIn(namespace, name string) (*os.File, error) {
	ns, err := os.Open(namespace)
	if err != nil {
		return nil, fmt.Errorf("opening a TUN device: %w", err)
	}
	defer ns.Close()
	type opened struct {
		file *os.File
		err  error
	}
	done := make(chan opened)
	go func() {
		// The thread ends with this goroutine: it is in no other's namespace.
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- opened{err: fmt.Errorf("entering %s: %w", namespace, err)}
			return
		}
		file, err := openTUN(name)
		done <- opened{file, err}
	}()
	o := <-done
	return o.file, o.err
}

// openTUN makes an interface that is gone when the file is closed. Each read
// and each write of the file is one IP packet.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening a TUN device: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("naming a TUN device %q: %w", name, err), unix.Close(fd))
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return nil, errors.Join(fmt.Errorf("making the TUN device %q: %w", name, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}
