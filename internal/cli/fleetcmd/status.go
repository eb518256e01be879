package fleetcmd

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/cli/output"
	"interdict/internal/cli/session"
	"interdict/internal/cli/usage"
	"interdict/internal/fleet"
)

// policyStatus says how far a policy has come, as the API does.
type policyStatus struct {
	Policy    fleet.Policy      `json:"policy"`
	Counts    fleet.StateCounts `json:"counts"`
	Conflicts []policyConflict  `json:"conflicts"`
	Took      float64           `json:"took_seconds"`
}

// policyConflict is a conflict, and how many devices have it.
type policyConflict struct {
	fleet.Conflict

	Devices int `json:"devices"`
}

// policyDevice is a device that a policy is assigned to.
type policyDevice struct {
	ID       fleet.DeviceID     `json:"id"`
	Name     string             `json:"name"`
	State    fleet.SettingState `json:"state"`
	Online   bool               `json:"online"`
	LastSeen time.Time          `json:"last_seen"`
	Applied  fleet.Applied      `json:"applied"`
	Settings []settingView      `json:"settings"`
}

// settingView is a setting of a device.
type settingView struct {
	fleet.SettingStatus
	PolicyName string `json:"policy_name"`
}

func newPolicyStatusCmd(s *session.Session) *cobra.Command {
	var state string
	var limit int
	cmd := &cobra.Command{
		Use:   "status NAME",
		Short: "Show how far a policy has come, its conflicts, and the devices that do not enforce it",
		Long: `Status says on how many devices the policy is in force, and how long the newest
change took to get there. Then come its conflicts with other policies, with the
values of both, and the devices that do not enforce it, with the reason. --state
shows the devices in one state instead: applied, pending, offline, error,
conflict or not_applicable; with all, every device.`,
		Example: `  interdict policy status standard
  interdict policy status standard --state offline --output csv`,
		Args: usage.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.Client()
			if err != nil {
				return err
			}
			path := "/policies/" + url.PathEscape(args[0])
			raw, err := c.Get(cmd.Context(), path+"/status", nil)
			if err != nil {
				return err
			}
			devices, err := s.Items(cmd, path+"/devices", stateQuery(s, state), limit)
			if err != nil {
				return err
			}
			return printPolicyStatus(s, raw, devices)
		},
	}
	cmd.Flags().StringVar(&state, "state", "", "the devices in this `state`, or all")
	usage.AddLimit(cmd, &limit)
	return cmd
}

// stateQuery asks for devices in a state; where none was typed, people see
// those that are not done, and programs all.
func stateQuery(s *session.Session, state string) url.Values {
	q := url.Values{}
	switch {
	case state == "" && s.Format == output.FormatTable:
		q.Set("state", "error,conflict,pending,offline")
	case state != "all":
		client.SetQuery(q, "state", state)
	}
	return q
}

func printPolicyStatus(s *session.Session, raw json.RawMessage, devices []json.RawMessage) error {
	columns := []output.Column[policyDevice]{
		{Head: "id", Cell: func(d policyDevice) string { return string(d.ID) }},
		{Head: "name", Cell: func(d policyDevice) string { return d.Name }},
		{Head: "state", Cell: func(d policyDevice) string { return string(d.State) }},
		{Head: "version", Cell: func(d policyDevice) string { return versionText(d.Applied.Version) }},
		{Head: "applied", Cell: func(d policyDevice) string { return output.Time(d.Applied.Since) }},
		{Head: "settings", Cell: policyDevice.held},
		{Head: "last_seen", Cell: func(d policyDevice) string { return output.Time(d.LastSeen) }},
		{Head: "why", Cell: policyDevice.why},
	}
	switch s.Format {
	case output.FormatCSV:
		return output.List(s.Stdout, s.Format, devices, columns)
	case output.FormatJSON:
		return mergeJSON(s, raw, devices)
	}
	st, err := client.Decode[policyStatus](raw)
	if err != nil {
		return err
	}
	fmt.Fprintln(s.Stdout, st.sentence())
	for _, c := range st.Conflicts {
		fmt.Fprintf(s.Stdout, "conflict on %s: %s is %s by %s, and %s by %s, which has the same priority\n",
			devicesText(c.Devices), c.Setting, output.Printable(c.Value), output.Printable(c.PolicyName),
			output.Printable(c.OverruledValue), output.Printable(c.OverruledName))
	}
	if len(devices) == 0 {
		return nil
	}
	fmt.Fprintln(s.Stdout)
	return output.List(s.Stdout, s.Format, devices, output.Without(columns, "id", "last_seen", "settings"))
}

// mergeJSON prints the status with the devices in it.
func mergeJSON(s *session.Session, raw json.RawMessage, devices []json.RawMessage) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return fmt.Errorf("reading the server's answer: %w", err)
	}
	if devices == nil {
		devices = []json.RawMessage{}
	}
	list, err := json.Marshal(devices)
	if err != nil {
		return fmt.Errorf("writing JSON: %w", err)
	}
	fields["devices"] = list
	return output.JSON(s.Stdout, fields)
}

// sentence says how far the policy has come.
func (st *policyStatus) sentence() string {
	c := &st.Counts
	text := output.Printable(st.Policy.Name) + ": "
	switch {
	case !st.Policy.Assigned:
		return text + "not assigned to any device"
	case c.Total == 0:
		return text + "no device is concerned"
	}
	text += fmt.Sprintf("applied on %s of %s", thousands(c.Applied), devicesText(c.Concerned()))
	if st.Took > 0 && c.Applied > 0 {
		text += ", in " + tookText(st.Took)
	}
	for _, more := range []struct {
		n    int
		word string
	}{
		{c.Failed, "with an error"}, {c.Conflict, "in conflict"}, {c.Pending, "pending"}, {c.Offline, "offline"}, {c.NotApplicable, "not applicable"},
	} {
		if more.n > 0 {
			text += fmt.Sprintf("; %s %s", thousands(more.n), more.word)
		}
	}
	return text
}

func devicesText(n int) string {
	if n == 1 {
		return "1 device"
	}
	return thousands(n) + " devices"
}

// tookText writes seconds as precisely as anybody wants to know.
func tookText(seconds float64) string {
	switch {
	case seconds < 0.1:
		return strconv.FormatFloat(seconds*1000, 'f', 0, 64) + " ms"
	case seconds < 10:
		return strconv.FormatFloat(seconds, 'f', 1, 64) + " s"
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}

// thousands writes a number with a comma between its thousands.
func thousands(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func versionText(v uint64) string {
	if v == 0 {
		return ""
	}
	return strconv.FormatUint(v, 10)
}

// held says of each setting with which version it came to be in force, and when.
func (d policyDevice) held() string {
	var all []string
	for i := range d.Settings {
		if v := &d.Settings[i]; v.Version > 0 {
			all = append(all, fmt.Sprintf("%s: version %d, %s", v.Setting, v.Version, output.Time(v.Since)))
		}
	}
	return strings.Join(all, "; ")
}

// why says why a device is in its state.
func (d policyDevice) why() string {
	var all []string
	for i := range d.Settings {
		if v := &d.Settings[i]; v.State == d.State {
			if note := v.note(); note != "" {
				all = append(all, v.Setting+": "+note)
			}
		}
	}
	switch {
	case len(all) > 0 && d.State == fleet.SettingNotApplicable && d.Settings[0].Text != "":
		return d.Settings[0].Text
	case len(all) > 0:
		return strings.Join(all, "; ")
	case d.State == fleet.SettingOffline && d.LastSeen.IsZero():
		return "never seen"
	case d.State == fleet.SettingOffline:
		return "offline since " + output.Time(d.LastSeen)
	}
	return d.Applied.Error
}

// elsewhere reports whether something else is in force than was decided.
func (v *settingView) elsewhere() bool { return v.InForce != "" && v.InForce != v.Value }

// inForce is the value in force.
func (v *settingView) inForce() string { return cmp.Or(v.InForce, v.Value) }

// from says where the value in force comes from.
func (v *settingView) from() string {
	if v.elsewhere() && v.Channel != fleet.ChannelServer {
		return string(v.Channel)
	}
	return cmp.Or(v.PolicyName, v.Policy, string(v.Channel), string(fleet.ChannelDefault))
}

// decided says what was decided, where something else is in force.
func (v *settingView) decided() string {
	if !v.elsewhere() {
		return ""
	}
	return fmt.Sprintf("%s decided by %s", v.Value, cmp.Or(v.PolicyName, v.Policy, string(fleet.ChannelDefault)))
}

// note says what there is to say of a setting beside its state.
func (v *settingView) note() string {
	if !v.elsewhere() {
		return v.noted("")
	}
	return v.noted(fmt.Sprintf("%s in force by %s", v.InForce, v.Channel))
}

// noted is note with another text about what is in force.
func (v *settingView) noted(force string) string {
	var all []string
	for _, c := range v.Conflicts {
		all = append(all, fmt.Sprintf("%s by %s, %s by %s", c.Value, c.PolicyName, c.OverruledValue, c.OverruledName))
	}
	if v.Refused != "" && len(v.Conflicts) == 0 {
		all = append(all, fmt.Sprintf("%s by %s, which goes before", v.Value, v.PolicyName))
	}
	if force != "" {
		all = append(all, force)
	}
	if v.Text != "" {
		all = append(all, v.Text)
	}
	return strings.Join(all, ", ")
}
