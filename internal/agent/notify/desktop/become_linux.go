package desktop

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"interdict/internal/agent/notify/session"
)

// become has a command run as the user of a session. The kernel takes every
// capability from whoever stops being root. A terminal that the agent was
// started from is not for the user to type into.
func become(cmd *exec.Cmd, s session.Session) error {
	if err := keepDescriptors(); err != nil {
		return err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: s.UID, Gid: s.GID, Groups: s.Groups}}
	return nil
}

// keepDescriptors keeps this process's descriptors from its children. What Go
// opens it keeps anyway; this is about what the agent itself was given by
// whoever started it.
func keepDescriptors() error {
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("starting the desktop helper: %w", err)
	}
	for _, entry := range all {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
	return nil
}
