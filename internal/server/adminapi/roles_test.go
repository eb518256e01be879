package adminapi

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"interdict/internal/control"
)

// needs says who may call what, at least.
func needs() map[string]control.Role {
	all := make(map[string]control.Role)
	for role, operations := range map[control.Role]string{
		control.RoleViewer: `list-apps get-app get-app-activity get-tag-impact list-indicators get-indicator
			list-groups get-group preview-group list-policies get-policy get-policy-status list-policy-devices list-policy-history
			list-devices get-device get-progress list-events list-alerts get-alert list-tokens list-features
			list-requests get-request list-bypasses list-rollouts get-rollout explain`,
		control.RoleOperator: `tag-apps scope-app create-indicator import-indicators update-indicator delete-indicator
			create-group replace-group delete-group create-policy replace-policy assign-policy delete-policy
			update-device delete-device sync-device approve-request deny-request revoke-request revoke-bypasses
			start-rollout stop-rollout advance-rollout undo-rollout`,
		control.RoleAdministrator: `set-feature list-audit-log create-token revoke-token`,
	} {
		for id := range strings.FieldsSeq(operations) {
			all[id] = role
		}
	}
	return all
}

// operations are all operations of the API, by their ids.
func operations(api *API) map[string]*huma.Operation {
	all := make(map[string]*huma.Operation)
	for _, path := range api.huma.OpenAPI().Paths {
		for _, op := range []*huma.Operation{path.Get, path.Put, path.Post, path.Patch, path.Delete} {
			if op != nil {
				all[op.OperationID] = op
			}
		}
	}
	return all
}

func TestEveryOperationNeedsItsRole(t *testing.T) {
	api, tokens := newLiveAPI(t)
	all, want := operations(api), needs()
	for id := range want {
		if all[id] == nil {
			t.Errorf("there is no operation %s", id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		op := all[id]
		need, known := want[id]
		if !known {
			t.Errorf("who may call %s is not said here", id)
			continue
		}
		path := strings.NewReplacer("{id}", "x", "{name}", "x").Replace(op.Path)
		for _, role := range roles() {
			w := call(api, tokens[role], op.Method, path, strings.NewReader("this is not JSON"))
			if allowed := w.Code != http.StatusForbidden; allowed != role.Allows(need) || w.Code >= http.StatusInternalServerError {
				t.Errorf("%s (%s %s) by a %s: status %d, want it to need %s", id, op.Method, path, role, w.Code, need)
			}
		}
		if w := call(api, "none", op.Method, path, nil); w.Code != http.StatusUnauthorized && w.Code != http.StatusTooManyRequests {
			t.Errorf("%s (%s %s) without a token: status %d", id, op.Method, path, w.Code)
		}
	}
}
