package adminapi

import (
	"context"
	"net/http"

	"interdict/internal/control"
	"interdict/internal/control/appeal"
)

type bypassesInput struct {
	PageInput

	Device string `query:"device" maxLength:"256" doc:"Only on the device with this id or name"`
	App    string `query:"app" maxLength:"128" doc:"Only of the app with this id or name, or of the indicator with this id"`
	User   string `query:"user" maxLength:"256" doc:"Only of the user with this name"`
}

type revocationInput struct {
	Body appeal.Revocation
}

func (a *API) addBypasses() {
	const tag = "bypasses"
	add(a, route{http.MethodGet, "/bypasses", "list-bypasses", "List who goes on after a warning, newest first", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *bypassesInput) (*pageOutput[appeal.BypassView], error) {
			return pageOf(a.appeals.Bypasses(ctx, appeal.BypassQuery{Device: in.Device, App: in.App, User: in.User, Query: in.query()}))
		})
	add(a, route{http.MethodPost, "/bypasses/revoke", "revoke-bypasses", "End bypasses at once", tag, control.RoleOperator, 0},
		func(ctx context.Context, by control.Actor, in *revocationInput) (*bodyOutput[appeal.Revoked], error) {
			done, err := a.appeals.RevokeBypasses(ctx, by, in.Body)
			return &bodyOutput[appeal.Revoked]{done}, err
		})
}
