package cloudapp

import (
	"slices"
	"strings"

	"interdict/internal/indicator"
)

// Valid reports whether t is one of the tags.
func (t Tag) Valid() bool {
	switch t {
	case TagNone, TagSanctioned, TagUnsanctioned, TagMonitored:
		return true
	default:
		return false
	}
}

// Enforced reports whether apps with the tag get indicators. A sanctioned app
// gets none: sanctioning is a judgement, not an exception.
func (t Tag) Enforced() bool { return t == TagUnsanctioned || t == TagMonitored }

// Index answers which indicators follow from tags. It is immutable.
type Index struct {
	apps map[string]App
	// below are, by app, the names below its domains that other apps have.
	below map[string][]foreign
}

// foreign is a name below an app's domain and all apps that have it.
type foreign struct {
	name   string
	owners []string
}

// NewIndex makes the index of apps with unique ids.
func NewIndex(apps []App) *Index {
	x := &Index{apps: make(map[string]App, len(apps)), below: make(map[string][]foreign)}
	owners := make(map[string][]string)
	for _, a := range apps {
		x.apps[a.ID] = a
		for _, d := range a.Domains {
			owners[d.Name] = append(owners[d.Name], a.ID)
		}
	}
	for name, of := range owners {
		slices.Sort(of)
		x.addForeign(name, of, owners)
	}
	for _, list := range x.below {
		slices.SortFunc(list, func(a, b foreign) int { return strings.Compare(a.name, b.name) })
	}
	return x
}

// addForeign notes name with every app that has a domain above it, unless it
// is that app's alone.
func (x *Index) addForeign(name string, of []string, owners map[string][]string) {
	seen := make(map[string]bool)
	for _, parent, ok := strings.Cut(name, "."); ok; _, parent, ok = strings.Cut(parent, ".") {
		for _, app := range owners[parent] {
			alone := len(of) == 1 && of[0] == app
			if !alone && !seen[app] {
				seen[app] = true
				x.below[app] = append(x.below[app], foreign{name: name, owners: of})
			}
		}
	}
}

// App returns an app.
func (x *Index) App(id string) (App, bool) {
	a, ok := x.apps[id]
	return a, ok
}

// IndicatorID is the id of the indicator that a tag makes of an app's domain.
func IndicatorID(appID, domain string) string { return appID + ":" + domain }

// Indicators returns the indicators that follow from a tagging, one for each
// domain that the app does not share, with the tagging's scope. They raise
// alerts. Tags that are not enforced, and apps that are not known, have none.
func (x *Index) Indicators(t Tagging) []indicator.Indicator {
	app, ok := x.apps[t.AppID]
	if !ok || !t.Tag.Enforced() {
		return nil
	}
	action, severity := indicator.ActionBlock, indicator.SeverityMedium
	if t.Tag == TagMonitored {
		action, severity = indicator.ActionWarn, indicator.SeverityLow
	}
	var all []indicator.Indicator
	for _, d := range app.Domains {
		if d.Shared {
			continue
		}
		all = append(all, indicator.Indicator{
			ID: IndicatorID(app.ID, d.Name), Type: indicator.TypeDomain, Value: d.Name, Action: action, Severity: severity,
			Source: indicator.SourceCatalog, AppID: app.ID, Scope: t.Scope, GenerateAlert: true, CreatedAt: t.At, CreatedBy: t.By,
		})
	}
	return all
}

// Spare is a name, with what is below it, that must be left alone because it
// belongs to an app.
type Spare struct{ Domain, AppID string }

// Spares returns the names, each once and sorted, that have to be left alone
// where these taggings, one for each app at most, are enforced: a name below
// the domain of an app that is tagged is spared if it belongs to another app
// which is not; a name that several apps share is spared if one of them is not.
//
// A tag may be for some people or some times only. A spared name is spared for
// everybody, so the other app counts as tagged only if its tag is for at least
// the people and times of the tag it would be spared from: rather somebody is
// not refused than refused what belongs to an app that is fine for them. This
// costs little, since a name that an app has for itself has an indicator of
// its own, which no spare silences.
func (x *Index) Spares(enforced []*Tagging) []Spare {
	scopes := make(map[string]*indicator.Profile, len(enforced))
	for _, t := range enforced {
		scopes[t.AppID] = &t.Scope
	}
	var spares []Spare
	spared := make(map[string]bool)
	for _, t := range enforced {
		for _, f := range x.below[t.AppID] {
			i := slices.IndexFunc(f.owners, func(owner string) bool { return !includes(scopes[owner], &t.Scope) })
			if i >= 0 && !spared[f.name] {
				spared[f.name] = true
				spares = append(spares, Spare{Domain: f.name, AppID: f.owners[i]})
			}
		}
	}
	slices.SortFunc(spares, func(a, b Spare) int { return strings.Compare(a.Domain, b.Domain) })
	return spares
}

// includes reports whether wide is for all people and times that narrow is
// for, as far as that is plain to see; a nil one is for nobody.
func includes(wide, narrow *indicator.Profile) bool {
	if wide == nil {
		return false
	}
	w, n := indicator.Profile{People: wide.People, Windows: wide.Windows}, indicator.Profile{People: narrow.People, Windows: narrow.Windows}
	return w.Anyone() || w.Equal(&n)
}

// maxNear bounds how many apps Near suggests, maxNearRef the bytes of what it
// compares: no app is called anything longer, and comparing takes time.
const (
	maxNear    = 3
	maxNearRef = 128
)

// Near returns the ids of apps that somebody who wrote ref may have meant,
// the likeliest first.
func (x *Index) Near(ref string) []string {
	if len(ref) > maxNearRef {
		return nil
	}
	type candidate struct {
		id       string
		distance int
	}
	ref = strings.ToLower(ref)
	var all []candidate
	for id, a := range x.apps {
		d := min(distance(ref, id), distance(ref, strings.ToLower(a.Name)))
		if strings.Contains(id, ref) || strings.Contains(strings.ToLower(a.Name), ref) {
			d = min(d, 1)
		}
		if d <= 1+len(ref)/4 {
			all = append(all, candidate{id, d})
		}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		if a.distance != b.distance {
			return a.distance - b.distance
		}
		return strings.Compare(a.id, b.id)
	})
	var ids []string
	for _, c := range all[:min(len(all), maxNear)] {
		ids = append(ids, c.id)
	}
	return ids
}

// distance is how many bytes have to be added, removed or replaced to turn a
// into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
