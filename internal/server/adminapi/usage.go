package adminapi

import (
	"context"
	"net/http"
	"time"

	"interdict/internal/control"
	"interdict/internal/control/usage"
)

type activityInput struct {
	RefInput

	Since time.Time `query:"since" doc:"Count from this time on; 30 days ago if missing"`
}

func (a *API) addUsage() {
	const tag = "apps"
	add(a, route{http.MethodGet, "/apps/{id}/activity", "get-app-activity", "Count whom the rules for an app met with", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *activityInput) (*bodyOutput[usage.Activity], error) {
			v, err := a.usage.Activity(ctx, in.ID, in.Since)
			return &bodyOutput[usage.Activity]{v}, err
		})
	add(a, route{http.MethodPost, "/apps/impact", "get-tag-impact", "Tell what a tag would do, without setting it", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *tagInput) (*bodyOutput[usage.Impact], error) {
			v, err := a.usage.Impact(ctx, in.Body)
			return &bodyOutput[usage.Impact]{v}, err
		})
}
