package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"interdict/internal/fault"
)

func TestWhatKeepsAServerFromStartingIsExplained(t *testing.T) {
	c := Config{DataDir: "/srv/interdict", Listen: "127.0.0.1:8443"}
	for _, tc := range []struct {
		name string
		err  error
		code fault.Code
		want string
	}{
		{"a port that is taken", &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}, fault.Conflict, "starting the listener: 127.0.0.1:8443 is in use already"},
		{"an address of another machine", os.NewSyscallError("bind", syscall.EADDRNOTAVAIL), fault.Invalid, "is no address of this machine"},
		{"a name that is none", &net.DNSError{Err: "no such host", Name: "x"}, fault.Invalid, "is no address of this machine"},
		{"a directory of somebody else", &fs.PathError{Op: "mkdir", Path: "/srv/interdict", Err: syscall.EACCES}, fault.Forbidden, "mkdir /srv/interdict: permission denied"},
		{"anything else", errors.New("disk full"), fault.Internal, "starting the listener: disk full"},
		{"a fault that says it already", fault.New(fault.Unavailable, "away"), fault.Unavailable, "away"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := startFault("listener", c, tc.err)
			if fault.CodeOf(got) != tc.code || !strings.Contains(got.Error(), tc.want) || !errors.Is(got, tc.err) {
				t.Errorf("got %v (%s), want %s (%s)", got, fault.CodeOf(got), tc.want, tc.code)
			}
			if f, ok := errors.AsType[*fault.Error](got); ok && f.Hint == "" && tc.code != fault.Unavailable {
				t.Error("it has no hint")
			}
		})
	}
}

func TestErrorsOfADatabaseAreOneSentence(t *testing.T) {
	err := fmt.Errorf("connecting to PostgreSQL: %w", errors.New("failed to connect to `user=x`:\n\t127.0.0.1:1: refused\n\t127.0.0.1:1: refused\n\t[::1]:1: refused"))
	want := "starting the store: connecting to PostgreSQL: failed to connect to `user=x`: 127.0.0.1:1: refused; [::1]:1: refused"
	if got := databaseFault(err); got.Error() != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
