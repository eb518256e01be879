package adminapi

import (
	"context"
	"net/http"

	"interdict/internal/cloudapp"
	"interdict/internal/control"
	"interdict/internal/indicator"
)

type appsInput struct {
	PageInput

	Search   string       `query:"search" maxLength:"256" doc:"Only apps with this text in id, name, vendor or domains"`
	Tag      cloudapp.Tag `query:"tag" enum:"none,sanctioned,unsanctioned,monitored" doc:"Only apps with this tag"`
	Category string       `query:"category" maxLength:"128" doc:"Only apps of this category"`
}

type tagInput struct {
	Body control.TagRequest
}

type scopeInput struct {
	RefInput
	MatchInput

	Body indicator.Profile
}

// AppChanged is an app, and the revision that has it.
type AppChanged struct {
	control.AppView
	control.Change
}

func (a *API) addApps() {
	const tag = "apps"
	add(a, route{http.MethodGet, "/apps", "list-apps", "List the cloud apps with their tags", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *appsInput) (*pageOutput[control.AppView], error) {
			return pageOf(a.control.Apps(ctx, control.AppQuery{
				Search: in.Search, Tag: in.Tag, Category: in.Category, Query: in.query(),
			}))
		})
	add(a, route{http.MethodGet, "/apps/{id}", "get-app", "Get one cloud app", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *RefInput) (*versionedOutput[control.AppView], error) {
			v, err := a.control.App(ctx, in.ID)
			return versioned(v, v.Tagging.Edition()), err
		})
	add(a, route{http.MethodPut, "/apps/{id}/scope", "scope-app", "Say for whom and when the tag of an app counts", tag, control.RoleOperator, 0},
		func(ctx context.Context, by control.Actor, in *scopeInput) (*versionedOutput[AppChanged], error) {
			edition, err := in.version()
			if err != nil {
				return nil, err
			}
			v, ch, err := a.control.ScopeApp(ctx, by, in.ID, edition, in.Body)
			return versioned(AppChanged{v, ch}, v.Tagging.Edition()), err
		})
	add(a, route{http.MethodPut, "/app-tags", "tag-apps", "Tag apps, all of them or none", tag, control.RoleOperator, 0},
		func(ctx context.Context, by control.Actor, in *tagInput) (*bodyOutput[control.Change], error) {
			ch, err := a.control.TagApps(ctx, by, in.Body)
			return &bodyOutput[control.Change]{ch}, err
		})
}
