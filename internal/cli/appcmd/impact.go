package appcmd

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/cli/output"
	"interdict/internal/cli/profile"
	"interdict/internal/cli/session"
	"interdict/internal/cloudapp"
	"interdict/internal/indicator"
)

// impact is what a tag would do, as the API tells it.
type impact struct {
	Tag     cloudapp.Tag      `json:"tag"`
	Since   time.Time         `json:"since"`
	Scope   indicator.Profile `json:"scope"`
	Devices int               `json:"devices"`
	Include []groupSize       `json:"include_groups"`
	Exclude []groupSize       `json:"exclude_groups"`
	// Reporting says how far the figures of use can be trusted.
	Reporting reporting   `json:"reporting"`
	Total     appUse      `json:"total"`
	Apps      []appImpact `json:"apps"`
}

// reporting says what the figures of use leave out.
type reporting struct {
	Silent         int  `json:"devices_not_reporting"`
	NeverConnected int  `json:"never_connected"`
	Disabled       int  `json:"network_protection_disabled"`
	Off            int  `json:"usage_reporting_off"`
	Delay          int  `json:"delay_seconds"`
	UsersTogether  bool `json:"users_not_told_apart"`
}

// text says it of so many devices in scope.
func (r *reporting) text(devices int) string {
	text := fmt.Sprintf("figures are up to %d minutes old", r.Delay/60)
	if r.Silent > 0 {
		text = fmt.Sprintf("%d of %s in scope do not report use (network protection disabled: %d, usage reporting off: %d, never connected: %d); %s",
			r.Silent, output.Count(devices, "device", "devices"), r.Disabled, r.Off, r.NeverConnected, text)
	}
	if r.UsersTogether {
		text += "; users are not told apart in these figures"
	}
	return text
}

type groupSize struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Devices int    `json:"devices"`
}

type appUse struct {
	Devices        int         `json:"devices"`
	DevicesInScope int         `json:"devices_in_scope"`
	Users          int         `json:"users"`
	Processes      int         `json:"processes"`
	TopDevices     []nameCount `json:"top_devices"`
	TopUsers       []nameCount `json:"top_users"`
	TopProcesses   []nameCount `json:"top_processes"`
}

type nameCount struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

type appImpact struct {
	ID      string           `json:"id"`
	Name    string           `json:"name"`
	Tagging cloudapp.Tagging `json:"tagging"`
	Domains []string         `json:"domains"`
	Shared  []string         `json:"shared_domains"`
	Spared  []struct {
		Domain  string `json:"domain"`
		AppName string `json:"app_name"`
	} `json:"spared"`
	Added   []string              `json:"added_indicators"`
	Changed []string              `json:"changed_indicators"`
	Removed []string              `json:"removed_indicators"`
	Allows  []indicator.Indicator `json:"allowed_by"`
	Use     appUse                `json:"use"`
}

// sayImpact prints what tagging apps would do, and does nothing else.
func sayImpact(s *session.Session, cmd *cobra.Command, request map[string]any) error {
	c, err := s.Client()
	if err != nil {
		return err
	}
	raw, err := c.Post(cmd.Context(), "/apps/impact", request)
	if err != nil {
		return err
	}
	if s.Format == output.FormatJSON {
		return output.JSON(s.Stdout, raw)
	}
	i, err := client.Decode[impact](raw)
	if err != nil {
		return err
	}
	if s.Format == output.FormatCSV {
		return printImpactRows(s, i)
	}
	groups, err := s.Groups(cmd)
	if err != nil {
		return err
	}
	if err := printImpact(s, i, groups); err != nil {
		return err
	}
	fmt.Fprintln(s.Stderr, "nothing was changed")
	return nil
}

func printImpactRows(s *session.Session, i impact) error {
	heads := []string{
		"id", "tag_now", "tag", "devices_in_scope", "used_by_devices", "used_by_devices_in_scope", "used_by_users", "used_by_processes",
		"domains", "shared", "spared", "added", "changed", "removed", "allowed_by",
		"devices_not_reporting", "network_protection_disabled", "usage_reporting_off", "never_connected",
	}
	rows := make([][]string, 0, len(i.Apps))
	for _, a := range i.Apps {
		row := []string{a.ID, string(a.Tagging.Tag), string(i.Tag)}
		for _, n := range []int{
			i.Devices, a.Use.Devices, a.Use.DevicesInScope, a.Use.Users, a.Use.Processes,
			len(a.Domains), len(a.Shared), len(a.Spared), len(a.Added), len(a.Changed), len(a.Removed), len(a.Allows),
			i.Reporting.Silent, i.Reporting.Disabled, i.Reporting.Off, i.Reporting.NeverConnected,
		} {
			row = append(row, strconv.Itoa(n))
		}
		rows = append(rows, row)
	}
	return output.CSV(s.Stdout, heads, rows)
}

// printImpact prints a report for people.
func printImpact(s *session.Session, i impact, groups session.Names) error {
	w := tabwriter.NewWriter(s.Stdout, 0, 0, 2, ' ', 0)
	line := func(head, text string) {
		if text != "" {
			fmt.Fprintf(w, "  %s\t%s\n", head, output.Printable(text))
		}
	}
	fmt.Fprintf(w, "tag %s reaches %s: %s\n", i.Tag, output.Count(i.Devices, "device", "devices"),
		output.Printable(i.reach()))
	fmt.Fprintln(w, i.Reporting.text(i.Devices))
	use := func(u appUse) {
		line("used since "+i.Since.UTC().Format(time.DateOnly), u.String())
		line("most on", counts(u.TopDevices))
		line("most by users", counts(u.TopUsers))
		line("most by programs", counts(u.TopProcesses))
	}
	for _, a := range i.Apps {
		fmt.Fprintf(w, "\n%s\n", output.Printable(a.title(groups)))
		use(a.Use)
		line("indicators", fmt.Sprintf("%d new, %d changed, %d removed", len(a.Added), len(a.Changed), len(a.Removed)))
		line("domains", strings.Join(a.Domains, ", "))
		line("shared, left out", strings.Join(a.Shared, ", "))
		line("spared", a.spared())
		line("allowed all the same", a.allowed(groups))
	}
	if len(i.Apps) > 1 {
		fmt.Fprint(w, "\nall of them together\n")
		use(i.Total)
	}
	return w.Flush()
}

// reach says whom the tag is for, with the sizes of groups.
func (i *impact) reach() string {
	known := make(map[string]string)
	for _, g := range append(i.Include, i.Exclude...) {
		known[g.ID] = fmt.Sprintf("%s (%s)", g.Name, output.Count(g.Devices, "device", "devices"))
	}
	return profile.Text(&i.Scope, session.NewNames(known).Scope)
}

// String says by how many apps were used.
func (u appUse) String() string {
	if u.Devices == 0 {
		return "by nobody"
	}
	return fmt.Sprintf("by %s (%d in scope), %s, %s", output.Count(u.Devices, "device", "devices"), u.DevicesInScope,
		output.Count(u.Users, "user", "users"), output.Count(u.Processes, "program", "programs"))
}

// title names the app and its tag until now.
func (a *appImpact) title(groups session.Names) string {
	if a.Tagging.Tag == cloudapp.TagNone {
		return fmt.Sprintf("%s (%s), not tagged", a.ID, a.Name)
	}
	return fmt.Sprintf("%s (%s), %s for %s", a.ID, a.Name, a.Tagging.Tag, profile.Text(&a.Tagging.Scope, groups.Scope))
}

func (a *appImpact) spared() string {
	all := make([]string, len(a.Spared))
	for i, s := range a.Spared {
		all[i] = s.Domain + " (" + s.AppName + ")"
	}
	return output.Some(all)
}

func (a *appImpact) allowed(groups session.Names) string {
	all := make([]string, len(a.Allows))
	for j := range a.Allows {
		i := &a.Allows[j]
		all[j] = i.Value + " for " + profile.Text(&i.Scope, groups.Scope)
		if !i.ExpiresAt.IsZero() {
			all[j] += ", until " + output.Time(i.ExpiresAt)
		}
	}
	if len(all) > output.MaxNames {
		all = append(all[:output.MaxNames], fmt.Sprintf("%d more", len(all)-output.MaxNames))
	}
	return strings.Join(all, " | ")
}

func counts(all []nameCount) string {
	texts := make([]string, len(all))
	for i, c := range all {
		texts[i] = fmt.Sprintf("%s (%d)", c.Name, c.Count)
	}
	return strings.Join(texts, ", ")
}

// appActivity says whom the rules for an app met with.
type appActivity struct {
	Blocked  activityCount `json:"blocked"`
	Warned   activityCount `json:"warned"`
	Bypassed activityCount `json:"bypassed"`
	Audited  activityCount `json:"audited"`
}

type activityCount struct {
	Users   int `json:"users"`
	Devices int `json:"devices"`
	Events  int `json:"events"`
}

// String is empty if it met with nobody.
func (c activityCount) String() string {
	if c.Events == 0 {
		return ""
	}
	return fmt.Sprintf("%s on %s, %s", output.Count(c.Users, "user", "users"), output.Count(c.Devices, "device", "devices"),
		output.Count(c.Events, "time", "times"))
}

// activityColumns are the lines of an app about the last 30 days.
func activityColumns(a appActivity) []output.Column[view] {
	return []output.Column[view]{
		{Head: "blocked", Cell: func(view) string { return a.Blocked.String() }},
		{Head: "warned", Cell: func(view) string { return a.Warned.String() }},
		{Head: "bypassed", Cell: func(view) string { return a.Bypassed.String() }},
		{Head: "audited", Cell: func(view) string { return a.Audited.String() }},
	}
}

// fetchActivity asks whom the rules for an app met with. In JSON an app is what the
// API says of it, and nothing else.
func fetchActivity(s *session.Session, cmd *cobra.Command, ref string) (appActivity, error) {
	var none appActivity
	if s.Format == output.FormatJSON {
		return none, nil
	}
	c, err := s.Client()
	if err != nil {
		return none, err
	}
	var raw json.RawMessage
	if raw, err = c.Get(cmd.Context(), "/apps/"+url.PathEscape(ref)+"/activity", nil); err != nil {
		return none, err
	}
	return client.Decode[appActivity](raw)
}
