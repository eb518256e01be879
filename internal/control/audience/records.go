package audience

import (
	"crypto/sha256"
	"encoding/hex"
	"iter"
	"slices"

	"interdict/internal/bundle"
	"interdict/internal/cloudapp"
	"interdict/internal/fleet"
)

// sets returns the sets that the audience's set is made of, other than custom
// indicators.
func (w *work) sets() ([]bundle.Set, error) {
	var enforced []*cloudapp.Tagging
	if w.state.Enabled(fleet.FeatureAppEnforcement) {
		enforced = w.variant.enforced(w.groups)
	}
	own, err := bundle.NewSet(w.records(enforced))
	if err != nil {
		return nil, err
	}
	sets := []bundle.Set{own}
	for _, t := range enforced {
		set, err := w.tagged(t)
		if err != nil {
			return nil, err
		}
		sets = append(sets, set)
	}
	return sets, nil
}

// records are the settings, the names of their policies, revocations, and
// spared names. A record is large, and there are as many as devices times
// settings after some changes: one at a time is made.
func (w *work) records(enforced []*cloudapp.Tagging) iter.Seq[bundle.Record] {
	return func(yield func(bundle.Record) bool) {
		_ = w.settings(yield) && w.revoked(yield) && w.spared(enforced, yield)
	}
}

func (w *work) settings(yield func(bundle.Record) bool) bool {
	named := make(map[string]bool)
	for i := range w.plan.definitions {
		d := &w.plan.definitions[i]
		// A text that nobody set is no record.
		origin := w.effective.Origin[d.Name]
		if value := d.Get(&w.effective.Settings); value != "" && !yield(bundle.Setting(d.Name, value, origin)) {
			return false
		}
		if origin == "" || named[origin] {
			continue
		}
		named[origin] = true
		if !yield(bundle.Policy(origin, w.plan.names[origin])) {
			return false
		}
	}
	return true
}

func (w *work) revoked(yield func(bundle.Record) bool) bool {
	for _, i := range w.plan.revoked.Covering(w.groups) {
		if !yield(bundle.Revocation(w.plan.revocations[i].Revocation)) {
			return false
		}
	}
	return true
}

func (w *work) spared(enforced []*cloudapp.Tagging, yield func(bundle.Record) bool) bool {
	for _, s := range w.compiler.config.Index.Spares(enforced) {
		if !yield(bundle.Spare(s.Domain, s.AppID)) {
			return false
		}
	}
	return true
}

// tagged are the records of an app that is tagged: they are the same for all
// devices in the tag's scope.
func (w *work) tagged(t *cloudapp.Tagging) (bundle.Set, error) {
	if set, made := w.plan.tagged[t]; made {
		return set, nil
	}
	config := &w.compiler.config
	var records []bundle.Record
	if app, known := config.Index.App(t.AppID); known {
		records = append(records, bundle.App(app.ID, app.Name))
	}
	for _, i := range config.Index.Indicators(*t) {
		// Tagging checks this too, but the server may have moved since.
		if config.Protected.Check(&i) == nil {
			records = append(records, bundle.Indicator(i))
		}
	}
	set, err := bundle.NewSet(slices.Values(records))
	if err != nil {
		return bundle.Set{}, err
	}
	w.plan.tagged[t] = set
	return set, nil
}

// merge merges sets. The largest, which may have a hundred thousand records,
// is copied once only, the others a few times.
func merge(sets []bundle.Set) (bundle.Set, error) {
	slices.SortFunc(sets, func(a, b bundle.Set) int { return b.Len() - a.Len() })
	for len(sets) > 2 {
		var pairs []bundle.Set
		for pair := range slices.Chunk(sets[1:], 2) {
			one, err := bundle.Merge(pair...)
			if err != nil {
				return bundle.Set{}, err
			}
			pairs = append(pairs, one)
		}
		sets = append(sets[:1], pairs...)
	}
	return bundle.Merge(sets...)
}

// key is a digest of what makes the audience: its settings, where they come
// from, and the groups that tell it apart. Conflicts make no record, but an
// audience has to know its own.
func (w *work) key() string {
	text := make([]byte, 0, 2048)
	add := func(fields ...string) {
		for _, f := range fields {
			text = append(append(text, f...), '\t')
		}
		text = append(text, '\n')
	}
	for i := range w.plan.definitions {
		d := &w.plan.definitions[i]
		origin := w.effective.Origin[d.Name]
		add(d.Name, d.Get(&w.effective.Settings), origin, w.plan.names[origin])
	}
	for i := range w.effective.Conflicts {
		c := &w.effective.Conflicts[i]
		add("conflict", c.Setting, c.Overruled, c.OverruledValue)
	}
	add(w.groups...)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:12])
}
