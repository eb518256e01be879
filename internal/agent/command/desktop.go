package command

import (
	"os"

	"github.com/spf13/cobra"

	"interdict/internal/agent/notify/desktop"
)

// desktopCommand is what the agent runs this program with in a user's session.
const desktopCommand = "desktop-helper"

// desktop is the agent's helper in a user's session, see package desktop.
func (c *commander) desktop() *cobra.Command {
	return &cobra.Command{
		Use: desktopCommand, Hidden: true, Short: "Show notifications for the agent, as the user of a session", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return desktop.Serve(cmd.Context(), desktop.ServeConfig{
				Orders: cmd.InOrStdin(), Reports: c.env.Stdout, Bus: os.Getenv("DBUS_SESSION_BUS_ADDRESS"),
			})
		},
	}
}

// desktopProgram is this program as the helper. The link leads to what runs
// now, also after an upgrade has replaced the file.
func desktopProgram() desktop.Program {
	return desktop.Program{Path: "/proc/self/exe", Args: []string{desktopCommand}}
}
