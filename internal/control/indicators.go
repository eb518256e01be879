package control

import (
	"context"
	"errors"
	"slices"

	"github.com/oklog/ulid/v2"

	"interdict/internal/control/edit"
	"interdict/internal/control/find"
	"interdict/internal/control/input"
	"interdict/internal/control/page"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/store"
)

// Indicators returns indicators, those that follow from tags too, sorted by
// id.
func (s *Service) Indicators(ctx context.Context, q IndicatorQuery) (page.Page[indicator.Indicator], error) {
	if err := s.fresh(ctx); err != nil {
		return page.Page[indicator.Indicator]{}, err
	}
	if q.App != "" {
		app, err := s.FindApp(q.App)
		if err != nil {
			return page.Page[indicator.Indicator]{}, err
		}
		q.App = app.ID
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var found []indicator.Indicator
	collect := func(i *indicator.Indicator) {
		if q.matches(i) {
			found = append(found, *i)
		}
	}
	for _, i := range s.state.Indicators {
		collect(&i)
	}
	for _, i := range s.tagged() {
		collect(&i)
	}
	return page.Of(found, q.Query, func(i *indicator.Indicator) string { return i.ID })
}

func (q *IndicatorQuery) matches(i *indicator.Indicator) bool {
	return (q.Type == "" || q.Type == i.Type) && (q.Source == "" || q.Source == i.Source) &&
		(q.App == "" || q.App == i.AppID) && (q.Search == "" || input.Contains(q.Search, i.Value, i.Description))
}

// tagged returns the indicators that follow from tags, as long as the feature
// is on. s.mu is held.
func (s *Service) tagged() []indicator.Indicator {
	if !s.state.Enabled(fleet.FeatureAppEnforcement) {
		return nil
	}
	var all []indicator.Indicator
	for _, t := range s.state.Taggings {
		all = append(all, s.index.Indicators(t)...)
	}
	return all
}

// Indicator returns the indicator with an id.
func (s *Service) Indicator(ctx context.Context, id string) (indicator.Indicator, error) {
	if err := s.fresh(ctx); err != nil {
		return indicator.Indicator{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if i, ok := s.state.Indicators[id]; ok {
		return i, nil
	}
	for _, i := range s.tagged() {
		if i.ID == id {
			return i, nil
		}
	}
	return indicator.Indicator{}, fault.New(fault.NotFound, "there is no indicator %q", id)
}

// CreateIndicator makes a custom indicator.
func (s *Service) CreateIndicator(ctx context.Context, actor Actor, n NewIndicator) (indicator.Indicator, Change, error) {
	if err := s.fresh(ctx); err != nil {
		return indicator.Indicator{}, Change{}, err
	}
	i, err := s.checkIndicator(actor, &n)
	if err != nil {
		return indicator.Indicator{}, Change{}, err
	}
	change, err := s.Change(ctx, func(tx *store.Tx) error {
		tx.Audit(s.Entry(actor, "indicator.create", i.ID, nil, i))
		return addIndicator(tx, i)
	})
	if err != nil {
		return indicator.Indicator{}, Change{}, err
	}
	return i, change, nil
}

// MaxImport bounds the indicators of one import.
const MaxImport = 1000

// ImportIndicators makes custom indicators, all in one change. What is there
// already is left alone, and what breaks a rule is told and left out. It is
// an error only when nothing at all can be made of the input.
func (s *Service) ImportIndicators(ctx context.Context, actor Actor, rows []NewIndicator) (Import, error) {
	if len(rows) == 0 || len(rows) > MaxImport {
		return Import{}, fault.New(fault.Invalid, "%d indicators are not between 1 and %d", len(rows), MaxImport)
	}
	if err := s.fresh(ctx); err != nil {
		return Import{}, err
	}
	var done Import
	wanted := make([]indicator.Indicator, 0, len(rows))
	for row := range rows {
		i, err := s.checkIndicator(actor, &rows[row])
		var refused *fault.Error
		switch {
		case err == nil:
			wanted = append(wanted, i)
		case errors.As(err, &refused) && refused.Code == fault.Invalid:
			done.Refused = append(done.Refused, RefusedRow{Row: row, Faults: refused.Fields})
		default:
			return Import{}, err
		}
	}
	if len(wanted) == 0 {
		return done, nil
	}
	var err error
	done.Change, err = s.Change(ctx, func(tx *store.Tx) error {
		added := wanted[:0:0]
		for _, i := range wanted {
			fail := addIndicator(tx, i)
			switch fault.CodeOf(fail) {
			case "":
				added = append(added, i)
			case fault.Conflict: // it is there already
			default:
				return fail
			}
		}
		done.Added, done.Existing = len(added), len(wanted)-len(added)
		tx.Audit(s.Entry(actor, "indicator.import", "", nil, added))
		return nil
	})
	return done, err
}

func addIndicator(tx *store.Tx, i indicator.Indicator) error {
	if err := edit.CheckGroups(tx, i.Scope.Include, i.Scope.Exclude); err != nil {
		return err
	}
	same, err := tx.Indicators().Named(string(i.Type) + " " + i.Value)
	if err != nil {
		return err
	}
	for _, other := range same {
		if slices.Equal(other.Scope.Include, i.Scope.Include) && slices.Equal(other.Scope.Exclude, i.Scope.Exclude) {
			return fault.New(fault.Conflict, "indicator %s is for %s %q with the same scope already", other.ID, i.Type, i.Value).
				WithHint("delete it first")
		}
	}
	return tx.Indicators().Put(i)
}

func (s *Service) checkIndicator(actor Actor, n *NewIndicator) (indicator.Indicator, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.state.Enabled(fleet.FeatureCustomIndicators) {
		return indicator.Indicator{}, fault.New(fault.Disabled, "custom indicators are turned off").
			WithHint("turn them on with: interdict feature set %s on", fleet.FeatureCustomIndicators)
	}
	now := s.now().UTC()
	i, faults := indicator.Validate(indicator.Indicator{
		ID: ulid.Make().String(), Type: n.Type, Value: n.Value, Action: n.Action, Severity: n.Severity,
		Source: indicator.SourceCustom, Description: n.Description, ExpiresAt: n.ExpiresAt.UTC(),
		GenerateAlert: n.GenerateAlert, CreatedAt: now, CreatedBy: actor.Name,
	}, now)
	i.Scope.Scope = find.Scope(s.state, n.Scope, "scope.", &faults)
	if len(faults) == 0 {
		if err := s.protected.Check(&i); err != nil {
			faults.Add("value", "must not cut agents off: %s", err)
		}
	}
	return i, faults.Err("the indicator is not valid")
}

// DeleteIndicator deletes a custom indicator.
func (s *Service) DeleteIndicator(ctx context.Context, actor Actor, id string) (Change, error) {
	i, err := s.Indicator(ctx, id)
	if err != nil {
		return Change{}, err
	}
	if i.Source == indicator.SourceCatalog {
		return Change{}, fault.New(fault.Conflict, "indicator %q follows from the tag of app %s", id, i.AppID).
			WithHint("remove the tag with: interdict app tag %s none", i.AppID)
	}
	return s.Change(ctx, func(tx *store.Tx) error {
		tx.Audit(s.Entry(actor, "indicator.delete", id, i, nil))
		err := tx.Indicators().Delete(id)
		if errors.Is(err, store.ErrNotFound) {
			return fault.New(fault.NotFound, "there is no indicator %q", id)
		}
		return err
	})
}
