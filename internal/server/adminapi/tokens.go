package adminapi

import (
	"context"
	"net/http"

	"interdict/internal/control"
	"interdict/internal/control/enrol"
)

type tokenInput struct {
	Body enrol.NewToken
}

// TokenCreated is an enrolment token with its secret, which is shown this
// once.
type TokenCreated struct {
	enrol.TokenView

	Token string `json:"token" doc:"What the machine enrols with; shown this once"`
}

func (a *API) addTokens() {
	const tag = "tokens"
	add(a, route{http.MethodGet, "/tokens", "list-tokens", "List the enrolment tokens, without their secrets", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *PageInput) (*pageOutput[enrol.TokenView], error) {
			return pageOf(a.enrolment.Tokens(ctx, in.query()))
		})
	add(a, route{http.MethodPost, "/tokens", "create-token", "Create an enrolment token", tag, control.RoleAdministrator, http.StatusCreated},
		func(ctx context.Context, by control.Actor, in *tokenInput) (*bodyOutput[TokenCreated], error) {
			v, token, err := a.enrolment.CreateToken(ctx, by, in.Body)
			return &bodyOutput[TokenCreated]{TokenCreated{v, token}}, err
		})
	add(a, route{http.MethodDelete, "/tokens/{id}", "revoke-token", "Revoke an enrolment token", tag, control.RoleAdministrator, 0},
		func(ctx context.Context, by control.Actor, in *RefInput) (*bodyOutput[enrol.TokenView], error) {
			v, err := a.enrolment.RevokeToken(ctx, by, in.ID)
			return &bodyOutput[enrol.TokenView]{v}, err
		})
}
