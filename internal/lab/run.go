package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// insideEnv is set for the process that Run starts. Its value is the Privilege
// the lab runs with.
const insideEnv = "INTERDICT_LAB"

// endPatience is how long the process inside may take to end once it is told
// to.
const endPatience = 15 * time.Second

// Privilege is where the lab takes its rights from.
type Privilege string

// The ways to be allowed to build a lab.
const (
	// PrivilegeRoot is the machine's root.
	PrivilegeRoot Privilege = "root"
	// PrivilegeUserNamespace is a user namespace, in which an ordinary user
	// is root. BPF programs cannot be loaded there.
	PrivilegeUserNamespace Privilege = "user namespace"
)

// Inside says whether this process was started by Run.
func Inside() bool { return os.Getenv(insideEnv) != "" }

// CurrentPrivilege says where a process inside the lab has its rights from.
func CurrentPrivilege() Privilege { return Privilege(os.Getenv(insideEnv)) }

// Tool is a program that the lab or its user needs.
type Tool struct {
	Command string
	// Package is the name of the Debian package that has it.
	Package string
}

// Tools are the programs that every lab needs.
func Tools() []Tool {
	return []Tool{{Command: "ip", Package: "iproute2"}, {Command: "nsenter", Package: "util-linux"}}
}

// MissingError says which tools are not installed.
type MissingError struct{ Tools []Tool }

// Error names the tools and the command that installs them.
func (e *MissingError) Error() string {
	var commands, packages []string
	for _, t := range e.Tools {
		commands = append(commands, t.Command)
		packages = append(packages, t.Package)
	}
	return fmt.Sprintf("%s not found: on Debian or Ubuntu, run apt-get install %s",
		strings.Join(commands, ", "), strings.Join(packages, " "))
}

// CheckTools returns a *MissingError if one of the lab's tools or of others is
// not installed.
func CheckTools(others ...Tool) error {
	var missing []Tool
	for _, t := range append(Tools(), others...) {
		if _, err := exec.LookPath(t.Command); err != nil {
			missing = append(missing, t)
		}
	}
	if len(missing) > 0 {
		return &MissingError{Tools: missing}
	}
	return nil
}

// Check says why no lab can be built on this machine, or nil if one can: it
// starts a program that does nothing in the lab's namespaces.
func Check(ctx context.Context) error {
	if err := CheckTools(); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "ip", "link", "set", "dev", "lo", "up")
	isolate(cmd, privilege())
	if out, err := cmd.CombinedOutput(); err != nil {
		return isolationError(fmt.Errorf("%w: %s", err, out))
	}
	return nil
}

// Run starts this program again inside the lab's namespaces, with the same
// arguments and standard streams, and waits for it. It returns the exit code
// of the process inside. When the context ends, that process is asked to end
// by SIGTERM, and killed if it does not. A process inside must not call Run.
func Run(ctx context.Context) (int, error) {
	if Inside() {
		return 0, errors.New("starting the lab: the process is inside a lab already")
	}
	if err := CheckTools(); err != nil {
		return 0, fmt.Errorf("starting the lab: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("starting the lab: %w", err)
	}
	p := privilege()
	cmd := exec.CommandContext(ctx, self, os.Args[1:]...) //nolint:gosec // this program with its own arguments
	cmd.Env = append(os.Environ(), insideEnv+"="+string(p), "QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING=true")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return terminate(cmd.Process) }
	cmd.WaitDelay = endPatience
	isolate(cmd, p)
	if err = cmd.Start(); err != nil {
		return 0, fmt.Errorf("starting the lab: %w", isolationError(err))
	}
	err = cmd.Wait()
	if cmd.ProcessState == nil {
		return 0, fmt.Errorf("running the lab: %w", err)
	}
	return cmd.ProcessState.ExitCode(), nil
}

func privilege() Privilege {
	if os.Geteuid() == 0 {
		return PrivilegeRoot
	}
	return PrivilegeUserNamespace
}
