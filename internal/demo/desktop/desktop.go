// Package desktop gives a user of a lab what the agent takes for a desktop: a
// real session bus of the user's own with a notification service on it, and a
// system bus with as much of logind as says whose session that is.
//
// The buses are dbus-daemon. What is small is the rest: the service hands
// notifications to the caller, who chooses their buttons, in place of showing
// them to a person.
package desktop

import (
	"bufio"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/godbus/dbus/v5"

	"interdict/internal/lab"
)

// ErrNoBus says that dbus-daemon is not installed.
var ErrNoBus = errors.New("dbus-daemon is not installed")

// systemSocket is where the system bus is on every system.
const systemSocket = "/run/dbus/system_bus_socket"

// Config says whose desktop it is. All fields are required.
type Config struct {
	Lab *lab.Lab
	// Host and User are the lab's. Its CheckUsers must not object.
	Host, User string
	// Locale is the session's, such as "en_US.UTF-8".
	Locale string
}

// Desktop is a session of a user. Close ends it.
type Desktop struct {
	buses    []*bus
	shown    *notifications
	sessions *dbus.Conn
}

// Start starts a desktop. In one lab there can be one.
func Start(ctx context.Context, cfg Config) (*Desktop, error) {
	d := &Desktop{}
	if err := d.start(ctx, cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("starting a desktop of user %q: %w", cfg.User, err), d.Close())
	}
	return d, nil
}

func (d *Desktop) start(ctx context.Context, cfg Config) error {
	ctx = context.WithoutCancel(ctx) // It outlives the call, until Close.
	user := cfg.Lab.User(cfg.User)
	session, err := d.bus(cfg.Lab.Dir, filepath.Join(user.RuntimeDir(), "bus"), func(file string) *exec.Cmd {
		cmd := cfg.Lab.CommandAs(ctx, cfg.Host, cfg.User, "dbus-daemon", arguments(file)...)
		cmd.Env = append(cmd.Env, "LANG="+cfg.Locale)
		return cmd
	})
	if err != nil {
		return err
	}
	if d.shown, err = serveNotifications(session.socket); err != nil {
		return err
	}
	system, err := d.bus(cfg.Lab.Dir, systemSocket, func(file string) *exec.Cmd {
		return cfg.Lab.Command(ctx, cfg.Host, "dbus-daemon", arguments(file)...)
	})
	if err != nil {
		return err
	}
	// The session bus is the session's first process.
	d.sessions, err = serveLogind(system.socket, user, uint32(session.cmd.Process.Pid))
	return err
}

// Next returns the next notification that was shown.
func (d *Desktop) Next(ctx context.Context) (Note, error) {
	select {
	case note := <-d.shown.notes:
		return note, nil
	case <-ctx.Done():
		return Note{}, fmt.Errorf("waiting for a notification: %w", context.Cause(ctx))
	}
}

// Waiting returns how many notifications were shown that Next has not returned.
func (d *Desktop) Waiting() int { return len(d.shown.notes) }

// Choose presses a button of a notification, which closes it.
func (d *Desktop) Choose(note Note, action string) error { return d.shown.choose(note.ID, action) }

// Close ends the desktop.
func (d *Desktop) Close() error {
	var errs []error
	if d.shown != nil {
		errs = append(errs, d.shown.conn.Close())
	}
	if d.sessions != nil {
		errs = append(errs, d.sessions.Close())
	}
	for _, b := range d.buses {
		errs = append(errs, b.end())
	}
	return errors.Join(errs...)
}

// bus is a running dbus-daemon.
type bus struct {
	cmd    *exec.Cmd
	socket string
}

func arguments(file string) []string {
	return []string{"--nofork", "--nopidfile", "--print-address", "--config-file=" + file}
}

// bus starts a bus and waits until it listens.
func (d *Desktop) bus(dir, socket string, prepare func(file string) *exec.Cmd) (*bus, error) {
	file := filepath.Join(dir, fmt.Sprintf("bus%d.conf", len(d.buses)))
	if err := os.WriteFile(file, []byte(configuration(socket)), 0o644); err != nil { //nolint:gosec // the user's bus reads it
		return nil, fmt.Errorf("configuring a bus: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil { //nolint:gosec // every user may use the system bus
		return nil, fmt.Errorf("making a place for a bus: %w", err)
	}
	cmd := prepare(file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting a bus: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting a bus: %w", err)
	}
	b := &bus{cmd, socket}
	d.buses = append(d.buses, b)
	// The address is printed when the bus listens.
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return nil, fmt.Errorf("starting a bus at %s: %w", socket, err)
	}
	return b, nil
}

func (b *bus) end() error {
	if err := b.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending the bus at %s: %w", b.socket, err)
	}
	_ = b.cmd.Wait() // It was killed.
	return nil
}

// configuration is a bus's: that of every session bus, which also lets root
// in, as whom the services here run.
func configuration(socket string) string {
	var path strings.Builder
	_ = xml.EscapeText(&path, []byte(socket)) // A strings.Builder takes everything.
	return `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=` + path.String() + `</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="root"/>
    <allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
  </policy>
</busconfig>
`
}

// Check returns ErrNoBus if no desktop can be had.
func Check() error {
	if err := lab.CheckTools(lab.Tool{Command: "dbus-daemon", Package: "dbus-daemon"}); err != nil {
		return fmt.Errorf("%w: %w", ErrNoBus, err)
	}
	return nil
}
