package adminapi

import (
	"context"
	"net/http"

	"interdict/internal/control"
	"interdict/internal/control/groups"
)

type groupInput struct {
	Body groups.NewGroup
}

type groupPreviewInput struct {
	Body groups.GroupPreviewQuery
}

type groupEditInput struct {
	RefInput
	MatchInput

	Body groups.NewGroup
}

type deleteInput struct {
	RefInput
	MatchInput
}

// GroupChanged is a group, and the revision that has it.
type GroupChanged struct {
	groups.GroupView
	control.Change
}

func (a *API) addGroups() {
	const tag = "groups"
	add(a, route{http.MethodGet, "/groups", "list-groups", "List the device groups", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *PageInput) (*pageOutput[groups.GroupView], error) {
			return pageOf(a.groups.List(ctx, in.query()))
		})
	add(a, route{http.MethodPost, "/groups", "create-group", "Create a device group", tag, control.RoleOperator, http.StatusCreated},
		func(ctx context.Context, by control.Actor, in *groupInput) (*versionedOutput[GroupChanged], error) {
			g, ch, err := a.groups.Create(ctx, by, in.Body)
			return versioned(GroupChanged{g, ch}, g.Version), err
		})
	add(a, route{http.MethodPost, "/groups/preview", "preview-group", "Say which devices would be in a group", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *groupPreviewInput) (*bodyOutput[groups.GroupPreview], error) {
			p, err := a.groups.Preview(ctx, in.Body)
			return &bodyOutput[groups.GroupPreview]{p}, err
		})
	add(a, route{http.MethodGet, "/groups/{id}", "get-group", "Get one device group", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *RefInput) (*versionedOutput[groups.GroupView], error) {
			g, err := a.groups.Get(ctx, in.ID)
			return versioned(g, g.Version), err
		})
	add(a, route{http.MethodPut, "/groups/{id}", "replace-group", "Change a device group", tag, control.RoleOperator, 0},
		func(ctx context.Context, by control.Actor, in *groupEditInput) (*versionedOutput[GroupChanged], error) {
			version, err := in.required(ctx)
			if err != nil {
				return nil, err
			}
			g, ch, err := a.groups.Update(ctx, by, in.ID, version, in.Body)
			return versioned(GroupChanged{g, ch}, g.Version), err
		})
	add(a, route{http.MethodDelete, "/groups/{id}", "delete-group", "Delete a device group", tag, control.RoleOperator, 0},
		func(ctx context.Context, by control.Actor, in *deleteInput) (*bodyOutput[control.Change], error) {
			version, err := in.version()
			if err != nil {
				return nil, err
			}
			ch, err := a.groups.Delete(ctx, by, in.ID, version)
			return &bodyOutput[control.Change]{ch}, err
		})
}
