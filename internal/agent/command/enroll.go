package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"interdict/internal/agent"
	"interdict/internal/agent/channel/dropin"
	"interdict/internal/agent/state"
	"interdict/internal/agent/uplink"
	"interdict/internal/agent/why"
	"interdict/internal/bundle"
	"interdict/internal/fault"
	"interdict/internal/version"
)

func (c *commander) enroll() *cobra.Command {
	var name string
	var labels map[string]string
	cmd := &cobra.Command{
		Use: "enroll TOKEN", Short: "Make this machine a device of the server that made the token", Args: exactly("TOKEN"),
		Example: `  interdict-agent enroll idt1_...
  interdict-agent enroll --name till-7 --label site=berlin --label ring=pilot idt1_...`,
		RunE: func(cmd *cobra.Command, args []string) error {
			token, err := bundle.ParseToken(args[0])
			if err != nil {
				return fault.New(fault.Invalid, "%v", err).WithHint("make one with: interdict token create")
			}
			switch err = c.dir().Enrolled(); {
			case err == nil:
				return fault.New(fault.Conflict, "this machine is enrolled already").
					WithHint("interdict-agent unenroll, then enrol again")
			case !errors.Is(err, state.ErrNotEnrolled):
				return err
			}
			// Before the token is used up it must be certain that there is
			// a place for what it buys.
			dir, err := state.Open(c.opts.stateDir)
			if err != nil {
				return err
			}
			id, err := uplink.Enroll(cmd.Context(), uplink.EnrollConfig{Token: token, Name: name, Labels: labels, Facts: facts()})
			if err != nil {
				return err
			}
			if err := dir.SaveIdentity(id); err != nil {
				return err
			}
			// Where no agent runs there is nobody to tell.
			if begins, err := agent.NewClient(dir).Enrolled(cmd.Context()); err == nil && begins {
				c.say("the agent that runs here obeys the server from now on")
			}
			return c.print(map[string]any{"schema": 1, "device_id": id.DeviceID, "server": id.ServerURL}, func(w io.Writer) {
				row(w, "Device", "%s", id.DeviceID)
				row(w, "Server", "%s", id.ServerURL)
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "what the device is to be called; the host name if not given")
	cmd.Flags().StringToStringVar(&labels, "label", nil, "a label as `KEY=VALUE`; may be repeated")
	// An empty map's text would be shown as if it meant something.
	cmd.Flags().Lookup("label").DefValue = ""
	return cmd
}

// facts are what this machine says of itself.
func facts() bundle.Facts {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	return bundle.Facts{
		Hostname: host, OS: runtime.GOOS, OSVersion: osVersion("/etc/os-release"), Arch: runtime.GOARCH, AgentVersion: version.String(),
	}
}

// osVersion reads PRETTY_NAME as os-release(5) describes it.
func osVersion(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "PRETTY_NAME="); ok {
			return strings.Trim(value, `"'`)
		}
	}
	return ""
}

func (c *commander) run() *cobra.Command {
	level, policyDir, whyListen := slog.LevelInfo, dropin.DefaultDir, why.DefaultListen
	cmd := &cobra.Command{
		Use: "run", Short: "Be the agent: enforce what the server and this machine say until told to stop", Args: exactly(),
		Long: `Be the agent: enforce what the server and this machine say until told to stop.

A setting comes from the first that makes it: a policy of the server, a drop-in
file (of two the one with the later name), the environment variable
INTERDICT_<NAME> (INTERDICT_NETWORK_PROTECTION=block), "interdict-agent set". A
machine that is not enrolled needs no server: the others alone count, and the
indicators of the drop-in files.

What was in force last is so again before the network is looked for. When the
agent ends, in order or not, the kernel rules stay: known-bad addresses remain
refused. To remove them use "interdict-agent rescue" or "unenroll".`,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			dir, err := state.Open(c.opts.stateDir)
			if err != nil {
				return err
			}
			// The agent holds much and allocates little: a third less memory
			// for a few more collections.
			debug.SetGCPercent(50)
			log := c.logger(level)
			platform, err := agent.NewPlatform(log)
			if err != nil {
				return err
			}
			defer func() {
				if closeErr := platform.Close(); err == nil {
					err = closeErr
				}
			}()
			return agent.Run(cmd.Context(), agent.Config{
				Dir: dir, Platform: platform, PolicyDir: policyDir, Environ: os.Environ(), Facts: facts(), Log: log,
				Desktop: desktopProgram(), WhyListen: whyListen, RuntimeDir: os.Getenv("RUNTIME_DIRECTORY"),
				Ready: func() {
					// Without a service manager there is nobody to tell.
					if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
						log.Debug("telling the service manager", "error", err)
					}
				},
			})
		},
	}
	cmd.Flags().StringVar(&policyDir, "policy-dir", policyDir, "`directory` of drop-in files of policy, *.yaml")
	cmd.Flags().StringVar(&whyListen, "why-listen", whyListen, "`address` on 127.0.0.1 of the page that tells users why something was refused; empty for none")
	cmd.Flags().TextVar(&level, "log-level", level, "the least important messages to print, a `level`: debug, info, warn or error")
	return cmd
}

func (c *commander) rescue() *cobra.Command {
	return &cobra.Command{
		Use: "rescue", Short: "Remove every kernel rule of Interdict, even if the agent cannot start", Args: exactly(),
		Long: `Remove every kernel rule of Interdict, even if the agent cannot start.

A running agent stops enforcing until "interdict-agent sync", a new bundle, or
its restart. Needs nothing but root: neither state directory nor agent.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			told := c.suspendRunning(cmd)
			if err := agent.CleanUp(cmd.Context(), c.logger(slog.LevelWarn)); err != nil {
				return err
			}
			c.say("all kernel rules of Interdict are removed")
			if !told {
				c.say("if an agent runs all the same it puts them back: systemctl stop interdict-agent")
			}
			return nil
		},
	}
}

// suspendRunning has a running agent stop enforcing, and reports whether one
// did. Whatever is wrong with it must not keep rescue from its work.
func (c *commander) suspendRunning(cmd *cobra.Command) bool {
	client, err := c.client()
	if err != nil {
		return false
	}
	return client.Rescue(cmd.Context()) == nil
}

func (c *commander) unenroll() *cobra.Command {
	var how agent.Unenrolment
	cmd := &cobra.Command{
		Use: "unenroll", Short: "Delete the device on the server, its state here, and every kernel rule", Args: exactly(),
		Long: `Delete the device on the server, its state here, and every kernel rule.

The local event log goes too, unless --keep-events is given. A running agent
ends, after it has sent the server what happened until now. A device that was
deleted on the server is unenrolled here all the same.`,
		Example: `  interdict-agent unenroll
  interdict-agent unenroll --local --keep-events`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			id, err := c.dir().Identity()
			if err != nil {
				return c.withStandaloneHint(err)
			}
			client := agent.NewClient(c.dir())
			if _, statusErr := client.Status(cmd.Context()); statusErr == nil {
				err = client.Unenroll(cmd.Context(), how)
			} else {
				err = c.unenrollStopped(cmd.Context(), id, how)
			}
			if err != nil {
				return withLocalHint(err)
			}
			c.say("device %s is unenrolled", id.DeviceID)
			return nil
		},
	}
	cmd.Flags().BoolVar(&how.Local, "local", false, "do not tell the server; the device stays on its list")
	cmd.Flags().BoolVar(&how.KeepEvents, "keep-events", false, "leave the local event log")
	return cmd
}

// unenrollStopped does what an agent does that is told to unenrol, where none
// runs.
func (c *commander) unenrollStopped(ctx context.Context, id state.Identity, how agent.Unenrolment) error {
	if !how.Local {
		if err := uplink.Unenroll(ctx, id); err != nil {
			return err
		}
	}
	if agent.EnforcedElsewhere(c.dir()) {
		c.say("an agent with another state directory enforces here: the kernel rules are its own and stay")
	} else if err := agent.CleanUp(ctx, c.logger(slog.LevelWarn)); err != nil {
		return err
	}
	if err := c.dir().Clear(); err != nil || how.KeepEvents {
		return err
	}
	return c.dir().RemoveEvents()
}

// withStandaloneHint says how to remove an agent that no server knows of.
func (c *commander) withStandaloneHint(err error) error {
	if !errors.Is(err, state.ErrNotEnrolled) {
		return err
	}
	return fault.New(fault.Conflict, "this machine is not enrolled: there is no device to delete").
		WithHint("to remove an agent without a server: systemctl disable --now interdict-agent (or end \"interdict-agent run\"); "+
			"interdict-agent rescue; then delete %s and what is yours in %s", c.opts.stateDir, dropin.DefaultDir).Because(err)
}

// withLocalHint says what to do where the server cannot be told: it does not
// answer, or not to this device now.
func withLocalHint(err error) error {
	code := fault.CodeOf(err)
	switch code {
	case fault.Unreachable, fault.Unavailable, fault.Unauthorized, fault.TooMany:
	default:
		return err
	}
	return fault.New(code, "%v", err).
		WithHint("to remove everything here without telling the server: interdict-agent unenroll --local").Because(err)
}

// noun is "1 event" or "2 events".
func noun(n int, singular string) string {
	if n == 1 {
		return fmt.Sprintf("1 %s", singular)
	}
	return fmt.Sprintf("%d %ss", n, singular)
}
