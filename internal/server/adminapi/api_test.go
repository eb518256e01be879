package adminapi

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"interdict/internal/control"
	"interdict/internal/control/controltest"
	"interdict/internal/control/credential"
	"interdict/internal/control/page"
	"interdict/internal/fault"
	"interdict/internal/indicator"
	"interdict/internal/problem"
	"interdict/internal/server/gate"
	"interdict/internal/store"
)

// newLiveAPI makes an API over a real store, with a token of each role.
func newLiveAPI(tb testing.TB) (api *API, tokens map[control.Role]string) {
	tb.Helper()
	c := controltest.StartAt(tb, store.Config{Dir: tb.TempDir()}, controltest.NewClock(), "https://interdict.example.com:8443")
	tokens = map[control.Role]string{}
	for _, role := range roles() {
		tokens[role] = credential.NewAPISecret()
		if err := c.Credentials.EnsureAPIToken(context.Background(), string(role), tokens[role], role); err != nil {
			tb.Fatal(err)
		}
	}
	api, err := New(Config{
		Control: c.Service, Credentials: c.Credentials, Enrolment: c.Enrolment, Groups: c.Groups, History: c.History, Indicators: c.Indicators,
		Observations: c.Observations, Appeals: c.Appeals, Usage: c.Usage, Rollouts: c.Rollouts, Inquiries: c.Inquiries,
		Gate: gate.New(time.Now), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		tb.Fatal(err)
	}
	return api, tokens
}

// roles are all roles, the least first.
func roles() []control.Role {
	return []control.Role{control.RoleViewer, control.RoleOperator, control.RoleAdministrator}
}

func call(api *API, token, method, path string, body io.Reader) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, Prefix+path, body)
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	return w
}

func TestRoles(t *testing.T) {
	api, tokens := newLiveAPI(t)
	for _, tc := range []struct {
		name         string
		role         control.Role
		method, path string
		body         string
		allowed      bool
	}{
		{"a viewer reads", control.RoleViewer, "GET", "/apps", "", true},
		{"a viewer changes nothing", control.RoleViewer, "PUT", "/app-tags", `{"apps":["itunes"],"tag":"unsanctioned"}`, false},
		{"a viewer does not read the audit log", control.RoleViewer, "GET", "/audit-log", "", false},
		{"an operator tags", control.RoleOperator, "PUT", "/app-tags", `{"apps":["itunes"],"tag":"unsanctioned"}`, true},
		{"an operator does not turn features", control.RoleOperator, "PUT", "/features/app_enforcement", `{"enabled":false}`, false},
		{"an operator admits no devices", control.RoleOperator, "POST", "/tokens", `{"name":"x"}`, false},
		{"an administrator turns features", control.RoleAdministrator, "PUT", "/features/app_enforcement", `{"enabled":false}`, true},
		{"an administrator admits devices", control.RoleAdministrator, "POST", "/tokens", `{"name":"x"}`, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := call(api, tokens[tc.role], tc.method, tc.path, strings.NewReader(tc.body))
			if tc.allowed && w.Code >= 300 || !tc.allowed && w.Code != http.StatusForbidden {
				t.Errorf("got status %d: %s; want allowed %v", w.Code, w.Body, tc.allowed)
			}
		})
	}
	w := call(api, tokens[control.RoleAdministrator], "GET", "/audit-log", nil)
	var log page.Page[control.AuditEntry]
	if err := json.Unmarshal(w.Body.Bytes(), &log); err != nil || refusals(log.Items) != 4 {
		t.Errorf("got %s (%v), want the four refused attempts", w.Body, err)
	}
}

// FuzzIndicatorValue sends values the way a client would. Whatever they are,
// the answer is an indicator in its canonical form, which names the same thing
// when it is sent again, or a problem that names the field; never an internal
// error.
func FuzzIndicatorValue(f *testing.F) {
	for _, seed := range []struct{ kind, value string }{
		{"domain", "Files.Example.COM."},
		{"domain", "*.example.com"},
		{"domain", "bücher.example"},
		{"domain", "co.uk"},
		{"domain", "interdict.example.com"},
		{"url", "http://example.com/a/../b?c#d"},
		{"url", "https://example.com/path"},
		{"ip", "::ffff:192.0.2.1"},
		{"ip", "fe80::1%eth0"},
		{"cidr", "203.0.113.7/24"},
		{"cidr", "::/0"},
		{"certificate", strings.Repeat("ab", 20)},
		{"file_sha256", strings.Repeat("0F", 32)},
		{"domain", "a\x00b\u202e"},
		{"url", "http://[::1]:99999/"},
	} {
		f.Add(seed.kind, seed.value)
	}
	api, tokens := newLiveAPI(f)
	post := func(t *testing.T, kind, value string) *httptest.ResponseRecorder {
		t.Helper()
		body, err := json.Marshal(map[string]any{"type": kind, "value": value, "action": "block"})
		if err != nil {
			t.Fatal(err)
		}
		return call(api, tokens[control.RoleOperator], http.MethodPost, "/indicators", bytes.NewReader(body))
	}
	f.Fuzz(func(t *testing.T, kind, value string) {
		w := post(t, kind, value)
		if w.Code != http.StatusCreated {
			checkProblem(t, w, kind, value)
			return
		}
		var made indicator.Indicator
		if err := json.Unmarshal(w.Body.Bytes(), &made); err != nil {
			t.Fatal(err)
		}
		again := post(t, kind, made.Value)
		if d := problem.Read(again.Result()); again.Code != http.StatusConflict || d.Code != fault.Conflict {
			t.Errorf("%s %q became %q, which gives status %d, want a conflict: %s", kind, value, made.Value, again.Code, d)
		}
		if w := call(api, tokens[control.RoleOperator], http.MethodDelete, "/indicators/"+made.ID, nil); w.Code != http.StatusOK {
			t.Errorf("deleting %s %q: got status %d: %s", kind, made.Value, w.Code, w.Body)
		}
	})
}

func checkProblem(t *testing.T, w *httptest.ResponseRecorder, kind, value string) {
	t.Helper()
	d := problem.Read(w.Result())
	if w.Code >= http.StatusInternalServerError {
		t.Fatalf("%s %q: got status %d: %v", kind, value, w.Code, d)
	}
	if d.Code == fault.Conflict {
		return
	}
	if d.Code != fault.Invalid || len(d.Fields) == 0 || d.Fields[0].Name != "value" && d.Fields[0].Name != "type" {
		t.Fatalf("%s %q: got %v, want an invalid fault of type or value", kind, value, d)
	}
}

func refusals(log []control.AuditEntry) int {
	n := 0
	for _, e := range log {
		if e.Refused != "" && e.ActorKind == string(control.ActorToken) {
			n++
		}
	}
	return n
}
