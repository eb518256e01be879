package adminapi

import (
	"context"
	"net/http"

	"interdict/internal/access"
	"interdict/internal/control"
	"interdict/internal/control/appeal"
)

type requestsInput struct {
	PageInput

	State  access.State `query:"state" enum:"pending,approved,denied,revoked" doc:"Only requests in this state"`
	Device string       `query:"device" maxLength:"256" doc:"Only requests from the device with this id or name"`
	App    string       `query:"app" maxLength:"128" doc:"Only requests about the app with this id or name"`
	User   string       `query:"user" maxLength:"256" doc:"Only requests of the user with this name"`
}

type approvalInput struct {
	RefInput

	Body appeal.Approval
}

type noteInput struct {
	RefInput

	Body appeal.Note
}

// RequestChanged is a request for access, and the revision that has what was
// decided about it.
type RequestChanged struct {
	appeal.RequestView
	control.Change
}

func (a *API) addRequests() {
	const tag = "requests"
	add(a, route{http.MethodGet, "/requests", "list-requests", "List what users ask access for, newest first", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *requestsInput) (*bodyOutput[appeal.RequestPage], error) {
			p, err := a.appeals.Requests(ctx, appeal.RequestQuery{
				State: in.State, Device: in.Device, App: in.App, User: in.User, Query: in.query(),
			})
			return &bodyOutput[appeal.RequestPage]{p}, err
		})
	add(a, route{http.MethodGet, "/requests/{id}", "get-request", "Get one request for access", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *RefInput) (*bodyOutput[appeal.RequestView], error) {
			v, err := a.appeals.Request(ctx, in.ID)
			return &bodyOutput[appeal.RequestView]{v}, err
		})
	add(a, route{http.MethodPost, "/requests/{id}/approve", "approve-request", "Give access for a while", tag, control.RoleOperator, 0},
		func(ctx context.Context, by control.Actor, in *approvalInput) (*bodyOutput[RequestChanged], error) {
			v, ch, err := a.appeals.Approve(ctx, by, in.ID, in.Body)
			return &bodyOutput[RequestChanged]{RequestChanged{v, ch}}, err
		})
	add(a, route{http.MethodPost, "/requests/{id}/deny", "deny-request", "Deny a request for access", tag, control.RoleOperator, 0},
		func(ctx context.Context, by control.Actor, in *noteInput) (*bodyOutput[appeal.RequestView], error) {
			v, err := a.appeals.Deny(ctx, by, in.ID, in.Body)
			return &bodyOutput[appeal.RequestView]{v}, err
		})
	add(a, route{http.MethodPost, "/requests/{id}/revoke", "revoke-request", "Take back access that was given", tag, control.RoleOperator, 0},
		func(ctx context.Context, by control.Actor, in *noteInput) (*bodyOutput[RequestChanged], error) {
			v, ch, err := a.appeals.Revoke(ctx, by, in.ID, in.Body)
			return &bodyOutput[RequestChanged]{RequestChanged{v, ch}}, err
		})
}
