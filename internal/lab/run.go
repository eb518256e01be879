package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The environment of a process inside the lab.
const (
	// insideEnv is the Privilege the lab runs with.
	insideEnv = "INTERDICT_LAB"
	// filesEnv are the numbers of the open files that Enter was given,
	// separated by commas.
	filesEnv = "INTERDICT_LAB_FILES"
)

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

// Inside says whether this process has entered a lab.
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
	return []Tool{
		{Command: "ip", Package: "iproute2"},
		{Command: "unshare", Package: "util-linux"},
		{Command: "nsenter", Package: "util-linux"},
		{Command: "setpriv", Package: "util-linux"},
	}
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
	slices.Sort(packages)
	packages = slices.Compact(packages)
	return fmt.Sprintf("%s not found: on Debian or Ubuntu, run apt-get install %s",
		strings.Join(commands, ", "), strings.Join(packages, " "))
}

// CheckTools returns a *MissingError if one of the lab's tools or of others is
// not installed.
func CheckTools(others ...Tool) error {
	var missing []Tool
	for _, t := range append(Tools(), others...) {
		if _, err := lookPath(t.Command); err != nil {
			missing = append(missing, t)
		}
	}
	if len(missing) > 0 {
		return &MissingError{Tools: missing}
	}
	return nil
}

// searchPath is where programs are looked for: PATH, and the directories of
// the system's own programs, which Debian leaves out for ordinary users.
func searchPath() string {
	const system = "/usr/local/sbin:/usr/sbin:/sbin"
	if path := os.Getenv("PATH"); path != "" {
		return path + ":" + system
	}
	return system
}

// environment is this process's, with searchPath for PATH. Of a variable that
// is set twice, programs take the first.
func environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PATH=") })
	return append(env, "PATH="+searchPath())
}

// lookPath finds a program on searchPath.
func lookPath(command string) (string, error) {
	for _, dir := range filepath.SplitList(searchPath()) {
		if path, err := exec.LookPath(filepath.Join(dir, command)); err == nil {
			return path, nil
		}
	}
	return "", &exec.Error{Name: command, Err: exec.ErrNotFound}
}

// Check says why no lab can be built on this machine, or nil if one can: it
// starts a program that does next to nothing in the lab's namespaces.
func Check(ctx context.Context) error {
	if err := CheckTools(); err != nil {
		return err
	}
	args := isolated(privilege(), "ip", "link", "set", "dev", "lo", "up")
	cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // fixed arguments
	cmd.Env = environment()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return isolationError(fmt.Errorf("%w: %s", err, bytes.TrimSpace(out)))
	}
	return nil
}

// Enter starts this program again, inside the lab's namespaces, in place of
// this process: same id, arguments, standard streams and environment. It
// returns only if that is impossible. Files stay open: Inherited returns them
// inside.
func Enter(ctx context.Context, files ...*os.File) error {
	if Inside() {
		return errors.New("entering the lab: the process is inside a lab already")
	}
	if err := Check(ctx); err != nil {
		return fmt.Errorf("entering the lab: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("entering the lab: %w", err)
	}
	var numbers []string
	for _, f := range files {
		if err := keepOpen(f); err != nil {
			return fmt.Errorf("entering the lab: %w", err)
		}
		numbers = append(numbers, strconv.Itoa(int(f.Fd())))
	}
	p := privilege()
	env := append(environment(), insideEnv+"="+string(p), filesEnv+"="+strings.Join(numbers, ","),
		// The advice of quic-go to change a setting of the machine.
		"QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING=true")
	return fmt.Errorf("entering the lab: %w", replace(isolated(p, append([]string{self}, os.Args[1:]...)...), env))
}

// Inherited returns the files that Enter was given, in the same order. It is
// called once.
func Inherited() ([]*os.File, error) {
	var files []*os.File
	for text := range strings.SplitSeq(os.Getenv(filesEnv), ",") {
		if text == "" {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", filesEnv, err)
		}
		files = append(files, os.NewFile(uintptr(n), "inherited "+text))
	}
	return files, nil
}

// isolated returns the command line that runs a program in new network and
// mount namespaces. An ordinary user gets a user namespace too, in which only
// his own user and group exist, as root.
func isolated(p Privilege, program ...string) []string {
	args := []string{"unshare", "--net", "--mount"}
	if p == PrivilegeUserNamespace {
		args = append(args, "--user", "--map-root-user")
	}
	return append(append(args, "--"), program...)
}

func privilege() Privilege {
	if os.Geteuid() == 0 {
		return PrivilegeRoot
	}
	return PrivilegeUserNamespace
}
