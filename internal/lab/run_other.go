//go:build !linux

package lab

import (
	"context"
	"errors"
	"os"
	"os/exec"
)

var errLinuxOnly = errors.New("the lab is made of Linux namespaces and needs Linux")

func keepOpen(*os.File) error { return errLinuxOnly }

func replace(_, _ []string) error { return errLinuxOnly }

func isolationError(error) error { return errLinuxOnly }

func hideMachine() error { return errLinuxOnly }

func hideFiles(string, map[string]string) error { return errLinuxOnly }

func endProcesses(string) error { return errLinuxOnly }

func inNamespace(ctx context.Context, _, program string, args []string) *exec.Cmd {
	return exec.CommandContext(ctx, program, args...)
}
