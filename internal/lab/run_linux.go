package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// endPatience is how long it may take to end the processes of a host.
const endPatience = 15 * time.Second

// keepOpen lets a file outlive replace.
func keepOpen(f *os.File) error {
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0); err != nil {
		return fmt.Errorf("keeping %s open: %w", f.Name(), err)
	}
	return nil
}

// replace runs a program in place of this process. It returns only if that
// fails.
func replace(args, env []string) error {
	path, err := lookPath(args[0])
	if err != nil {
		return err
	}
	return unix.Exec(path, args, env)
}

// restrictions are the settings by which distributions and administrators
// keep ordinary users from making user namespaces.
var restrictions = []struct{ path, value string }{
	{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"},
	{"/proc/sys/kernel/unprivileged_userns_clone", "0"},
	{"/proc/sys/user/max_user_namespaces", "0"},
}

// isolationError explains why namespaces could not be made.
func isolationError(err error) error {
	if privilege() == PrivilegeRoot {
		return fmt.Errorf("making network and mount namespaces as root (is this a container without CAP_SYS_ADMIN?): %w", err)
	}
	return userNamespaceError(err)
}

// userNamespaceError explains why an ordinary user could not make a user
// namespace.
func userNamespaceError(err error) error {
	for _, r := range restrictions {
		if text, readErr := os.ReadFile(r.path); readErr == nil && strings.TrimSpace(string(text)) == r.value {
			return fmt.Errorf("making a user namespace: %w: %s is %s: run as root, or change that setting", err, r.path, r.value)
		}
	}
	return fmt.Errorf("making a user namespace: %w: user namespaces are not allowed here, or the machine has as many as /proc/sys/user/max_user_namespaces lets it: run as root", err)
}

// hideMachine makes the mounts of this process its own, and hides /run: the
// sockets of the machine's services are there, and the names of its network
// namespaces.
func hideMachine() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making the mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", runDir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("hiding %s: %w", runDir, err)
	}
	return nil
}

// hideFiles hides files of the machine, by their paths, behind files in dir with
// other contents.
func hideFiles(dir string, files map[string]string) error {
	for target, text := range files {
		source := filepath.Join(dir, filepath.Base(target))
		if err := writePublic(source, []byte(text)); err != nil {
			return fmt.Errorf("writing what hides %s: %w", target, err)
		}
		if err := hideFile(source, target); err != nil {
			return err
		}
	}
	return nil
}

// hideFile mounts source over target. If target is a link into /run, as
// systemd-resolved makes /etc/resolv.conf, the link's end is made first, since
// /run is empty now.
func hideFile(source, target string) error {
	end := target
	if to, err := os.Readlink(target); err == nil {
		end = to
		if !filepath.IsAbs(end) {
			end = filepath.Join(filepath.Dir(target), to)
		}
	}
	if _, err := os.Stat(end); errors.Is(err, os.ErrNotExist) {
		if err := makePublicDir(filepath.Dir(end)); err != nil {
			return fmt.Errorf("making a place for %s: %w", end, err)
		}
		if err := writePublic(end, nil); err != nil {
			return fmt.Errorf("making a place for %s: %w", end, err)
		}
	}
	if err := unix.Mount(source, end, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("hiding %s: %w", end, err)
	}
	return nil
}

// inNamespace prepares a program to run in a network namespace. nsenter keeps
// all else as it is; ip netns exec would mount a new /sys without the control
// groups that the agent needs.
func inNamespace(ctx context.Context, namespace, program string, args []string) *exec.Cmd {
	all := append([]string{"--net=" + filepath.Join(runDir, "netns", namespace), "--", program}, args...)
	cmd := exec.CommandContext(ctx, "nsenter", all...) //nolint:gosec // the lab runs what it is told to
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return cmd
}

// endProcesses kills what still runs in a network namespace of the lab.
func endProcesses(namespace string) error {
	ctx, cancel := context.WithTimeout(context.Background(), endPatience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ip", "netns", "pids", namespace).Output()
	if err != nil {
		return fmt.Errorf("listing the processes of %s: %w", namespace, err)
	}
	for field := range strings.FieldsSeq(string(bytes.TrimSpace(out))) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return fmt.Errorf("listing the processes of %s: %w", namespace, err)
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("ending process %d of %s: %w", pid, namespace, err)
		}
	}
	return nil
}
