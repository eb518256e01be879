package adminapi

import (
	"context"
	"net/http"

	"interdict/internal/control"
	"interdict/internal/control/rollout"
)

type rolloutInput struct {
	Body rollout.NewRollout
}

// RolloutRefInput names one rollout.
type RolloutRefInput struct {
	ID string `path:"id" maxLength:"512" doc:"Id of the rollout, or id or name of the policy or app that it is about"`
}

// RolloutChanged is a rollout, and the revision that has what was done.
type RolloutChanged struct {
	rollout.View
	control.Change
}

func (a *API) addRollouts() {
	const tag = "rollouts"
	add(a, route{http.MethodGet, "/rollouts", "list-rollouts", "List the staged changes, newest first", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *PageInput) (*pageOutput[rollout.View], error) {
			return pageOf(a.rollouts.List(ctx, in.query()))
		})
	add(a, route{http.MethodPost, "/rollouts", "start-rollout", "Try a change of a policy or a tag out in a group", tag, control.RoleOperator, http.StatusCreated},
		func(ctx context.Context, by control.Actor, in *rolloutInput) (*bodyOutput[RolloutChanged], error) {
			v, ch, err := a.rollouts.Begin(ctx, by, in.Body)
			return &bodyOutput[RolloutChanged]{RolloutChanged{v, ch}}, err
		})
	add(a, route{http.MethodGet, "/rollouts/{id}", "get-rollout", "Get one staged change with its canary's devices", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *RolloutRefInput) (*bodyOutput[rollout.View], error) {
			v, err := a.rollouts.Get(ctx, in.ID)
			return &bodyOutput[rollout.View]{v}, err
		})
	for _, end := range []struct {
		verb, id, summary string
		do                func(context.Context, control.Actor, string) (rollout.View, control.Change, error)
	}{
		{"advance", "advance-rollout", "Give a change on trial to everybody it is for", a.rollouts.Advance},
		{"stop", "stop-rollout", "End a trial so that nobody has the change", a.rollouts.Stop},
		{"undo", "undo-rollout", "Take back a change that everybody has", a.rollouts.Undo},
	} {
		add(a, route{http.MethodPost, "/rollouts/{id}/" + end.verb, end.id, end.summary, tag, control.RoleOperator, 0},
			func(ctx context.Context, by control.Actor, in *RolloutRefInput) (*bodyOutput[RolloutChanged], error) {
				v, ch, err := end.do(ctx, by, in.ID)
				return &bodyOutput[RolloutChanged]{RolloutChanged{v, ch}}, err
			})
	}
}
