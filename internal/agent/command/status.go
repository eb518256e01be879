package command

import (
	"io"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/agent"
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
		Use: "sync", Short: "Fetch the newest bundle now and return when it is in force", Args: exactly(),
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
		row(w, "Device", "%s", s.DeviceID)
		row(w, "Server", "%s (%s)", s.Server, connection(s))
		row(w, "Network protection", "%s", protection(s))
		row(w, "Bundle", "%s", bundleInForce(s))
		row(w, "Connections", "%d refused, %d audited, %d named, %d open now", s.Inspector.Refused, s.Inspector.Audited, s.Inspector.Named, s.Inspector.Live)
		row(w, "Waiting for the server", "%s, %d of %d KiB", noun(s.Spool.Events, "event"), s.Spool.Bytes>>10, s.Spool.Limit>>10)
		row(w, "Certificate until", "%s", s.Uplink.CertificateEnds.Format(time.RFC3339))
		row(w, "Agent", "%s, since %s", s.AgentVersion, s.StartedAt.Format(time.RFC3339))
		for _, i := range s.Health {
			row(w, "! "+string(i.Code), "%s (since %s)", i.Text, i.Since.Format(time.RFC3339))
		}
	})
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
		text += " by policy " + s.PolicyID
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
