package adminapi

import (
	"context"
	"net/http"
	"time"

	"interdict/internal/control"
	"interdict/internal/control/indicators"
	"interdict/internal/indicator"
)

type indicatorsInput struct {
	PageInput

	Type   indicator.Type   `query:"type" enum:"domain,url,ip,cidr,certificate,file_sha256" doc:"Only indicators of this type"`
	Source indicator.Source `query:"source" enum:"catalog,custom,feed" doc:"Only indicators from this source"`
	App    string           `query:"app" maxLength:"128" doc:"Only indicators of the app with this id or name"`
	Search string           `query:"search" maxLength:"256" doc:"Only indicators with this text in value or description"`
}

type indicatorInput struct {
	Body indicators.NewIndicator
}

type indicatorEditInput struct {
	RefInput

	Body indicators.IndicatorUpdate
}

// ImportRow is a custom indicator to be made. Its form is that of NewIndicator
// with any text for the kinds, because a row that breaks a rule is to be named
// in the answer while the others are imported.
type ImportRow struct {
	Type          string            `json:"type" doc:"As of a custom indicator; a row with another one is refused"`
	Value         string            `json:"value"`
	Action        string            `json:"action" doc:"As of a custom indicator; a row with another one is refused"`
	Severity      string            `json:"severity,omitempty" doc:"As of a custom indicator; a row with another one is refused"`
	Description   string            `json:"description,omitempty"`
	Scope         indicator.Profile `json:"scope,omitzero"`
	ExpiresAt     time.Time         `json:"expires_at,omitzero"`
	GenerateAlert bool              `json:"generate_alert,omitempty"`
}

type importInput struct {
	Body struct {
		Indicators []ImportRow `json:"indicators" minItems:"1" maxItems:"1000"`
	}
}

func (in *importInput) rows() []indicators.NewIndicator {
	rows := make([]indicators.NewIndicator, 0, len(in.Body.Indicators))
	for _, r := range in.Body.Indicators {
		rows = append(rows, indicators.NewIndicator{
			Type: indicator.Type(r.Type), Value: r.Value, Action: indicator.Action(r.Action), Severity: indicator.Severity(r.Severity),
			Description: r.Description, Scope: r.Scope, ExpiresAt: r.ExpiresAt, GenerateAlert: r.GenerateAlert,
		})
	}
	return rows
}

// IndicatorChanged is an indicator, and the revision that has it.
type IndicatorChanged struct {
	indicator.Indicator
	control.Change
}

func (a *API) addIndicators() {
	const tag = "indicators"
	add(a, route{http.MethodGet, "/indicators", "list-indicators", "List the indicators, of apps and custom", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *indicatorsInput) (*pageOutput[indicator.Indicator], error) {
			return pageOf(a.indicators.List(ctx, indicators.Query{
				Type: in.Type, Source: in.Source, App: in.App, Search: in.Search, Query: in.query(),
			}))
		})
	add(a, route{http.MethodPost, "/indicators", "create-indicator", "Create a custom indicator", tag, control.RoleOperator, http.StatusCreated},
		func(ctx context.Context, by control.Actor, in *indicatorInput) (*bodyOutput[IndicatorChanged], error) {
			i, ch, err := a.indicators.Create(ctx, by, in.Body)
			return &bodyOutput[IndicatorChanged]{IndicatorChanged{i, ch}}, err
		})
	add(a, route{http.MethodPost, "/indicators/import", "import-indicators", "Create many custom indicators in one change", tag, control.RoleOperator, 0},
		func(ctx context.Context, by control.Actor, in *importInput) (*bodyOutput[indicators.Import], error) {
			done, err := a.indicators.Import(ctx, by, in.rows())
			return &bodyOutput[indicators.Import]{done}, err
		})
	add(a, route{http.MethodGet, "/indicators/{id}", "get-indicator", "Get one indicator", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *RefInput) (*bodyOutput[indicator.Indicator], error) {
			i, err := a.indicators.Get(ctx, in.ID)
			return &bodyOutput[indicator.Indicator]{i}, err
		})
	add(a, route{http.MethodPatch, "/indicators/{id}", "update-indicator", "Change a custom indicator in place", tag, control.RoleOperator, 0},
		func(ctx context.Context, by control.Actor, in *indicatorEditInput) (*bodyOutput[IndicatorChanged], error) {
			i, ch, err := a.indicators.Update(ctx, by, in.ID, in.Body)
			return &bodyOutput[IndicatorChanged]{IndicatorChanged{i, ch}}, err
		})
	add(a, route{http.MethodDelete, "/indicators/{id}", "delete-indicator", "Delete a custom indicator", tag, control.RoleOperator, 0},
		func(ctx context.Context, by control.Actor, in *RefInput) (*bodyOutput[control.Change], error) {
			ch, err := a.indicators.Delete(ctx, by, in.ID)
			return &bodyOutput[control.Change]{ch}, err
		})
}
