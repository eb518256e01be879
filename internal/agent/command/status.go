package command

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/agent"
	"interdict/internal/fleet"
)

func (c *commander) status() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Say what the agent enforces and what is wrong with it", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			s, err := client.Status(cmd.Context())
			if err != nil {
				return err
			}
			return c.printStatus(s)
		},
	}
}

func (c *commander) sync() *cobra.Command {
	return &cobra.Command{
		Use: "sync", Short: "Fetch the newest bundle and read the drop-in files now, and return when both are in force", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			s, err := client.Sync(cmd.Context())
			if err != nil {
				return err
			}
			return c.printStatus(s)
		},
	}
}

func (c *commander) printStatus(s agent.Status) error {
	return c.print(s, func(w io.Writer) {
		if s.Managed {
			row(w, "Device", "%s", s.DeviceID)
			row(w, "Server", "%s (%s)", s.Server, connection(s))
			row(w, "Bundle", "%s", bundleInForce(s))
		} else {
			row(w, "Server", "none: this machine is not managed by a server")
		}
		row(w, "Network protection", "%s", protection(s))
		row(w, "Connections", "%d refused, %d audited, %d named, %d open now", s.Inspector.Refused, s.Inspector.Audited, s.Inspector.Named, s.Inspector.Live)
		if s.Managed {
			row(w, "Waiting for the server", "%s, %d of %d KiB", noun(s.Spool.Events, "event"), s.Spool.Bytes>>10, s.Spool.Limit>>10)
			row(w, "Certificate until", "%s", s.Uplink.CertificateEnds.Format(time.RFC3339))
		}
		row(w, "Agent", "%s, since %s", s.AgentVersion, s.StartedAt.Format(time.RFC3339))
		for _, i := range s.Health {
			row(w, "! "+string(i.Code), "%s (since %s)", i.Text, i.Since.Format(time.RFC3339))
		}
		_, _ = fmt.Fprintln(w)
		printSettings(w, s.Settings)
	})
}

// printSettings prints a row for every setting: its value and where it comes
// from.
func printSettings(w io.Writer, settings []agent.Setting) {
	_, _ = fmt.Fprintln(w, "SETTING\tVALUE\tFROM")
	for _, s := range settings {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", s.Setting, shown(s.Value.Value), origin(s))
	}
}

// maxShown bounds a text in a table.
const maxShown = 48

// shown is a value in a table.
func shown(value string) string {
	if value == "" {
		return "-"
	}
	if short := []rune(value); len(short) > maxShown {
		return string(short[:maxShown-3]) + "..."
	}
	return value
}

// origin says where a setting comes from, and what is wrong with it.
func origin(s agent.Setting) string {
	if s.State == fleet.SettingApplied {
		return source(s)
	}
	return source(s) + " (" + strings.ReplaceAll(string(s.State), "_", " ") + ": " + s.Text + ")"
}

// source says where a setting comes from.
func source(s agent.Setting) string {
	switch s.Channel {
	case fleet.ChannelServer:
		return "policy " + cmp.Or(s.PolicyName, s.Source)
	case fleet.ChannelFile:
		return s.Source
	case fleet.ChannelLocal:
		return "set"
	case fleet.ChannelEnvironment, fleet.ChannelDefault:
	}
	return string(s.Channel)
}

func connection(s agent.Status) string {
	switch {
	case s.Uplink.Connected:
		return "connected since " + s.Uplink.Since.Format(time.RFC3339)
	case s.Uplink.Since.IsZero():
		return "not connected"
	default:
		return "not connected since " + s.Uplink.Since.Format(time.RFC3339)
	}
}

func protection(s agent.Status) string {
	text := string(s.Mode)
	if s.PolicyID != "" {
		text += " by policy " + cmp.Or(s.PolicyName, s.PolicyID)
	}
	if !s.Enforcing {
		text += ", but not enforcing"
	}
	return text
}

func bundleInForce(s agent.Status) string {
	if s.Uplink.Version == 0 {
		return "none yet"
	}
	text := "acknowledged"
	if !s.Uplink.Acknowledged {
		text = "not acknowledged yet"
	}
	return time.Since(s.Uplink.IssuedAt).Round(time.Second).String() + " old, version " + utoa(s.Uplink.Version) + ", " + text
}
