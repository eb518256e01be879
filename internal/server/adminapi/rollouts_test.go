package adminapi

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"interdict/internal/control"
	"interdict/internal/problem"
)

func TestRolloutsAndExplain(t *testing.T) {
	api, tokens := newLiveAPI(t)
	const tag = `{"canary":"pilot","stop_at":5,"advance_after":"4h","tag":{"app":"itunes","tag":"unsanctioned"}}`
	for _, tt := range []struct {
		name         string
		role         control.Role
		method, path string
		body         string
		want         int
	}{
		{"a group", control.RoleOperator, "POST", "/groups", `{"name":"pilot"}`, http.StatusCreated},
		{"a viewer starts no trial", control.RoleViewer, "POST", "/rollouts", tag, http.StatusForbidden},
		{"an operator starts one", control.RoleOperator, "POST", "/rollouts", tag, http.StatusCreated},
		{"there is one for a target at a time", control.RoleOperator, "POST", "/rollouts", tag, http.StatusConflict},
		{"of what is on trial the tag stays", control.RoleOperator, "PUT", "/app-tags", `{"apps":["itunes"],"tag":"monitored"}`, http.StatusConflict},
		{"a trial of nothing", control.RoleOperator, "POST", "/rollouts", `{"canary":"pilot"}`, http.StatusUnprocessableEntity},
		{"a trial that stops at less than nothing", control.RoleOperator, "POST", "/rollouts", `{"canary":"pilot","stop_at":-1}`, http.StatusUnprocessableEntity},
		{"a viewer looks at all", control.RoleViewer, "GET", "/rollouts", "", http.StatusOK},
		{"a viewer looks at one, by its target", control.RoleViewer, "GET", "/rollouts/iTunes", "", http.StatusOK},
		{"a viewer ends none", control.RoleViewer, "POST", "/rollouts/itunes/stop", "", http.StatusForbidden},
		{"an operator advances", control.RoleOperator, "POST", "/rollouts/itunes/advance", "", http.StatusOK},
		{"what is done cannot be stopped", control.RoleOperator, "POST", "/rollouts/itunes/stop", "", http.StatusConflict},
		{"an operator undoes", control.RoleOperator, "POST", "/rollouts/itunes/undo", "", http.StatusOK},
		{"nothing is not there", control.RoleOperator, "POST", "/rollouts/nothing/undo", "", http.StatusNotFound},
		{"a question without a device", control.RoleViewer, "GET", "/explain?target=example.com", "", http.StatusUnprocessableEntity},
		{"about a device that is not there", control.RoleViewer, "GET", "/explain?target=example.com&device=x", "", http.StatusNotFound},
		{"about nothing", control.RoleViewer, "GET", "/explain?target=.&device=x", "", http.StatusUnprocessableEntity},
		{"with an expectation that is none", control.RoleViewer, "GET", "/explain?target=example.com&device=x&expect=maybe", "", http.StatusUnprocessableEntity},
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
	w := call(api, tokens[control.RoleViewer], "GET", "/rollouts", nil)
	var list struct{ Items []map[string]any }
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list.Items) != 1 || list.Items[0]["state"] != "undone" {
		t.Errorf("got %s (%v), want the rollout, undone", w.Body, err)
	}
}
