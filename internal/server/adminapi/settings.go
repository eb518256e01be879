package adminapi

import (
	"context"
	"net/http"

	"interdict/internal/control"
	"interdict/internal/control/observation"
	"interdict/internal/control/page"
	"interdict/internal/fleet"
)

type featureInput struct {
	Name fleet.Feature `path:"name" enum:"app_enforcement,custom_network_indicators"`
	Body control.FeatureUpdate
}

// FeatureChanged is a feature switch, and the revision that has it.
type FeatureChanged struct {
	control.FeatureView
	control.Change
}

type auditInput struct {
	PageInput

	Actor  string `query:"actor" maxLength:"256" doc:"Only what the actor with this id or name did or tried"`
	Action string `query:"action" maxLength:"256" doc:"Only this action, such as app.tag"`
	Target string `query:"target" maxLength:"512" doc:"Only what was done to the thing with this id or name"`
}

func (a *API) addSettings() {
	const tag = "settings"
	add(a, route{http.MethodGet, "/features", "list-features", "List the features of the server", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, _ *struct{}) (*pageOutput[control.FeatureView], error) {
			items, err := a.control.Features(ctx)
			return pageOf(page.Page[control.FeatureView]{Items: items}, err)
		})
	add(a, route{http.MethodPut, "/features/{name}", "set-feature", "Turn a feature on or off", tag, control.RoleAdministrator, 0},
		func(ctx context.Context, by control.Actor, in *featureInput) (*bodyOutput[FeatureChanged], error) {
			f, ch, err := a.control.SetFeature(ctx, by, in.Name, in.Body)
			return &bodyOutput[FeatureChanged]{FeatureChanged{f, ch}}, err
		})
	add(a, route{http.MethodGet, "/audit-log", "list-audit-log", "List who changed what, and who tried, newest first", tag, control.RoleAdministrator, 0},
		func(ctx context.Context, _ control.Actor, in *auditInput) (*pageOutput[control.AuditEntry], error) {
			return pageOf(a.observations.AuditLog(ctx, observation.AuditQuery{
				Actor: in.Actor, Action: in.Action, Target: in.Target, Query: in.query(),
			}))
		})
}
