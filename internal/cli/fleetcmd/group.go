package fleetcmd

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/cli/output"
	"interdict/internal/cli/session"
	"interdict/internal/cli/usage"
	"interdict/internal/fleet"
)

// NewGroup makes the commands about device groups.
func NewGroup(s *session.Session) *cobra.Command {
	return usage.Parent("group", "Look at and change device groups",
		`A device group has static members, and every device for which its rule is true.
A rule is an expression over name, hostname, os, os_version, arch, version (of
the agent), labels and enrolled_at, such as

    os == "linux" && "finance" in labels && version < "1.4"

Devices come and go with what they are; 'interdict group preview' says who
would be in. Groups say where policies, tags and indicators count. A group is
named by its name or its id; where a scope has groups, device:NAME stands for a
single device.`,
		newGroupListCmd(s), newGroupShowCmd(s), newGroupPreviewCmd(s), newGroupCreateCmd(s), newGroupSetCmd(s), newGroupDeleteCmd(s))
}

// groupView is a group as the API shows it.
type groupView struct {
	fleet.Group

	Devices   int    `json:"devices"`
	RuleError string `json:"rule_error"`
}

func groupColumns() []output.Column[groupView] {
	return []output.Column[groupView]{
		{Head: "id", Cell: func(g groupView) string { return g.ID }},
		{Head: "name", Cell: func(g groupView) string { return g.Name }},
		{Head: "devices", Cell: func(g groupView) string { return strconv.Itoa(g.Devices) }},
		{Head: "rule", Cell: func(g groupView) string { return g.Rule }},
		{Head: "description", Cell: func(g groupView) string { return g.Description }},
	}
}

func newGroupListCmd(s *session.Session) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the device groups",
		Example: "  interdict group list --output csv",
		Args:    usage.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return session.List(s, cmd, "/groups", nil, limit, groupColumns())
		},
	}
	usage.AddLimit(cmd, &limit)
	return cmd
}

func newGroupShowCmd(s *session.Session) *cobra.Command {
	return &cobra.Command{
		Use:     "show NAME",
		Short:   "Show a group with its members",
		Example: "  interdict group show laptops",
		Args:    usage.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			devices := s.NamesOfDevices(cmd, url.Values{"group": args})
			return session.Show(s, cmd, "/groups/"+url.PathEscape(args[0]), append(groupColumns(),
				output.Column[groupView]{Head: "rule_error", Cell: func(g groupView) string { return g.RuleError }},
				output.Column[groupView]{Head: "members", Cell: func(g groupView) string { return devices.List(memberIDs(g)) }},
				output.Column[groupView]{Head: "created", Cell: func(g groupView) string { return output.Time(g.CreatedAt) }}))
		},
	}
}

func memberIDs(g groupView) []string {
	ids := make([]string, len(g.Members))
	for i, id := range g.Members {
		ids[i] = string(id)
	}
	return ids
}

// groupBody is what is sent to make a group, or to change one.
type groupBody struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Members     []string `json:"members,omitempty"`
	Rule        string   `json:"rule,omitempty"`
}

// groupFlags are what create and set have in common.
type groupFlags struct {
	description, rule string
	wait              session.Wait
}

func (g *groupFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&g.description, "description", "", "a `text` that says what it is for")
	cmd.Flags().StringVar(&g.rule, "rule", "", ruleHelp)
	g.wait.Add(cmd)
}

func newGroupCreateCmd(s *session.Session) *cobra.Command {
	var flags groupFlags
	var members []string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a device group",
		Example: `  interdict group create laptops --rule 'labels.kind == "laptop"'
  interdict group create pilots --member alice-pc --member bob-pc`,
		Args: usage.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.Client()
			if err != nil {
				return err
			}
			raw, err := c.Post(cmd.Context(), "/groups",
				groupBody{Name: args[0], Description: flags.description, Members: members, Rule: flags.rule})
			if err != nil {
				return pointAt(s, flags.rule, err)
			}
			return s.Changed(cmd, flags.wait, raw, "made group %s", args[0])
		},
	}
	cmd.Flags().StringSliceVar(&members, "member", nil, "a static member, the `name` or id of a device; may be repeated")
	flags.add(cmd)
	return cmd
}

// groupEdit says how a group is to be changed.
type groupEdit struct {
	name string
	add  []string
	drop []fleet.DeviceID
	// description and rule are nil where they are to stay.
	description, rule *string
}

// body returns what is sent to change the group g.
func (e *groupEdit) body(g *groupView) (any, error) {
	b := groupBody{Name: cmp.Or(e.name, g.Name), Description: g.Description, Rule: g.Rule, Members: e.add}
	if e.description != nil {
		b.Description = *e.description
	}
	if e.rule != nil {
		b.Rule = *e.rule
	}
	for _, id := range g.Members {
		if !slices.Contains(e.drop, id) {
			b.Members = append(b.Members, string(id))
		}
	}
	return b, nil
}

// read takes the flags that were typed into the edit.
func (e *groupEdit) read(cmd *cobra.Command, flags *groupFlags) {
	if cmd.Flags().Changed("description") {
		e.description = &flags.description
	}
	if cmd.Flags().Changed("rule") {
		e.rule = &flags.rule
	}
}

func newGroupSetCmd(s *session.Session) *cobra.Command {
	var flags groupFlags
	var e groupEdit
	var drop []string
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Change a device group",
		Long: `Set changes what its flags name and leaves the rest. --rule "" takes the rule
away.`,
		Example: `  interdict group set pilots --add-member carol-pc --remove-member bob-pc
  interdict group set laptops --rule 'labels.kind == "laptop" && labels.site == "berlin"'`,
		Args: usage.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := usage.CheckEdit(cmd); err != nil {
				return err
			}
			e.read(cmd, &flags)
			c, err := s.Client()
			if err != nil {
				return err
			}
			if e.drop, err = deviceIDs(cmd, c, drop); err != nil {
				return err
			}
			raw, err := client.Edit(cmd.Context(), c, http.MethodPut, "/groups/"+url.PathEscape(args[0]), e.body)
			if err != nil {
				return pointAt(s, flags.rule, err)
			}
			return s.Changed(cmd, flags.wait, raw, "changed group %s", args[0])
		},
	}
	cmd.Flags().StringVar(&e.name, "name", "", "a new `name`")
	cmd.Flags().StringSliceVar(&e.add, "add-member", nil, "make this `device` a static member; may be repeated")
	cmd.Flags().StringSliceVar(&drop, "remove-member", nil, "this `device` ceases to be a static member; may be repeated")
	flags.add(cmd)
	return cmd
}

// deviceIDs looks up the ids of devices that are named by id or name.
func deviceIDs(cmd *cobra.Command, c *client.Client, refs []string) ([]fleet.DeviceID, error) {
	var ids []fleet.DeviceID
	for _, ref := range refs {
		raw, err := c.Get(cmd.Context(), "/devices/"+url.PathEscape(ref), nil)
		if err != nil {
			return nil, err
		}
		d, err := client.Decode[fleet.Device](raw)
		if err != nil {
			return nil, err
		}
		ids = append(ids, d.ID)
	}
	return ids, nil
}

func newGroupDeleteCmd(s *session.Session) *cobra.Command {
	var wait session.Wait
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a device group",
		Long: `Delete removes a group. One that a policy, tag, indicator or token refers to is
left alone, and those are named.`,
		Example: "  interdict group delete pilots",
		Args:    usage.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.Remove(cmd, wait, session.Removal{Path: "/groups/", Ref: args[0], Kind: "group"})
		},
	}
	wait.Add(cmd)
	return cmd
}
