package adminapi

import (
	"context"
	"net/http"

	"interdict/internal/control"
	"interdict/internal/indicator"
)

type indicatorsInput struct {
	PageInput

	Type   indicator.Type   `query:"type" enum:"domain,url,ip,cidr,certificate,file_sha256" doc:"Only indicators of this type"`
	Source indicator.Source `query:"source" enum:"catalog,custom,feed" doc:"Only indicators from this source"`
	App    string           `query:"app" maxLength:"128" doc:"Only indicators of the app with this id"`
	Search string           `query:"search" maxLength:"256" doc:"Only indicators with this text in value or description"`
}

type indicatorInput struct {
	Body control.NewIndicator
}

type importInput struct {
	Body struct {
		Indicators []control.NewIndicator `json:"indicators" minItems:"1" maxItems:"1000"`
	}
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
			return pageOf(a.control.Indicators(ctx, control.IndicatorQuery{
				Type: in.Type, Source: in.Source, AppID: in.App, Search: in.Search, PageQuery: in.query(),
			}))
		})
	add(a, route{http.MethodPost, "/indicators", "create-indicator", "Create a custom indicator", tag, control.RoleOperator, http.StatusCreated},
		func(ctx context.Context, by control.Actor, in *indicatorInput) (*bodyOutput[IndicatorChanged], error) {
			i, ch, err := a.control.CreateIndicator(ctx, by, in.Body)
			return &bodyOutput[IndicatorChanged]{IndicatorChanged{i, ch}}, err
		})
	add(a, route{http.MethodPost, "/indicators/import", "import-indicators", "Create many custom indicators in one change", tag, control.RoleOperator, 0},
		func(ctx context.Context, by control.Actor, in *importInput) (*bodyOutput[control.Import], error) {
			done, err := a.control.ImportIndicators(ctx, by, in.Body.Indicators)
			return &bodyOutput[control.Import]{done}, err
		})
	add(a, route{http.MethodGet, "/indicators/{id}", "get-indicator", "Get one indicator", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *RefInput) (*bodyOutput[indicator.Indicator], error) {
			i, err := a.control.Indicator(ctx, in.ID)
			return &bodyOutput[indicator.Indicator]{i}, err
		})
	add(a, route{http.MethodDelete, "/indicators/{id}", "delete-indicator", "Delete a custom indicator", tag, control.RoleOperator, 0},
		func(ctx context.Context, by control.Actor, in *RefInput) (*bodyOutput[control.Change], error) {
			ch, err := a.control.DeleteIndicator(ctx, by, in.ID)
			return &bodyOutput[control.Change]{ch}, err
		})
}
