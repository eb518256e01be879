package control

import (
	"context"
	"errors"
	"slices"

	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/store"
)

// features are all features with what they do.
func features() []FeatureView {
	return []FeatureView{
		{Name: fleet.FeatureAppEnforcement, Description: "Unsanctioned and monitored apps become indicators"},
		{Name: fleet.FeatureCustomIndicators, Description: "Custom network indicators count"},
	}
}

// Features returns all feature switches.
func (s *Service) Features(ctx context.Context) ([]FeatureView, error) {
	if err := s.fresh(ctx); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := features()
	for i := range all {
		all[i].Enabled = s.state.Enabled(all[i].Name)
	}
	return all, nil
}

// SetFeature turns a feature on or off.
func (s *Service) SetFeature(ctx context.Context, actor Actor, name fleet.Feature, u FeatureUpdate) (FeatureView, Change, error) {
	all := features()
	at := slices.IndexFunc(all, func(f FeatureView) bool { return f.Name == name })
	if at < 0 {
		return FeatureView{}, Change{}, fault.New(fault.NotFound, "there is no feature %q", name).
			WithHint("the features are %s and %s", fleet.FeatureAppEnforcement, fleet.FeatureCustomIndicators)
	}
	change, err := s.Change(ctx, func(tx *store.Tx) error {
		before, err := tx.Features().Get(string(name))
		if errors.Is(err, store.ErrNotFound) {
			before, err = store.FeatureState{Name: name, Enabled: true}, nil
		}
		if err != nil || before.Enabled == u.Enabled {
			return err
		}
		after := store.FeatureState{Name: name, Enabled: u.Enabled}
		tx.Audit(s.Entry(actor, "feature.set", string(name), before, after))
		return tx.Features().Put(after)
	})
	view := all[at]
	view.Enabled = u.Enabled
	return view, change, err
}
