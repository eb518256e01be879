//go:build !linux

package desktop

import (
	"errors"
	"os/exec"

	"interdict/internal/agent/notify/session"
)

// become fails: there are no session buses here.
func become(*exec.Cmd, session.Session) error {
	return errors.New("starting the desktop helper: there is none for this system")
}
