package server_test

import (
	"net/http"
	"strings"
	"testing"

	"interdict/internal/control"
	"interdict/internal/control/groups"
	"interdict/internal/control/history"
	"interdict/internal/fleet"
	"interdict/internal/problem"
	"interdict/internal/server/servertest"
)

func TestTheFleetThroughTheAPI(t *testing.T) {
	s := servertest.Start(t)
	call := func(method, path string, body, into any, want int) {
		t.Helper()
		if got := s.Call(t, method, "/api/v1"+path, body, into); got != want {
			t.Errorf("%s %s: status %d, want %d", method, path, got, want)
		}
	}
	var d problem.Document
	call(http.MethodPost, "/groups", map[string]any{"name": "g", "rule": "os == "}, &d, http.StatusUnprocessableEntity)
	if len(d.Errors) != 1 || d.Errors[0].Name != "rule" || !strings.Contains(d.Errors[0].Rule, "line 1, column ") {
		t.Errorf("got %+v, want a fault of the rule with its place", d)
	}
	call(http.MethodPost, "/groups", map[string]any{"name": "g", "match_labels": map[string]string{}}, &d, http.StatusUnprocessableEntity)
	var p groups.GroupPreview
	call(http.MethodPost, "/groups/preview", map[string]any{"rule": `os == "linux"`}, &p, http.StatusOK)
	if p.Count != 0 || p.Devices == nil {
		t.Errorf("got %+v, want an empty list", p)
	}
	call(http.MethodPost, "/groups", map[string]any{"name": "g", "rule": `os == "linux"`}, nil, http.StatusCreated)

	settings := map[string]any{"network_protection": "block", "warn_bypass_duration": "forever"}
	call(http.MethodPost, "/policies", map[string]any{"name": "p", "settings": settings}, &d, http.StatusUnprocessableEntity)
	if len(d.Errors) != 1 || d.Errors[0].Name != "settings.warn_bypass_duration" {
		t.Errorf("got %+v, want a fault of the setting", d)
	}
	settings["warn_bypass_duration"] = "90m"
	call(http.MethodPost, "/policies", map[string]any{"name": "p", "settings": settings, "platforms": []string{"linux"}}, nil, http.StatusCreated)
	call(http.MethodPut, "/policies/p/assignment", map[string]any{"include_groups": []string{"g"}}, nil, http.StatusOK)
	var status control.PolicyStatus
	call(http.MethodGet, "/policies/p/status", nil, &status, http.StatusOK)
	if len(status.Settings) != 2 || status.Settings[1].Value != "1h30m" || status.Counts != (fleet.StateCounts{}) {
		t.Errorf("got %+v, want both settings and no device", status)
	}
	var devices page[control.PolicyDevice]
	call(http.MethodGet, "/policies/p/devices?state=error,offline&limit=5", nil, &devices, http.StatusOK)
	call(http.MethodGet, "/policies/p/devices?state=idle", nil, &d, http.StatusUnprocessableEntity)
	var history page[history.PolicyEdit]
	call(http.MethodGet, "/policies/p/history", nil, &history, http.StatusOK)
	if len(history.Items) != 2 || history.Items[0].Version != 2 {
		t.Errorf("got %+v, want two versions", history.Items)
	}
	call(http.MethodDelete, "/groups/g", nil, &d, http.StatusConflict)
	if len(d.Errors) != 1 || d.Errors[0].Name != "policy" {
		t.Errorf("got %+v, want what uses the group", d)
	}

	call(http.MethodPut, "/app-tags", map[string]any{"apps": []string{"itunes"}, "tag": "unsanctioned"}, nil, http.StatusOK)
	var app control.AppView
	scope := map[string]any{"include_users": []string{"alice"}, "windows": []any{map[string]any{"from": "08:00", "to": "17:00"}}}
	call(http.MethodPut, "/apps/itunes/scope", scope, &app, http.StatusOK)
	if len(app.Tagging.Scope.Windows) != 1 || app.Tagging.Tag != "unsanctioned" {
		t.Errorf("got %+v, want the tag with its scope", app.Tagging)
	}
	call(http.MethodPut, "/apps/itunes/scope", map[string]any{"windows": []any{map[string]any{"from": "soon", "to": "17:00"}}}, &d, http.StatusUnprocessableEntity)
	call(http.MethodPost, "/devices/nobody/sync", nil, nil, http.StatusNotFound)
}
