// Package indicators has the use cases of indicators: all of them can be looked
// at, and custom ones be made and deleted, one by one or many at once. Those
// that follow from tags come and go with these, in package control, which also
// removes what has expired.
package indicators

import (
	"context"
	"errors"
	"time"

	"github.com/oklog/ulid/v2"

	"interdict/internal/control"
	"interdict/internal/control/audience"
	"interdict/internal/control/edit"
	"interdict/internal/control/find"
	"interdict/internal/control/input"
	"interdict/internal/control/page"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/store"
)

// Config is what a Service needs; all of it is required.
type Config struct {
	Control *control.Service
}

// Service has the use cases. It is safe for concurrent use.
type Service struct {
	control *control.Service
}

// New returns a Service.
func New(c Config) *Service { return &Service{control: c.Control} }

// Query asks for indicators, of the catalog and custom.
type Query struct {
	Type   indicator.Type
	Source indicator.Source
	// App is the id or name of an app.
	App string
	// Search is looked for in value and description.
	Search string
	page.Query
}

// NewIndicator is a custom indicator to be made.
type NewIndicator struct {
	Type        indicator.Type     `json:"type" enum:"domain,url,ip,cidr,certificate,file_sha256"`
	Value       string             `json:"value"`
	Action      indicator.Action   `json:"action" enum:"allow,audit,warn,block"`
	Severity    indicator.Severity `json:"severity,omitempty" enum:"informational,low,medium,high" required:"false"`
	Description string             `json:"description,omitempty"`
	// Scope takes ids or names of groups, and device:NAME.
	Scope         indicator.Profile `json:"scope,omitzero"`
	ExpiresAt     time.Time         `json:"expires_at,omitzero"`
	GenerateAlert bool              `json:"generate_alert,omitempty"`
}

// Import says what became of many indicators at once.
type Import struct {
	control.Change

	Added int `json:"added"`
	// Existing were there already, with the same scope.
	Existing int          `json:"existing"`
	Refused  []RefusedRow `json:"refused,omitempty"`
}

// RefusedRow is a row that breaks a rule.
type RefusedRow struct {
	// Row counts from 0, in the order of the input.
	Row    int           `json:"row"`
	Faults []fault.Field `json:"errors"`
}

// List returns indicators, those that follow from tags too, sorted by id.
func (s *Service) List(ctx context.Context, q Query) (page.Page[indicator.Indicator], error) {
	if q.App != "" {
		app, err := s.control.FindApp(q.App)
		if err != nil {
			return page.Page[indicator.Indicator]{}, err
		}
		q.App = app.ID
	}
	var found []indicator.Indicator
	err := s.control.Read(ctx, func(state *audience.State, _ *audience.Snapshot) error {
		collect := func(i *indicator.Indicator) {
			if q.matches(i) {
				found = append(found, *i)
			}
		}
		for _, i := range state.Indicators {
			collect(&i)
		}
		for _, i := range s.control.Tagged(state) {
			collect(&i)
		}
		return nil
	})
	if err != nil {
		return page.Page[indicator.Indicator]{}, err
	}
	return page.Of(found, q.Query, func(i *indicator.Indicator) string { return i.ID })
}

func (q *Query) matches(i *indicator.Indicator) bool {
	return (q.Type == "" || q.Type == i.Type) && (q.Source == "" || q.Source == i.Source) &&
		(q.App == "" || q.App == i.AppID) && (q.Search == "" || input.Contains(q.Search, i.Value, i.Description))
}

// Get returns the indicator with an id.
func (s *Service) Get(ctx context.Context, id string) (indicator.Indicator, error) {
	var found indicator.Indicator
	err := s.control.Read(ctx, func(state *audience.State, _ *audience.Snapshot) error {
		var ok bool
		if found, ok = state.Indicators[id]; ok {
			return nil
		}
		for _, i := range s.control.Tagged(state) {
			if i.ID == id {
				found = i
				return nil
			}
		}
		return fault.New(fault.NotFound, "there is no indicator %q", id)
	})
	return found, err
}

// Create makes a custom indicator.
func (s *Service) Create(ctx context.Context, actor control.Actor, n NewIndicator) (indicator.Indicator, control.Change, error) {
	var i indicator.Indicator
	err := s.control.Read(ctx, func(state *audience.State, _ *audience.Snapshot) (err error) {
		i, err = s.check(state, actor, &n)
		return err
	})
	if err != nil {
		return indicator.Indicator{}, control.Change{}, err
	}
	change, err := s.control.Change(ctx, func(tx *store.Tx) error {
		tx.Audit(s.control.Entry(actor, "indicator.create", i.ID, nil, i))
		return add(tx, i)
	})
	if err != nil {
		return indicator.Indicator{}, control.Change{}, err
	}
	return i, change, nil
}

// MaxImport bounds the indicators of one import.
const MaxImport = 1000

// Import makes custom indicators, all in one change. What is there already is
// left alone, and what breaks a rule is told and left out. It is an error only
// when nothing at all can be made of the input.
func (s *Service) Import(ctx context.Context, actor control.Actor, rows []NewIndicator) (Import, error) {
	if len(rows) == 0 || len(rows) > MaxImport {
		return Import{}, fault.New(fault.Invalid, "%d indicators are not between 1 and %d", len(rows), MaxImport)
	}
	wanted, refused, err := s.checkRows(ctx, actor, rows)
	done := Import{Refused: refused}
	if err != nil || len(wanted) == 0 {
		return done, err
	}
	done.Change, err = s.control.Change(ctx, func(tx *store.Tx) error {
		added := wanted[:0:0]
		for _, i := range wanted {
			fail := add(tx, i)
			switch fault.CodeOf(fail) {
			case "":
				added = append(added, i)
			case fault.Conflict: // it is there already
			default:
				return fail
			}
		}
		done.Added, done.Existing = len(added), len(wanted)-len(added)
		tx.Audit(s.control.Entry(actor, "indicator.import", "", nil, added))
		return nil
	})
	return done, err
}

// checkRows tells the rows that break a rule from those that do not.
func (s *Service) checkRows(ctx context.Context, actor control.Actor, rows []NewIndicator) (wanted []indicator.Indicator, refused []RefusedRow, err error) {
	err = s.control.Read(ctx, func(state *audience.State, _ *audience.Snapshot) error {
		for row := range rows {
			i, broken := s.check(state, actor, &rows[row])
			f, ok := errors.AsType[*fault.Error](broken)
			switch {
			case broken == nil:
				wanted = append(wanted, i)
			case ok && f.Code == fault.Invalid:
				refused = append(refused, RefusedRow{Row: row, Faults: f.Fields})
			default:
				return broken
			}
		}
		return nil
	})
	return wanted, refused, err
}

func add(tx *store.Tx, i indicator.Indicator) error {
	if err := edit.CheckGroups(tx, i.Scope.Include, i.Scope.Exclude); err != nil {
		return err
	}
	same, err := tx.Indicators().Named(string(i.Type) + " " + i.Value)
	if err != nil {
		return err
	}
	for _, other := range same {
		if other.ID != i.ID && other.Scope.Equal(&i.Scope) {
			return fault.New(fault.Conflict, "indicator %s is for %s %q with the same scope already", other.ID, i.Type, i.Value).
				WithHint("delete it first")
		}
	}
	return tx.Indicators().Put(i)
}

// check returns the indicator that n asks for.
func (s *Service) check(state *audience.State, actor control.Actor, n *NewIndicator) (indicator.Indicator, error) {
	if !state.Enabled(fleet.FeatureCustomIndicators) {
		return indicator.Indicator{}, fault.New(fault.Disabled, "custom indicators are turned off").
			WithHint("turn them on with: interdict feature set %s on", fleet.FeatureCustomIndicators)
	}
	return s.settle(state, indicator.Indicator{
		ID: ulid.Make().String(), Type: n.Type, Value: n.Value, Action: n.Action, Severity: n.Severity,
		Source: indicator.SourceCustom, Description: n.Description, Scope: n.Scope, ExpiresAt: n.ExpiresAt,
		GenerateAlert: n.GenerateAlert, CreatedAt: s.control.Now().UTC(), CreatedBy: actor.Name,
	})
}

// settle brings an indicator into its canonical form, its scope to ids, or says
// what is wrong with it.
func (s *Service) settle(state *audience.State, wanted indicator.Indicator) (indicator.Indicator, error) {
	scope := wanted.Scope
	wanted.Scope, wanted.ExpiresAt = indicator.Profile{}, wanted.ExpiresAt.UTC()
	i, faults := indicator.Validate(wanted, s.control.Now())
	i.Scope = find.Profile(state, scope, &faults)
	if len(faults) == 0 {
		if err := s.control.CheckProtected(&i); err != nil {
			faults.Add("value", "must not cut agents off: %s", err)
		}
	}
	return i, faults.Err("the indicator is not valid")
}

// IndicatorUpdate changes a custom indicator; nil leaves as it is. What it is
// about, its type and value, stays.
type IndicatorUpdate struct {
	Action      *indicator.Action   `json:"action,omitempty" enum:"allow,audit,warn,block"`
	Severity    *indicator.Severity `json:"severity,omitempty" enum:"informational,low,medium,high"`
	Description *string             `json:"description,omitempty"`
	// Scope takes ids or names of groups, and device:NAME.
	Scope *indicator.Profile `json:"scope,omitempty"`
	// ExpiresAt may be the zero time, for never.
	ExpiresAt     *time.Time `json:"expires_at,omitempty"`
	GenerateAlert *bool      `json:"generate_alert,omitempty"`
}

func (u *IndicatorUpdate) apply(i *indicator.Indicator) {
	assign(&i.Action, u.Action)
	assign(&i.Severity, u.Severity)
	assign(&i.Description, u.Description)
	assign(&i.Scope, u.Scope)
	assign(&i.ExpiresAt, u.ExpiresAt)
	assign(&i.GenerateAlert, u.GenerateAlert)
}

func assign[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// Update changes a custom indicator in place: its id, and when and by whom it
// was made, stay.
func (s *Service) Update(ctx context.Context, actor control.Actor, id string, u IndicatorUpdate) (indicator.Indicator, control.Change, error) {
	before, err := s.custom(ctx, id)
	if err != nil {
		return indicator.Indicator{}, control.Change{}, err
	}
	wanted := before
	u.apply(&wanted)
	var after indicator.Indicator
	err = s.control.Read(ctx, func(state *audience.State, _ *audience.Snapshot) (err error) {
		after, err = s.settle(state, wanted)
		return err
	})
	if err != nil {
		return indicator.Indicator{}, control.Change{}, err
	}
	change, err := s.control.Change(ctx, func(tx *store.Tx) error {
		if _, gone := tx.Indicators().Get(id); gone != nil {
			return edit.Gone(gone, "indicator", id)
		}
		if same(&before, &after) {
			return nil
		}
		tx.Audit(s.control.Entry(actor, "indicator.update", id, before, after))
		return add(tx, after)
	})
	return after, change, err
}

func same(a, b *indicator.Indicator) bool {
	return a.Action == b.Action && a.Severity == b.Severity && a.Description == b.Description && a.Scope.Equal(&b.Scope) &&
		a.ExpiresAt.Equal(b.ExpiresAt) && a.GenerateAlert == b.GenerateAlert
}

// custom returns the custom indicator with an id.
func (s *Service) custom(ctx context.Context, id string) (indicator.Indicator, error) {
	i, err := s.Get(ctx, id)
	if err != nil {
		return indicator.Indicator{}, err
	}
	if i.Source == indicator.SourceCatalog {
		return indicator.Indicator{}, fault.New(fault.Conflict, "indicator %q follows from the tag of app %s", id, i.AppID).
			WithHint("change the tag with: interdict app tag %s TAG, or interdict app scope %s", i.AppID, i.AppID)
	}
	return i, nil
}

// Delete deletes a custom indicator.
func (s *Service) Delete(ctx context.Context, actor control.Actor, id string) (control.Change, error) {
	i, err := s.custom(ctx, id)
	if err != nil {
		return control.Change{}, err
	}
	return s.control.Change(ctx, func(tx *store.Tx) error {
		tx.Audit(s.control.Entry(actor, "indicator.delete", id, i, nil))
		err := tx.Indicators().Delete(id)
		if errors.Is(err, store.ErrNotFound) {
			return fault.New(fault.NotFound, "there is no indicator %q", id)
		}
		return err
	})
}
