package fleetcmd

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/cli/output"
	"interdict/internal/cli/rolloutcmd"
	"interdict/internal/cli/session"
	"interdict/internal/cli/setting"
	"interdict/internal/cli/usage"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// NewPolicy makes the commands about configuration policies.
func NewPolicy(s *session.Session) *cobra.Command {
	return usage.Parent("policy", "Look at and change configuration policies",
		`A configuration policy holds settings, and is assigned to device groups. The
setting that decides most is the network protection mode: disabled inspects
nothing (the default), audit lets everything through and records what would have
been refused, block refuses it. Where several policies reach a device, the one
with the higher priority wins, setting by setting. Among several with the same
priority the stricter value is in force, and 'interdict policy status' shows the
conflict. A policy is named by its name or its id.`,
		newPolicyListCmd(s), newPolicyShowCmd(s), newPolicyCreateCmd(s), newPolicySetCmd(s),
		newPolicyAssignCmd(s), newPolicyStatusCmd(s), newPolicyHistoryCmd(s), newPolicyDeleteCmd(s))
}

// policyView is a policy, and its conflicts, as the API shows it.
type policyView struct {
	fleet.Policy

	Conflicts []policyConflict `json:"conflicts"`
}

// conflicts says what other policies make differently, and where.
func (p policyView) conflicts() string {
	all := make([]string, len(p.Conflicts))
	for i, c := range p.Conflicts {
		all[i] = fmt.Sprintf("%s: %s by %s, %s by %s, on %s", c.Setting, c.Value, c.PolicyName, c.OverruledValue, c.OverruledName, devicesText(c.Devices))
	}
	return strings.Join(all, "; ")
}

func policyColumns(groups session.Names) []output.Column[policyView] {
	return []output.Column[policyView]{
		{Head: "id", Cell: func(p policyView) string { return p.ID }},
		{Head: "name", Cell: func(p policyView) string { return p.Name }},
		{Head: "network_protection", Cell: func(p policyView) string { return string(p.Settings.NetworkProtection) }},
		{Head: "priority", Cell: func(p policyView) string { return strconv.Itoa(p.Priority) }},
		{Head: "assigned", Cell: func(p policyView) string {
			if !p.Assigned {
				return "no"
			}
			return groups.Scope(p.Assignment)
		}},
		{Head: "conflicts", Cell: policyView.conflicts},
	}
}

func newPolicyListCmd(s *session.Session) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the policies",
		Example: "  interdict policy list --output csv",
		Args:    usage.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			groups, err := s.Groups(cmd)
			if err != nil {
				return err
			}
			return session.List(s, cmd, "/policies", nil, limit, policyColumns(groups))
		},
	}
	usage.AddLimit(cmd, &limit)
	return cmd
}

func newPolicyShowCmd(s *session.Session) *cobra.Command {
	return &cobra.Command{
		Use:     "show NAME",
		Short:   "Show a policy with its settings",
		Example: "  interdict policy show standard",
		Args:    usage.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			groups, err := s.Groups(cmd)
			if err != nil {
				return err
			}
			columns := append(output.Without(policyColumns(groups), fleet.SettingNetworkProtection),
				output.Column[policyView]{Head: "platforms", Cell: func(p policyView) string { return strings.Join(p.Platforms, ", ") }},
				output.Column[policyView]{Head: "description", Cell: func(p policyView) string { return p.Description }},
				output.Column[policyView]{Head: "version", Cell: func(p policyView) string { return strconv.FormatUint(p.Version, 10) }},
				output.Column[policyView]{Head: "updated", Cell: func(p policyView) string { return output.Time(p.UpdatedAt) }})
			for _, d := range fleet.Definitions() {
				columns = append(columns, output.Column[policyView]{Head: d.Name, Cell: func(p policyView) string { return d.Get(&p.Settings) }})
			}
			return session.Show(s, cmd, "/policies/"+url.PathEscape(args[0]), columns)
		},
	}
}

// policyBody is what is sent to make a policy, or to change one.
type policyBody struct {
	Name        string         `json:"name"`
	Description string         `json:"description,omitempty"`
	Settings    fleet.Settings `json:"settings"`
	Priority    int            `json:"priority,omitempty"`
	Platforms   []string       `json:"platforms,omitempty"`
}

// policyFlags are what create and set have in common.
type policyFlags struct {
	settings    setting.Flags
	description string
	platforms   []string
	priority    int
	wait        session.Wait
}

func (p *policyFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	p.settings.Add(cmd)
	f.StringVar(&p.description, "description", "", "a `text` that says what it is for")
	f.StringSliceVar(&p.platforms, "platform", nil, "only devices with this operating `system`: linux or windows; may be repeated")
	f.IntVar(&p.priority, "priority", 0, "where policies differ the higher `number` wins")
	p.wait.Add(cmd)
}

// apply puts the flags that were typed into a policy.
func (p *policyFlags) apply(cmd *cobra.Command, b *policyBody) error {
	f := cmd.Flags()
	if f.Changed("description") {
		b.Description = p.description
	}
	if f.Changed("platform") {
		b.Platforms = slices.DeleteFunc(slices.Clone(p.platforms), func(name string) bool { return name == "" })
	}
	if f.Changed("priority") {
		b.Priority = p.priority
	}
	return p.settings.Apply(cmd, &b.Settings)
}

func newPolicyCreateCmd(s *session.Session) *cobra.Command {
	var flags policyFlags
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a policy, which reaches no device until it is assigned",
		Example: `  interdict policy create standard --network-protection audit
  interdict policy create strict --network-protection block --bypass-protection block --priority 10 \
    --notification-text '{app} is not allowed here. Ask {contact}.' --support-contact help@example.com`,
		Args: usage.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			b := policyBody{Name: args[0]}
			if err := flags.apply(cmd, &b); err != nil {
				return err
			}
			c, err := s.Client()
			if err != nil {
				return err
			}
			raw, err := c.Post(cmd.Context(), "/policies", b)
			if err != nil {
				return err
			}
			return s.Changed(cmd, flags.wait, raw, "made policy %s", args[0])
		},
	}
	flags.add(cmd)
	return cmd
}

func newPolicySetCmd(s *session.Session) *cobra.Command {
	var flags policyFlags
	var trial rolloutcmd.Trial
	var name string
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Change settings of a policy",
		Long: `Set changes what its flags name and leaves the rest. --unset, or an empty value,
leaves a setting to the next policy in line, or to its default. With --canary
one group tries the change out before everybody has it.`,
		Example: `  interdict policy set standard --network-protection block --wait
  interdict policy set standard --network-protection block --canary pilot --advance-after 4h --stop-at 20
  interdict policy set standard --unset fail-mode --platform linux`,
		Args: usage.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := usage.CheckEdit(cmd); err != nil {
				return err
			}
			// What is wrong with the flags is wrong whatever the policy is.
			if err := flags.apply(cmd, &policyBody{}); err != nil {
				return err
			}
			if try, err := trial.Wanted(cmd, "name", "description"); err != nil {
				return err
			} else if try {
				return tryPolicy(s, cmd, trial, &flags, args[0])
			}
			c, err := s.Client()
			if err != nil {
				return err
			}
			raw, err := client.Edit(cmd.Context(), c, http.MethodPut, "/policies/"+url.PathEscape(args[0]), func(p *fleet.Policy) (any, error) {
				b := policyBody{
					Name: cmp.Or(name, p.Name), Description: p.Description, Settings: p.Settings, Priority: p.Priority, Platforms: p.Platforms,
				}
				return b, flags.apply(cmd, &b)
			})
			if err != nil {
				return err
			}
			return s.Changed(cmd, flags.wait, raw, "changed policy %s", args[0])
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "a new `name`")
	flags.settings.AddUnset(cmd)
	trial.Add(cmd)
	flags.add(cmd)
	return cmd
}

// tryPolicy starts the trial of changed settings.
func tryPolicy(s *session.Session, cmd *cobra.Command, t rolloutcmd.Trial, flags *policyFlags, name string) error {
	c, err := s.Client()
	if err != nil {
		return err
	}
	raw, err := c.Get(cmd.Context(), "/policies/"+url.PathEscape(name), nil)
	if err != nil {
		return err
	}
	p, err := client.Decode[fleet.Policy](raw)
	if err != nil {
		return err
	}
	b := policyBody{Settings: p.Settings, Priority: p.Priority, Platforms: p.Platforms}
	if err := flags.apply(cmd, &b); err != nil {
		return err
	}
	return t.Start(s, cmd, flags.wait, rolloutcmd.Change{Policy: &rolloutcmd.PolicyChange{
		Policy: p.ID, Version: p.Version, Settings: &b.Settings, Priority: &b.Priority, Platforms: b.Platforms,
	}})
}

func newPolicyAssignCmd(s *session.Session) *cobra.Command {
	var scope indicator.Scope
	var all bool
	var trial rolloutcmd.Trial
	var wait session.Wait
	cmd := &cobra.Command{
		Use:   "assign NAME --include-group GROUP | --all-devices",
		Short: "Say which devices a policy reaches",
		Long: `Assign replaces the policy's assignment. --all-devices assigns it to every
device; --exclude-group takes the devices of a group out again. With --canary one
group tries the new assignment out first.`,
		Example: `  interdict policy assign standard --include-group laptops --wait
  interdict policy assign standard --all-devices --exclude-group lab`,
		Args: usage.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(scope.Include) > 0) {
				return usage.Fault(cmd, "give either --include-group or --all-devices")
			}
			if try, err := trial.Wanted(cmd); err != nil {
				return err
			} else if try {
				return trial.Start(s, cmd, wait, rolloutcmd.Change{Policy: &rolloutcmd.PolicyChange{Policy: args[0], Assignment: &scope}})
			}
			c, err := s.Client()
			if err != nil {
				return err
			}
			raw, err := client.EditPart(cmd.Context(), c, http.MethodPut, "/policies/"+url.PathEscape(args[0]), "/assignment",
				func(*fleet.Policy) (any, error) { return scope, nil })
			if err != nil {
				return err
			}
			return s.Changed(cmd, wait, raw, "assigned policy %s to %s", args[0], output.Scope(scope.Include, scope.Exclude))
		},
	}
	cmd.Flags().StringSliceVar(&scope.Include, "include-group", nil, "only devices of this `group`, or device:NAME; may be repeated")
	cmd.Flags().StringSliceVar(&scope.Exclude, "exclude-group", nil, "not the devices of this `group`, whatever else they are in; may be repeated")
	cmd.Flags().BoolVar(&all, "all-devices", false, "every device")
	trial.Add(cmd)
	wait.Add(cmd)
	return cmd
}

func newPolicyDeleteCmd(s *session.Session) *cobra.Command {
	var wait session.Wait
	var force bool
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a policy",
		Long: `Delete removes a policy. One that is assigned is left alone, because the devices
it reaches would fall back to other policies or to the defaults; --force deletes
it nevertheless.`,
		Example: "  interdict policy delete pilot --wait",
		Args:    usage.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{}
			if force {
				q.Set("force", "true")
			}
			return s.Remove(cmd, wait, session.Removal{Path: "/policies/", Ref: args[0], Kind: "policy", Query: q})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "delete it though it is assigned")
	wait.Add(cmd)
	return cmd
}
