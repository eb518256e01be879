package adminapi

import (
	"context"
	"net/http"

	"interdict/internal/control"
	"interdict/internal/control/history"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

type policyInput struct {
	Body control.NewPolicy
}

type policyEditInput struct {
	RefInput
	MatchInput

	Body control.NewPolicy
}

type assignmentInput struct {
	RefInput
	MatchInput

	Body indicator.Scope
}

type policyDeleteInput struct {
	RefInput
	MatchInput

	Force bool `query:"force" doc:"Delete it though it is assigned"`
}

type policyDevicesInput struct {
	RefInput
	PageInput

	State []fleet.SettingState `query:"state" enum:"error,conflict,pending,offline,applied,not_applicable" doc:"Only devices in one of these states"`
}

type policyHistoryInput struct {
	RefInput
	PageInput
}

// PolicyChanged is a policy, and the revision that has it.
type PolicyChanged struct {
	fleet.Policy
	control.Change
}

func (a *API) addPolicies() {
	const tag = "policies"
	add(a, route{http.MethodGet, "/policies", "list-policies", "List the configuration policies", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *PageInput) (*pageOutput[control.PolicyView], error) {
			return pageOf(a.control.Policies(ctx, in.query()))
		})
	add(a, route{http.MethodPost, "/policies", "create-policy", "Create a configuration policy, not yet assigned", tag, control.RoleOperator, http.StatusCreated},
		func(ctx context.Context, by control.Actor, in *policyInput) (*versionedOutput[PolicyChanged], error) {
			p, ch, err := a.control.CreatePolicy(ctx, by, in.Body)
			return versioned(PolicyChanged{p, ch}, p.Version), err
		})
	add(a, route{http.MethodGet, "/policies/{id}", "get-policy", "Get one configuration policy", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *RefInput) (*versionedOutput[control.PolicyView], error) {
			p, err := a.control.PolicyView(ctx, in.ID)
			return versioned(p, p.Version), err
		})
	add(a, route{http.MethodPut, "/policies/{id}", "replace-policy", "Change a configuration policy", tag, control.RoleOperator, 0},
		func(ctx context.Context, by control.Actor, in *policyEditInput) (*versionedOutput[PolicyChanged], error) {
			version, err := in.required(ctx)
			if err != nil {
				return nil, err
			}
			p, ch, err := a.control.UpdatePolicy(ctx, by, in.ID, version, in.Body)
			return versioned(PolicyChanged{p, ch}, p.Version), err
		})
	add(a, route{http.MethodPut, "/policies/{id}/assignment", "assign-policy", "Say which devices a policy reaches", tag, control.RoleOperator, 0},
		func(ctx context.Context, by control.Actor, in *assignmentInput) (*versionedOutput[PolicyChanged], error) {
			version, err := in.version()
			if err != nil {
				return nil, err
			}
			p, ch, err := a.control.AssignPolicy(ctx, by, in.ID, version, in.Body)
			return versioned(PolicyChanged{p, ch}, p.Version), err
		})
	add(a, route{http.MethodGet, "/policies/{id}/status", "get-policy-status", "Get how far the devices have come that a policy is assigned to", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *RefInput) (*bodyOutput[control.PolicyStatus], error) {
			st, err := a.control.PolicyStatus(ctx, in.ID)
			return &bodyOutput[control.PolicyStatus]{st}, err
		})
	add(a, route{http.MethodGet, "/policies/{id}/devices", "list-policy-devices", "List the devices that a policy is assigned to, with how far each has come", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *policyDevicesInput) (*pageOutput[control.PolicyDevice], error) {
			return pageOf(a.control.PolicyDevices(ctx, in.ID, control.PolicyDeviceQuery{States: in.State, Query: in.query()}))
		})
	add(a, route{http.MethodGet, "/policies/{id}/history", "list-policy-history", "List the versions of a policy, newest first", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *policyHistoryInput) (*pageOutput[history.PolicyEdit], error) {
			return pageOf(a.history.Policy(ctx, in.ID, in.query()))
		})
	add(a, route{http.MethodDelete, "/policies/{id}", "delete-policy", "Delete a configuration policy", tag, control.RoleOperator, 0},
		func(ctx context.Context, by control.Actor, in *policyDeleteInput) (*bodyOutput[control.Change], error) {
			version, err := in.version()
			if err != nil {
				return nil, err
			}
			ch, err := a.control.DeletePolicy(ctx, by, in.ID, control.PolicyDeletion{Version: version, Assigned: in.Force})
			return &bodyOutput[control.Change]{ch}, err
		})
}
