package site

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	// stopPatience is how long a program may take to end in good order.
	stopPatience = 10 * time.Second
	// tailBytes is how much of a program's output is shown when it fails.
	tailBytes = 4 << 10
)

// process is a program that runs in the background. What it prints is in a
// file.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	// gone ends when the program has ended; err is set by then.
	gone context.Context
	err  error
}

// startProcess starts a program and waits for its end in the background. Its
// output is appended to NAME.log in dir.
func startProcess(name string, cmd *exec.Cmd, dir string) (*process, error) {
	p := &process{name: name, cmd: cmd, log: filepath.Join(dir, name+".log")}
	f, err := os.OpenFile(p.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	gone, ended := context.WithCancel(context.Background())
	p.gone = gone
	go func() {
		defer ended()
		p.err = cmd.Wait()
	}()
	return p, nil
}

// stop asks the program to end and waits until it has. A program that does
// not end in time, or ends with an error, is an error.
func (p *process) stop() error {
	if p.gone.Err() != nil {
		return nil
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending %s: %w", p.name, err)
	}
	late := time.NewTimer(stopPatience)
	defer late.Stop()
	select {
	case <-p.gone.Done():
	case <-late.C:
		return errors.Join(fmt.Errorf("ending %s: it did not end in %s and was killed", p.name, stopPatience), p.kill())
	}
	if p.err != nil {
		return fmt.Errorf("ending %s: %w", p.name, p.err)
	}
	return nil
}

// kill ends the program without a warning.
func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing %s: %w", p.name, err)
	}
	<-p.gone.Done()
	return nil
}

// tail returns the end of what the program printed.
func (p *process) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return ""
	}
	return string(text[max(0, len(text)-tailBytes):])
}
