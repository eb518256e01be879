//go:build unix

package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// account returns whom root runs PostgreSQL as; ok is false for others, who
// run it as themselves.
func account() (uid, gid int, ok bool, err error) {
	if os.Getuid() != 0 {
		return 0, 0, false, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.Atoi(u.Uid)
		gid, gidErr := strconv.Atoi(u.Gid)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return 0, 0, false, fmt.Errorf("reading the ids of user %s: %w", name, err)
		}
		return uid, gid, true, nil
	}
	return 0, 0, false, errors.New("there is neither a user postgres nor nobody to run it as")
}

// own gives a directory to the account.
func own(dir string) error {
	uid, gid, ok, err := account()
	if err != nil || !ok {
		return err
	}
	return os.Chown(dir, uid, gid)
}

// unprivileged makes a command run as the account.
func unprivileged(command *exec.Cmd) error {
	uid, gid, ok, err := account()
	if err != nil || !ok {
		return err
	}
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	return nil
}
