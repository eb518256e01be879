package adminapi

import (
	"context"
	"net/http"

	"interdict/internal/control"
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

// PolicyChanged is a policy, and the revision that has it.
type PolicyChanged struct {
	fleet.Policy
	control.Change
}

func (a *API) addPolicies() {
	const tag = "policies"
	add(a, route{http.MethodGet, "/policies", "list-policies", "List the configuration policies", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *PageInput) (*pageOutput[fleet.Policy], error) {
			return pageOf(a.control.Policies(ctx, in.query()))
		})
	add(a, route{http.MethodPost, "/policies", "create-policy", "Create a configuration policy, not yet assigned", tag, control.RoleOperator, http.StatusCreated},
		func(ctx context.Context, by control.Actor, in *policyInput) (*versionedOutput[PolicyChanged], error) {
			p, ch, err := a.control.CreatePolicy(ctx, by, in.Body)
			return versioned(PolicyChanged{p, ch}, p.Version), err
		})
	add(a, route{http.MethodGet, "/policies/{id}", "get-policy", "Get one configuration policy", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *RefInput) (*versionedOutput[fleet.Policy], error) {
			p, err := a.control.Policy(ctx, in.ID)
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
	add(a, route{http.MethodGet, "/policies/{id}/status", "get-policy-status", "Get the devices a policy reaches, and how far they are", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *RefInput) (*bodyOutput[control.PolicyStatus], error) {
			st, err := a.control.PolicyStatus(ctx, in.ID)
			if st.Devices == nil {
				st.Devices = []control.PolicyDevice{}
			}
			return &bodyOutput[control.PolicyStatus]{st}, err
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
