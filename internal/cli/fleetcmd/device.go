// Package fleetcmd has the commands about what is enrolled and how it is
// configured: devices, device groups, and configuration policies.
package fleetcmd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/cli/output"
	"interdict/internal/cli/session"
	"interdict/internal/cli/usage"
	"interdict/internal/fault"
	"interdict/internal/fleet"
)

// NewDevice makes the commands about devices.
func NewDevice(s *session.Session) *cobra.Command {
	return usage.Parent("device", "Look at and change enrolled devices",
		`A device is a machine that was enrolled with 'interdict-agent enroll TOKEN'. It
is named by its name or its id.`,
		newDeviceListCmd(s), newDeviceShowCmd(s), newDeviceSetCmd(s), newDeviceDeleteCmd(s), newDeviceSyncCmd(s))
}

// deviceView is a device as the API shows it.
type deviceView struct {
	fleet.Device

	Effective fleet.Effective `json:"effective"`
	Settings  []settingView   `json:"settings"`
}

// conflicts are the settings that policies of the same priority make
// differently.
func (d deviceView) conflicts() string {
	var all []string
	for _, c := range d.Effective.Conflicts {
		all = append(all, c.Setting)
	}
	return strings.Join(slices.Compact(all), ", ")
}

func deviceColumns() []output.Column[deviceView] {
	return []output.Column[deviceView]{
		{Head: "id", Cell: func(d deviceView) string { return string(d.ID) }},
		{Head: "name", Cell: func(d deviceView) string { return d.Name }},
		{Head: "online", Cell: func(d deviceView) string {
			if d.Online {
				return "yes"
			}
			return "no"
		}},
		{Head: "state", Cell: func(d deviceView) string { return string(d.State()) }},
		{Head: "network_protection", Cell: func(d deviceView) string { return string(d.Mode(d.Effective.Settings.NetworkProtection)) }},
		{Head: "conflicts", Cell: deviceView.conflicts},
		{Head: "os", Cell: func(d deviceView) string { return strings.TrimSpace(d.OS + " " + d.OSVersion) }},
		{Head: "agent", Cell: func(d deviceView) string { return d.AgentVersion }},
		{Head: "labels", Cell: func(d deviceView) string { return output.Labels(d.Labels) }},
		{Head: "last_seen", Cell: func(d deviceView) string { return output.Time(d.LastSeen) }},
	}
}

func newDeviceListCmd(s *session.Session) *cobra.Command {
	var group, search string
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the devices, whether they are online, and how far they are",
		Long: `List prints the devices, whether they are connected, and whether they enforce all
that they have to. With --output csv or json there are ids, operating systems and
times as well.`,
		Example: `  interdict device list --group laptops
  interdict device list --search berlin --output csv`,
		Args: usage.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			client.SetQuery(q, "group", group)
			client.SetQuery(q, "search", search)
			columns := deviceColumns()
			if s.Format == output.FormatTable {
				// A table is for the eye, and has to fit.
				columns = output.Without(columns, "id", "os", "last_seen")
			}
			return session.List(s, cmd, "/devices", q, limit, columns)
		},
	}
	cmd.Flags().StringVar(&group, "group", "", "only devices of this `group`")
	cmd.Flags().StringVar(&search, "search", "", "only with this `text` in id, name, host name or labels")
	usage.AddLimit(cmd, &limit)
	return cmd
}

func newDeviceShowCmd(s *session.Session) *cobra.Command {
	return &cobra.Command{
		Use:     "show NAME",
		Short:   "Show a device, each of its settings with where it comes from, and what ails it",
		Example: "  interdict device show alice-pc",
		Args:    usage.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.Client()
			if err != nil {
				return err
			}
			raw, err := c.Get(cmd.Context(), "/devices/"+url.PathEscape(args[0]), nil)
			if err != nil {
				return err
			}
			groups, err := s.Groups(cmd)
			if err != nil {
				return err
			}
			columns := append(output.Without(deviceColumns(), fleet.SettingNetworkProtection),
				output.Column[deviceView]{Head: "error", Cell: func(d deviceView) string { return d.Applied.Error }},
				output.Column[deviceView]{Head: "version", Cell: func(d deviceView) string { return versionText(d.Applied.Version) }},
				output.Column[deviceView]{Head: "applied", Cell: func(d deviceView) string { return output.Time(d.Applied.Since) }},
				output.Column[deviceView]{Head: "groups", Cell: func(d deviceView) string { return groups.List(d.Groups) }},
				output.Column[deviceView]{Head: "hostname", Cell: func(d deviceView) string { return d.Hostname }},
				output.Column[deviceView]{Head: "enrolled", Cell: func(d deviceView) string { return output.Time(d.EnrolledAt) }},
				output.Column[deviceView]{Head: "health", Cell: deviceHealth})
			if err = output.One(s.Stdout, s.Format, raw, columns); err != nil || s.Format != output.FormatTable {
				return err
			}
			return printSettings(s, raw)
		},
	}
}

// deviceHealth are the lasting faults of a device.
func deviceHealth(d deviceView) string {
	all := make([]string, len(d.Applied.Health))
	for i, h := range d.Applied.Health {
		all[i] = fmt.Sprintf("%s since %s: %s", h.Code, output.Time(h.Since), h.Text)
	}
	return strings.Join(all, "; ")
}

// printSettings prints the settings of a device as a table.
func printSettings(s *session.Session, raw json.RawMessage) error {
	d, err := client.Decode[deviceView](raw)
	if err != nil {
		return err
	}
	fmt.Fprintln(s.Stdout)
	rows := make([][]string, 0, len(d.Settings))
	for i := range d.Settings {
		v := &d.Settings[i]
		rows = append(rows, []string{v.Setting, v.inForce(), string(v.State), versionText(v.Version), output.Time(v.Since), v.from(), v.noted(v.decided())})
	}
	return output.Table(s.Stdout, []string{"setting", "value", "state", "version", "since", "from", "note"}, rows)
}

// deviceEdit says how a device is to be changed.
type deviceEdit struct {
	name string
	// set and drop are labels.
	set  map[string]string
	drop []string
}

// body returns what is sent to change the device d.
func (e *deviceEdit) body(d *deviceView) (any, error) {
	body := map[string]any{}
	if e.name != "" {
		body["name"] = e.name
	}
	if len(e.set)+len(e.drop) > 0 {
		labels := map[string]string{}
		maps.Copy(labels, d.Labels)
		for _, k := range e.drop {
			delete(labels, k)
		}
		maps.Copy(labels, e.set)
		body["labels"] = labels
	}
	return body, nil
}

func newDeviceSetCmd(s *session.Session) *cobra.Command {
	var e deviceEdit
	var labels []string
	var wait session.Wait
	cmd := &cobra.Command{
		Use:     "set NAME",
		Short:   "Change a device's name or labels",
		Example: "  interdict device set alice-pc --label site=berlin --remove-label pilot",
		Args:    usage.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err = usage.CheckEdit(cmd); err != nil {
				return err
			}
			if e.set, err = usage.Labels("label", labels); err != nil {
				return err
			}
			c, err := s.Client()
			if err != nil {
				return err
			}
			raw, err := client.Edit(cmd.Context(), c, http.MethodPatch, "/devices/"+url.PathEscape(args[0]), e.body)
			if err != nil {
				return err
			}
			return s.Changed(cmd, wait, raw, "changed device %s", args[0])
		},
	}
	cmd.Flags().StringVar(&e.name, "name", "", "a new `name`")
	cmd.Flags().StringArrayVar(&labels, "label", nil, "set a label, `KEY=VALUE`; may be repeated")
	cmd.Flags().StringArrayVar(&e.drop, "remove-label", nil, "take the label with this `key` away; may be repeated")
	wait.Add(cmd)
	return cmd
}

func newDeviceDeleteCmd(s *session.Session) *cobra.Command {
	return &cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete a device; it has to enrol again to come back",
		Example: "  interdict device delete alice-pc",
		Args:    usage.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.Remove(cmd, session.Wait{}, session.Removal{Path: "/devices/", Ref: args[0], Kind: "device"})
		},
	}
}

func newDeviceSyncCmd(s *session.Session) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "sync NAME",
		Short: "Ask a device to check for changes now, and wait until it has applied them",
		Long: `Sync returns when the device has said that it enforces the newest of what it has
to, and says which version that is. A device that is not connected, or cannot
apply it, is a failure.`,
		Example: "  interdict device sync alice-pc",
		Args:    usage.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.Client()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			raw, err := c.PostAndWait(ctx, "/devices/"+url.PathEscape(args[0])+"/sync")
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fault.New(fault.Internal, "device %s did not answer within %s", args[0], timeout).
					WithHint("see 'interdict device show %s'", args[0])
			}
			if err != nil {
				return err
			}
			return printSynced(s, raw)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "give up after this `time`")
	return cmd
}

// synced is a device that was asked to check, and has.
type synced struct {
	deviceView

	Took float64 `json:"took_seconds"`
}

// printSynced says what a device enforces. That it could not apply the newest is
// an error.
func printSynced(s *session.Session, raw json.RawMessage) error {
	d, err := client.Decode[synced](raw)
	if err != nil {
		return err
	}
	switch s.Format {
	case output.FormatJSON:
		err = output.JSON(s.Stdout, raw)
	case output.FormatCSV:
		err = output.One(s.Stdout, s.Format, raw, []output.Column[synced]{
			{Head: "id", Cell: func(d synced) string { return string(d.ID) }},
			{Head: "name", Cell: func(d synced) string { return d.Name }},
			{Head: "state", Cell: func(d synced) string { return string(d.State()) }},
			{Head: "version", Cell: func(d synced) string { return versionText(d.Applied.Version) }},
			{Head: "took_seconds", Cell: func(d synced) string { return strconv.FormatFloat(d.Took, 'f', 3, 64) }},
		})
	default:
		_, err = fmt.Fprintf(s.Stdout, "%s enforces version %d, network protection %s, in %s\n",
			output.Printable(d.Name), d.Applied.Version, cmp.Or(d.Applied.Mode, fleet.ModeDisabled), tookText(d.Took))
	}
	if err == nil && d.Applied.Error != "" {
		return fault.New(fault.Internal, "device %s could not apply the newest version: %s", d.Name, d.Applied.Error).
			WithHint("type 'interdict-agent doctor' on the device")
	}
	return err
}
