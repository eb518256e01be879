package cli

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/cli/output"
	"interdict/internal/cli/usage"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

func newPolicyCmd(s *session) *cobra.Command {
	return usage.Parent("policy", "Look at and change configuration policies",
		`A configuration policy holds settings, and is assigned to device groups. The
setting that decides most is the network protection mode: disabled inspects
nothing (the default), audit lets everything through and records what would have
been refused, block refuses it. Where several policies reach a device, the one
with the higher priority wins, setting by setting. A policy is named by its name
or its id.`,
		newPolicyListCmd(s), newPolicyShowCmd(s), newPolicyCreateCmd(s), newPolicySetCmd(s),
		newPolicyAssignCmd(s), newPolicyStatusCmd(s), newPolicyDeleteCmd(s))
}

func policyColumns(groups names) []column[fleet.Policy] {
	return []column[fleet.Policy]{
		{"id", func(p fleet.Policy) string { return p.ID }},
		{"name", func(p fleet.Policy) string { return p.Name }},
		{"network_protection", func(p fleet.Policy) string { return string(p.Settings.NetworkProtection) }},
		{"priority", func(p fleet.Policy) string { return strconv.Itoa(p.Priority) }},
		{"assigned", func(p fleet.Policy) string {
			if !p.Assigned {
				return "no"
			}
			return groups.scope(p.Assignment)
		}},
	}
}

func newPolicyListCmd(s *session) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the policies",
		Args:  usage.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			groups, err := s.names(cmd, "/groups")
			if err != nil {
				return err
			}
			return list(s, cmd, "/policies", nil, limit, policyColumns(groups))
		},
	}
	addLimitFlag(cmd, &limit)
	return cmd
}

func newPolicyShowCmd(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show a policy with its settings",
		Args:  usage.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			groups, err := s.names(cmd, "/groups")
			if err != nil {
				return err
			}
			return show(s, cmd, "/policies/"+url.PathEscape(args[0]), append(policyColumns(groups),
				column[fleet.Policy]{"fail_mode", func(p fleet.Policy) string { return string(p.Settings.FailMode) }},
				column[fleet.Policy]{"description", func(p fleet.Policy) string { return p.Description }},
				column[fleet.Policy]{"version", func(p fleet.Policy) string { return strconv.FormatUint(p.Version, 10) }},
				column[fleet.Policy]{"updated", func(p fleet.Policy) string { return output.Time(p.UpdatedAt) }}))
		},
	}
}

// policyBody is what is sent to make a policy, or to change one.
type policyBody struct {
	Name        string         `json:"name"`
	Description string         `json:"description,omitempty"`
	Settings    fleet.Settings `json:"settings"`
	Priority    int            `json:"priority,omitempty"`
}

// policyFlags are the settings that create and set have in common.
type policyFlags struct {
	protection, failMode, description string
	priority                          int
	wait                              waitFlags
}

func (p *policyFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&p.protection, "network-protection", "", "the `mode`: disabled, audit or block")
	f.StringVar(&p.failMode, "fail-mode", "", "what becomes of a connection that cannot be judged in time: `open` lets it through, closed refuses it, and takes a machine whose agent is stopped off the network")
	f.StringVar(&p.description, "description", "", "a `text` for those who wonder")
	f.IntVar(&p.priority, "priority", 0, "among several policies the higher `number` wins")
	p.wait.add(cmd)
}

// apply puts the flags that were typed into a policy.
func (p *policyFlags) apply(cmd *cobra.Command, b *policyBody) {
	if cmd.Flags().Changed("network-protection") {
		b.Settings.NetworkProtection = fleet.Mode(p.protection)
	}
	if cmd.Flags().Changed("fail-mode") {
		b.Settings.FailMode = fleet.FailMode(p.failMode)
	}
	if cmd.Flags().Changed("description") {
		b.Description = p.description
	}
	if cmd.Flags().Changed("priority") {
		b.Priority = p.priority
	}
}

func newPolicyCreateCmd(s *session) *cobra.Command {
	var flags policyFlags
	cmd := &cobra.Command{
		Use:     "create NAME",
		Short:   "Make a policy, which reaches no device until it is assigned",
		Example: "  interdict policy create standard --network-protection audit",
		Args:    usage.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			b := policyBody{Name: args[0]}
			flags.apply(cmd, &b)
			c, err := s.client()
			if err != nil {
				return err
			}
			raw, err := c.Post(cmd.Context(), "/policies", b)
			if err != nil {
				return err
			}
			return s.changed(cmd.Context(), c, flags.wait, raw, "made policy %s", args[0])
		},
	}
	flags.add(cmd)
	return cmd
}

func newPolicySetCmd(s *session) *cobra.Command {
	var flags policyFlags
	var name string
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Change settings of a policy",
		Long: `Set changes what its flags name and leaves the rest. An empty value leaves the
setting to the next policy in line, or to its default.`,
		Example: "  interdict policy set standard --network-protection block --wait",
		Args:    usage.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := usage.CheckEdit(cmd); err != nil {
				return err
			}
			c, err := s.client()
			if err != nil {
				return err
			}
			raw, err := client.Edit(cmd.Context(), c, http.MethodPut, "/policies/"+url.PathEscape(args[0]), func(p *fleet.Policy) any {
				b := policyBody{Name: cmp.Or(name, p.Name), Description: p.Description, Settings: p.Settings, Priority: p.Priority}
				flags.apply(cmd, &b)
				return b
			})
			if err != nil {
				return err
			}
			return s.changed(cmd.Context(), c, flags.wait, raw, "changed policy %s", args[0])
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "a new `name`")
	flags.add(cmd)
	return cmd
}

func newPolicyAssignCmd(s *session) *cobra.Command {
	var scope indicator.Scope
	var all bool
	var wait waitFlags
	cmd := &cobra.Command{
		Use:   "assign NAME --include-group G [--exclude-group G]",
		Short: "Say which devices a policy reaches",
		Long: `Assign replaces the policy's assignment. --all-devices assigns it to every
device; --exclude-group takes the devices of a group out again.`,
		Example: `  interdict policy assign standard --include-group laptops --wait
  interdict policy assign standard --all-devices --exclude-group lab`,
		Args: usage.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(scope.Include) > 0) {
				return usage.Fault(cmd, "give either --include-group or --all-devices")
			}
			c, err := s.client()
			if err != nil {
				return err
			}
			raw, err := c.Put(cmd.Context(), "/policies/"+url.PathEscape(args[0])+"/assignment", scope)
			if err != nil {
				return err
			}
			return s.changed(cmd.Context(), c, wait, raw, "assigned policy %s to %s", args[0], output.Scope(scope.Include, scope.Exclude))
		},
	}
	addScopeFlags(cmd, &scope)
	cmd.Flags().BoolVar(&all, "all-devices", false, "every device")
	wait.add(cmd)
	return cmd
}

// policyStatus says how far a policy has come.
type policyStatus struct {
	Policy   fleet.Policy   `json:"policy"`
	Progress fleet.Progress `json:"progress"`
	Devices  []policyDevice `json:"devices"`
}

type policyDevice struct {
	ID        fleet.DeviceID      `json:"id"`
	Name      string              `json:"name"`
	State     fleet.ProgressState `json:"state"`
	Applied   fleet.Applied       `json:"applied"`
	Effective fleet.Effective     `json:"effective"`
}

func newPolicyStatusCmd(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "status NAME",
		Short: "Show which devices a policy reaches, and which of them enforce it",
		Args:  usage.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			raw, err := c.Get(cmd.Context(), "/policies/"+url.PathEscape(args[0])+"/status", nil)
			if err != nil {
				return err
			}
			if s.format == output.FormatJSON {
				return output.JSON(s.Stdout, raw)
			}
			st, err := client.Decode[policyStatus](raw)
			if err != nil {
				return err
			}
			if s.format == output.FormatTable {
				fmt.Fprintf(s.Stdout, "%s: applied on %d of %s, %d pending, %d offline, %d failed\n\n", output.Printable(st.Policy.Name),
					st.Progress.Applied, output.Count(st.Progress.Total, "device", "devices"), st.Progress.Pending, st.Progress.Offline, st.Progress.Failed)
			}
			return s.printPolicyDevices(st.Devices)
		},
	}
}

func (s *session) printPolicyDevices(devices []policyDevice) error {
	heads := []string{"id", "name", "state", "network_protection", "applied", "error"}
	var rows [][]string
	for _, d := range devices {
		rows = append(rows, []string{
			string(d.ID), d.Name, string(d.State), string(d.Effective.Settings.NetworkProtection), output.Time(d.Applied.At), d.Applied.Error,
		})
	}
	if s.format == output.FormatCSV {
		return output.CSV(s.Stdout, heads, rows)
	}
	return output.Table(s.Stdout, heads, rows)
}

func newPolicyDeleteCmd(s *session) *cobra.Command {
	var wait waitFlags
	var force bool
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a policy",
		Long: `Delete removes a policy. One that is assigned is left alone, because the devices
it reaches would fall back to other policies or to the defaults; --force deletes
it nevertheless.`,
		Args: usage.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{}
			if force {
				q.Set("force", "true")
			}
			return s.remove(cmd, wait, removal{path: "/policies/", ref: args[0], kind: "policy", query: q})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "delete it though it is assigned")
	wait.add(cmd)
	return cmd
}
