package usage

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"interdict/internal/cloudapp"
	"interdict/internal/control"
	"interdict/internal/control/audience"
	"interdict/internal/control/find"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/store"
)

const (
	// maxApps bounds of how many apps the impact is asked for at once.
	maxApps = 100
	// top bounds each list of those that use an app most.
	top = 10
	// maxAllows bounds the list of what lets an app through.
	maxAllows = 100
)

// Impact is what tagging apps would do. Nothing of it is done.
type Impact struct {
	Tag cloudapp.Tag `json:"tag" enum:"none,sanctioned,unsanctioned,monitored"`
	// Since is from when on use counts.
	Since time.Time `json:"since"`
	// Scope is that of the tag, with the ids of its groups. Whom of the users of a
	// device it is for, only the device knows: they are not told apart here.
	Scope indicator.Profile `json:"scope"`
	// Devices is how many devices are in scope.
	Devices int `json:"devices"`
	// Include and Exclude are the groups of the scope, with how many devices
	// are in each. No Include means all devices.
	Include []GroupSize `json:"include_groups,omitempty"`
	Exclude []GroupSize `json:"exclude_groups,omitempty"`
	// Reporting says how far the figures of use can be trusted.
	Reporting Reporting `json:"reporting"`
	// Total is the use of all of the apps together.
	Total Use         `json:"total"`
	Apps  []AppImpact `json:"apps"`
}

// GroupSize is a group with how many devices are in it.
type GroupSize struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Devices int    `json:"devices"`
}

// Use says by whom apps were used, in or out of scope.
type Use struct {
	Devices int `json:"devices"`
	// DevicesInScope are those of Devices that are in scope.
	DevicesInScope int `json:"devices_in_scope"`
	Users          int `json:"users"`
	Processes      int `json:"processes"`
	// The following are those with the highest counts. What is counted are
	// connections, and events about those that were, or would have been,
	// refused: only for comparing.
	TopDevices   []DeviceCount     `json:"top_devices,omitempty"`
	TopUsers     []store.NameCount `json:"top_users,omitempty"`
	TopProcesses []store.NameCount `json:"top_processes,omitempty"`
}

// DeviceCount is how often a device used apps.
type DeviceCount struct {
	ID      fleet.DeviceID `json:"id"`
	Name    string         `json:"name"`
	InScope bool           `json:"in_scope"`
	Count   int            `json:"count"`
}

// AppImpact is what tagging one app would do.
type AppImpact struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Tagging is the tag that the app has.
	Tagging cloudapp.Tagging `json:"tagging"`
	// Domains become indicators, or stay so, on the devices in scope.
	Domains []string `json:"domains,omitempty"`
	// Shared are the app's domains that other apps use too, and that therefore
	// never become indicators.
	Shared []string `json:"shared_domains,omitempty"`
	// Spared are names below the app's domains that belong to other apps.
	Spared []SparedName `json:"spared,omitempty"`
	// Added, Changed and Removed are the ids of indicators.
	Added   []string `json:"added_indicators,omitempty"`
	Changed []string `json:"changed_indicators,omitempty"`
	Removed []string `json:"removed_indicators,omitempty"`
	// Allows are custom indicators that let through what the app's would not,
	// the oldest hundred.
	Allows []indicator.Indicator `json:"allowed_by,omitempty"`
	Use    Use                   `json:"use"`
}

// SparedName is a name that belongs to another app.
type SparedName struct {
	Domain  string `json:"domain"`
	AppID   string `json:"app_id"`
	AppName string `json:"app_name"`
}

// Impact says what TagApps would do with a request, and changes nothing.
func (s *Service) Impact(ctx context.Context, r control.TagRequest) (Impact, error) {
	now := s.control.Now().UTC()
	w := work{
		service: s, request: &r, now: now,
		inScope: make(map[fleet.DeviceID]bool), names: make(map[fleet.DeviceID]string), decided: make(map[fleet.DeviceID]*fleet.Settings),
	}
	impact := Impact{Tag: r.Tag, Since: now.Add(-Window)}
	apps, err := s.tagged(&r)
	if err != nil {
		return Impact{}, err
	}
	err = s.control.Read(ctx, func(state *audience.State, snapshot *audience.Snapshot) error {
		return w.plan(&impact, apps, state, snapshot)
	})
	if err != nil {
		return Impact{}, err
	}
	if impact.Reporting, err = w.reporting(ctx, &impact.Scope); err != nil {
		return Impact{}, err
	}
	err = s.control.View(ctx, func(tx *store.Tx) error {
		all := make([]string, len(apps))
		for i := range apps {
			all[i] = apps[i].ID
			var fail error
			if impact.Apps[i].Use, fail = w.use(tx, impact.Since, apps[i].ID); fail != nil {
				return fail
			}
		}
		if len(apps) == 1 {
			impact.Total = impact.Apps[0].Use
			return nil
		}
		var fail error
		impact.Total, fail = w.use(tx, impact.Since, all...)
		return fail
	})
	return impact, err
}

// tagged returns the apps of a request, each once, sorted by id.
func (s *Service) tagged(r *control.TagRequest) ([]cloudapp.App, error) {
	var faults fault.Fields
	if len(r.Apps) == 0 || len(r.Apps) > maxApps {
		faults.Add("apps", "must have 1 to %d apps", maxApps)
		return nil, faults.Err("the impact cannot be told")
	}
	if !r.Tag.Valid() {
		faults.Add("tag", "must be none, sanctioned, unsanctioned or monitored")
	}
	byID := make(map[string]cloudapp.App)
	for _, ref := range r.Apps {
		app, err := s.control.FindApp(ref)
		if err != nil {
			faults.Add("apps", "must have known apps only: %s", err)
			continue
		}
		byID[app.ID] = app
	}
	return slices.SortedFunc(maps.Values(byID), func(a, b cloudapp.App) int { return cmp.Compare(a.ID, b.ID) }),
		faults.Err("the impact cannot be told")
}

// work is one question for the impact.
type work struct {
	service *Service
	request *control.TagRequest
	now     time.Time
	// inScope has every device that is enrolled.
	inScope map[fleet.DeviceID]bool
	names   map[fleet.DeviceID]string
	// decided has what the devices in scope have to obey.
	decided map[fleet.DeviceID]*fleet.Settings
}

// plan fills in what follows from the configuration alone.
func (w *work) plan(impact *Impact, apps []cloudapp.App, state *audience.State, snapshot *audience.Snapshot) error {
	var faults fault.Fields
	profile := find.Profile(state, w.request.Scope, &faults)
	scope := profile.Scope
	if w.request.Tag == cloudapp.TagNone && !profile.Equal(&indicator.Profile{}) {
		faults.Add("scope", "must be empty when tags are removed")
	}
	if err := faults.Err("the impact cannot be told"); err != nil {
		return err
	}
	impact.Scope = profile
	impact.Include, impact.Exclude = sizes(scope.Include, state, snapshot), sizes(scope.Exclude, state, snapshot)
	for id, d := range state.Devices {
		w.names[id] = d.Name
		w.inScope[id] = scope.Covers(snapshot.Target(id).Groups)
		if w.inScope[id] {
			impact.Devices++
			if a := snapshot.Of(id); a != nil {
				w.decided[id] = &a.Effective.Settings
			}
		}
	}
	after := make(map[string]cloudapp.Tagging)
	for i := range apps {
		after[apps[i].ID] = cloudapp.Tagging{AppID: apps[i].ID, Tag: w.request.Tag, Scope: profile}
	}
	spares := w.service.index.Spares(enforced(state, after, scope))
	for i := range apps {
		impact.Apps = append(impact.Apps, w.app(&apps[i], after[apps[i].ID], spares, state))
	}
	return nil
}

func sizes(groups []string, state *audience.State, snapshot *audience.Snapshot) []GroupSize {
	var all []GroupSize
	for _, id := range groups {
		all = append(all, GroupSize{ID: id, Name: state.Groups[id].Name, Devices: snapshot.Members(id)})
	}
	return all
}

// enforced returns the taggings that make indicators on a device in scope, with
// the new ones in the place of those they replace.
func enforced(state *audience.State, after map[string]cloudapp.Tagging, scope indicator.Scope) []*cloudapp.Tagging {
	all := maps.Clone(state.Taggings)
	maps.Copy(all, after)
	var out []*cloudapp.Tagging
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if t := all[id]; t.Tag.Enforced() && t.Scope.Covers(scope.Include) {
			out = append(out, &t)
		}
	}
	return out
}

// app fills in what follows for one app.
func (w *work) app(a *cloudapp.App, after cloudapp.Tagging, spares []cloudapp.Spare, state *audience.State) AppImpact {
	before, ok := state.Taggings[a.ID]
	if !ok {
		before = cloudapp.Tagging{AppID: a.ID, Tag: cloudapp.TagNone}
	}
	impact := AppImpact{ID: a.ID, Name: a.Name, Tagging: before}
	for _, d := range a.Domains {
		if d.Shared {
			impact.Shared = append(impact.Shared, d.Name)
		}
	}
	impact.compare(w.service.index.Indicators(before), w.service.index.Indicators(after))
	if !after.Tag.Enforced() {
		return impact
	}
	for _, s := range spares {
		if owner, ok := w.service.index.App(s.AppID); ok && s.AppID != a.ID && within(s.Domain, impact.Domains) {
			impact.Spared = append(impact.Spared, SparedName{s.Domain, s.AppID, owner.Name})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(state.Indicators)) {
		i := state.Indicators[id]
		if len(impact.Allows) < maxAllows && i.Action == indicator.ActionAllow && !i.Expired(w.now) && within(hostOf(&i), impact.Domains) {
			impact.Allows = append(impact.Allows, i)
		}
	}
	return impact
}

// compare fills in which indicators come, go and change.
func (a *AppImpact) compare(before, after []indicator.Indicator) {
	had := make(map[string]*indicator.Indicator)
	for i := range before {
		had[before[i].ID] = &before[i]
	}
	for i := range after {
		now := &after[i]
		a.Domains = append(a.Domains, now.Value)
		was := had[now.ID]
		delete(had, now.ID)
		switch {
		case was == nil:
			a.Added = append(a.Added, now.ID)
		case was.Action != now.Action || !was.Scope.Equal(&now.Scope):
			a.Changed = append(a.Changed, now.ID)
		}
	}
	a.Removed = slices.Sorted(maps.Keys(had))
}

// hostOf returns the name that an indicator is about, "" for none.
func hostOf(i *indicator.Indicator) string {
	switch i.Type {
	case indicator.TypeDomain:
		return i.Value
	case indicator.TypeURL:
		host, _ := indicator.SplitURL(i.Value)
		return host
	default:
		return ""
	}
}

// within reports whether a name is one of the domains or below one.
func within(name string, domains []string) bool {
	return name != "" && slices.ContainsFunc(domains, func(d string) bool { return name == d || strings.HasSuffix(name, "."+d) })
}

// use returns by whom apps were used. Devices that were deleted do not count.
func (w *work) use(tx *store.Tx, since time.Time, apps ...string) (Use, error) {
	used, err := tx.Used(store.UseQuery{Apps: apps, Since: since, Top: top})
	u := Use{Users: used.Users, Processes: used.Processes, TopUsers: used.TopUsers, TopProcesses: used.TopProcesses}
	for id, n := range used.Devices {
		in, known := w.inScope[id]
		if !known {
			continue
		}
		u.TopDevices = append(u.TopDevices, DeviceCount{ID: id, Name: w.names[id], InScope: in, Count: n})
		if in {
			u.DevicesInScope++
		}
	}
	u.Devices = len(u.TopDevices)
	slices.SortFunc(u.TopDevices, func(a, b DeviceCount) int { return cmp.Or(b.Count-a.Count, cmp.Compare(a.ID, b.ID)) })
	u.TopDevices = u.TopDevices[:min(top, len(u.TopDevices))]
	return u, err
}
