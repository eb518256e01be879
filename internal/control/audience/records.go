package audience

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"interdict/internal/bundle"
	"interdict/internal/fleet"
)

// records are the settings, what follows from tags, and revocations.
func (w *work) records() []bundle.Record {
	var records []bundle.Record
	for i := range w.plan.definitions {
		d := &w.plan.definitions[i]
		// A text that nobody set is no record.
		if value := d.Get(&w.effective.Settings); value != "" {
			records = append(records, bundle.Setting(d.Name, value, w.effective.Origin[d.Name]))
		}
	}
	for _, i := range w.plan.revoked.Covering(w.groups) {
		records = append(records, bundle.Revocation(w.plan.revocations[i].Revocation))
	}
	if w.state.Enabled(fleet.FeatureAppEnforcement) {
		records = append(records, w.tagged()...)
	}
	return records
}

// tagged are the records that follow from tags.
func (w *work) tagged() []bundle.Record {
	var records []bundle.Record
	e := w.compiler.config.Index.Enforce(w.variant.taggings, w.groups)
	for i := range e.Indicators {
		// Tagging checks this too, but the server may have moved since.
		if w.compiler.config.Protected.Check(&e.Indicators[i]) == nil {
			records = append(records, bundle.Indicator(e.Indicators[i]))
		}
	}
	for _, app := range e.Apps {
		records = append(records, bundle.App(app.ID, app.Name))
	}
	for _, s := range e.Spares {
		records = append(records, bundle.Spare(s.Domain, s.AppID))
	}
	return records
}

// key is a digest of what makes the audience: its settings, where they come
// from, and the groups that tell it apart. Conflicts make no record, but an
// audience has to know its own.
func (w *work) key() string {
	h := sha256.New()
	for i := range w.plan.definitions {
		d := &w.plan.definitions[i]
		fmt.Fprintf(h, "%s\t%s\t%s\n", d.Name, d.Get(&w.effective.Settings), w.effective.Origin[d.Name])
	}
	for _, c := range w.effective.Conflicts {
		fmt.Fprintf(h, "conflict\t%s\t%s\t%s\n", c.Setting, c.Overruled, c.OverruledValue)
	}
	for _, g := range w.groups {
		fmt.Fprintf(h, "group\t%s\n", g)
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}
