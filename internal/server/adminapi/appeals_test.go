package adminapi

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"interdict/internal/control"
	"interdict/internal/problem"
)

func TestWhoDecidesRequestsAndBypasses(t *testing.T) {
	api, tokens := newLiveAPI(t)
	for _, tt := range []struct {
		name         string
		role         control.Role
		method, path string
		body         string
		want         int
	}{
		{"a viewer looks at requests", control.RoleViewer, "GET", "/requests?state=pending", "", http.StatusOK},
		{"a viewer approves nothing", control.RoleViewer, "POST", "/requests/x/approve", `{}`, http.StatusForbidden},
		{"a viewer denies nothing", control.RoleViewer, "POST", "/requests/x/deny", `{}`, http.StatusForbidden},
		{"a viewer revokes nothing", control.RoleViewer, "POST", "/requests/x/revoke", `{}`, http.StatusForbidden},
		{"an operator approves what is there", control.RoleOperator, "POST", "/requests/x/approve", `{"for":"1h"}`, http.StatusNotFound},
		{"an operator denies what is there", control.RoleOperator, "POST", "/requests/x/deny", `{"note":"no"}`, http.StatusNotFound},
		{"a state that is none", control.RoleViewer, "GET", "/requests?state=open", "", http.StatusUnprocessableEntity},
		{"a reach that is none", control.RoleOperator, "POST", "/requests/x/approve", `{"reach":"all"}`, http.StatusUnprocessableEntity},
		{"a viewer looks at bypasses", control.RoleViewer, "GET", "/bypasses", "", http.StatusOK},
		{"a viewer ends no bypasses", control.RoleViewer, "POST", "/bypasses/revoke", `{"all":true}`, http.StatusForbidden},
		{"an operator ends bypasses", control.RoleOperator, "POST", "/bypasses/revoke", `{"all":true}`, http.StatusOK},
		{"an operator ends nothing in particular", control.RoleOperator, "POST", "/bypasses/revoke", `{}`, http.StatusUnprocessableEntity},
		{"a cursor that is none", control.RoleViewer, "GET", "/bypasses?cursor=x", "", http.StatusUnprocessableEntity},
		{"a viewer asks for the impact of a tag", control.RoleViewer, "POST", "/apps/impact", `{"apps":["itunes"],"tag":"unsanctioned"}`, http.StatusOK},
		{"the impact of no tag", control.RoleViewer, "POST", "/apps/impact", `{"apps":["itunes"],"tag":"bad"}`, http.StatusUnprocessableEntity},
		{"whom an app's rules met with", control.RoleViewer, "GET", "/apps/itunes/activity", "", http.StatusOK},
		{"since a time that is none", control.RoleViewer, "GET", "/apps/itunes/activity?since=today", "", http.StatusUnprocessableEntity},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := call(api, tokens[tt.role], tt.method, tt.path, strings.NewReader(tt.body))
			if w.Code != tt.want {
				t.Errorf("got status %d, want %d: %s", w.Code, tt.want, w.Body)
			}
			if w.Code >= http.StatusBadRequest && problem.Read(w.Result()).Message == "" {
				t.Errorf("the answer says not what is wrong")
			}
		})
	}
	w := call(api, tokens[control.RoleViewer], "GET", "/requests", nil)
	var list map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || list["pending"] != 0.0 || list["items"] == nil {
		t.Errorf("got %s (%v), want an empty list with none pending", w.Body, err)
	}
}
