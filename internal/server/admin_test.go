package server_test

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/bundle"
	"interdict/internal/control"
	"interdict/internal/control/groups"
	"interdict/internal/fault"
	"interdict/internal/problem"
	"interdict/internal/server/servertest"
)

// documentedRoutes returns method and path of every operation in the document.
func documentedRoutes(t *testing.T) [][2]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "openapi.json"))
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(b, &document); err != nil {
		t.Fatal(err)
	}
	var routes [][2]string
	for path, operations := range document.Paths {
		for method := range operations {
			p := strings.NewReplacer("{id}", "x", "{name}", "app_enforcement").Replace(path)
			routes = append(routes, [2]string{strings.ToUpper(method), "/api/v1" + p})
		}
	}
	if len(routes) < 30 {
		t.Fatalf("got %d routes, want the document to have more", len(routes))
	}
	return routes
}

func TestNoRouteAnswersWithoutAToken(t *testing.T) {
	s := servertest.Start(t)
	device := s.Enroll(t, "alice-pc")
	routes := append(documentedRoutes(t),
		[2]string{http.MethodGet, "/metrics"}, [2]string{http.MethodGet, "/api/v1/no-such-thing"}, [2]string{http.MethodTrace, "/api/v1/apps"})
	for _, caller := range []struct {
		name, authorization string
		client              *http.Client
	}{
		{"nobody", "", s.HTTP},
		{"a wrong token", "Bearer ida1_wrong", s.HTTP},
		{"another scheme", "Basic " + s.Token, s.HTTP},
		{"a device by its certificate", "", device.HTTP},
	} {
		t.Run(caller.name, func(t *testing.T) {
			for _, r := range routes {
				req, err := http.NewRequestWithContext(t.Context(), r[0], s.LocalURL()+r[1], http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Authorization", caller.authorization)
				resp, err := caller.client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				got := problem.Read(resp)
				resp.Body.Close()
				// Who keeps failing is told to wait instead.
				if got.Code != fault.Unauthorized && got.Code != fault.TooMany {
					t.Errorf("%s %s: got status %d, code %s; want unauthorized", r[0], r[1], resp.StatusCode, got.Code)
				}
			}
		})
	}
}

func TestFailedAttemptsAreLimitedAndInTheAuditLog(t *testing.T) {
	s := servertest.Start(t)
	var d problem.Document
	statuses := map[int]int{}
	for range 15 {
		statuses[s.Call(t, http.MethodGet, "/api/v1/apps", nil, &d, "Authorization", "Bearer ida1_guess")]++
	}
	if statuses[http.StatusUnauthorized] != 10 || statuses[http.StatusTooManyRequests] != 5 {
		t.Errorf("got %v, want 10 times 401 and 5 times 429", statuses)
	}
	if d.Hint == "" {
		t.Error("429 comes without a hint when to try again")
	}
	// The right token still works from the same address.
	var log page[control.AuditEntry]
	s.Call(t, http.MethodGet, "/api/v1/audit-log", nil, &log)
	refused := 0
	for _, e := range log.Items {
		if e.Refused != "" && e.Source == "127.0.0.1" && e.Action == "GET /api/v1/apps" {
			refused++
		}
	}
	if refused != 10 {
		t.Errorf("got %d entries in the audit log, want 10", refused)
	}
}

func TestProblems(t *testing.T) {
	s := servertest.Start(t)
	for _, tc := range []struct {
		name, method, path string
		body               any
		status             int
		code               fault.Code
		fields             []fault.Field
	}{
		{"an app that does not exist", "GET", "/apps/nothing", nil, 404, fault.NotFound, nil},
		{"a path that does not exist", "GET", "/nothing", nil, 404, fault.NotFound, nil},
		{"a method that does not exist", "DELETE", "/apps", nil, 405, fault.Invalid, nil},
		{
			"a field that does not exist", "PUT", "/features/app_enforcement",
			map[string]any{"enabled": true, "extra": 1},
			422, fault.Invalid,
			[]fault.Field{{Name: "extra", Rule: "is not a known field"}},
		},
		{
			"a field that is missing", "PUT", "/features/app_enforcement",
			map[string]any{},
			422, fault.Invalid,
			[]fault.Field{{Name: "enabled", Rule: "is missing"}},
		},
		{
			"a field of another type", "PUT", "/features/app_enforcement",
			map[string]any{"enabled": "yes"},
			422, fault.Invalid,
			[]fault.Field{{Name: "enabled", Rule: "must be of type boolean"}},
		},
		{
			"a value that is not in the list", "POST", "/indicators",
			map[string]any{"type": "domain", "value": "example.com", "action": "kill"},
			422, fault.Invalid,
			[]fault.Field{{Name: "action", Rule: "must be one of allow, audit, warn, block"}},
		},
		{
			"a parameter that does not exist", "GET", "/apps?colour=red", nil,
			422, fault.Invalid,
			[]fault.Field{{Name: "colour", Rule: "is not a known parameter"}},
		},
		{
			"a parameter that is no number", "GET", "/apps?limit=many", nil,
			422, fault.Invalid,
			[]fault.Field{{Name: "limit", Rule: "is no valid integer"}},
		},
		{"a body that is not JSON", "PUT", "/features/app_enforcement", json.RawMessage(`"\`), 0, "", nil},
		{
			"a version that is none", "PUT", "/groups/x", map[string]any{"name": "x"}, 428, fault.Invalid, nil,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.status == 0 {
				testNotJSON(t, s)
				return
			}
			var d problem.Document
			status := s.Call(t, tc.method, "/api/v1"+tc.path, tc.body, &d)
			if status != tc.status || d.Status != tc.status || d.Code != tc.code {
				t.Errorf("got status %d, %d in the document, code %s; want %d, %s", status, d.Status, d.Code, tc.status, tc.code)
			}
			if diff := cmp.Diff(tc.fields, d.Errors); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
			if d.RequestID == "" || d.Detail == "" || d.Title == "" {
				t.Errorf("got %+v, want title, detail and request id", d)
			}
		})
	}
}

func testNotJSON(t *testing.T, s *servertest.Server) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.LocalURL()+"/api/v1/features/app_enforcement", strings.NewReader("{]"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.Token)
	resp, err := s.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got := problem.Read(resp)
	if resp.StatusCode != http.StatusBadRequest || got.Code != fault.Invalid || len(got.Fields) != 1 || !strings.HasPrefix(got.Fields[0].Rule, "is not JSON: ") {
		t.Errorf("got status %d and %+v, want 400 and that the body is not JSON", resp.StatusCode, got)
	}
}

func TestAnEditOfAnOldVersionIsRefused(t *testing.T) {
	s := servertest.Start(t)
	var g groups.GroupView
	s.Call(t, http.MethodPost, "/api/v1/groups", map[string]any{"name": "laptops"}, &g)
	const path = "/api/v1/groups/laptops"
	edit := func(text string) map[string]any { return map[string]any{"name": "laptops", "description": text} }
	if status := s.Call(t, http.MethodPut, path, edit("first"), nil, "If-Match", `"1"`); status != http.StatusOK {
		t.Fatalf("got status %d for the current version, want 200", status)
	}
	for _, tc := range []struct {
		name, method, ifMatch string
		want                  int
	}{
		{"an old version", http.MethodPut, `"1"`, http.StatusPreconditionFailed},
		{"an old version, deleting", http.MethodDelete, `"1"`, http.StatusPreconditionFailed},
		{"a weak tag", http.MethodPut, `W/"2"`, http.StatusUnprocessableEntity},
		{"a tag without quotes", http.MethodPut, `2`, http.StatusUnprocessableEntity},
		{"no version, replacing the whole", http.MethodPut, "", http.StatusPreconditionRequired},
		{"any version", http.MethodPut, "*", http.StatusOK},
		{"the current version", http.MethodPut, `"3"`, http.StatusOK},
		{"no version, deleting", http.MethodDelete, "", http.StatusOK},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var header []string
			if tc.ifMatch != "" {
				header = []string{"If-Match", tc.ifMatch}
			}
			var body any
			if tc.method == http.MethodPut {
				body = edit("second")
			}
			if got := s.Call(t, tc.method, path, body, nil, header...); got != tc.want {
				t.Errorf("got status %d, want %d", got, tc.want)
			}
		})
	}
}

func TestAScopeOfATagThatSomebodyElseChangedIsRefused(t *testing.T) {
	s := servertest.Start(t)
	s.Call(t, http.MethodPut, "/api/v1/app-tags", map[string]any{"apps": []string{"itunes"}, "tag": "unsanctioned"}, nil)
	const path = "/api/v1/apps/itunes"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.LocalURL()+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.Token)
	resp, err := s.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	read := resp.Header.Get("ETag")
	for _, tc := range []struct {
		name, user, ifMatch string
		want                int
	}{
		{"the edition that was read", "alice", read, http.StatusOK},
		{"the same again, after the change", "bob", read, http.StatusPreconditionFailed},
		{"any edition", "bob", "*", http.StatusOK},
	} {
		t.Run(tc.name, func(t *testing.T) {
			scope := map[string]any{"exclude_users": []string{tc.user}}
			if got := s.Call(t, http.MethodPut, path+"/scope", scope, nil, "If-Match", tc.ifMatch); got != tc.want {
				t.Errorf("got status %d, want %d", got, tc.want)
			}
		})
	}
}

func TestListsComeInPages(t *testing.T) {
	s := servertest.Start(t)
	want := 0
	seen := map[string]bool{}
	for path := "/api/v1/apps?limit=7"; ; {
		var p page[control.AppView]
		s.Call(t, http.MethodGet, path, nil, &p)
		for _, a := range p.Items {
			if seen[a.ID] {
				t.Errorf("app %s is on two pages", a.ID)
			}
			seen[a.ID] = true
		}
		want += len(p.Items)
		if p.Next == "" {
			break
		}
		if len(p.Items) != 7 {
			t.Fatalf("got %d items on a page that is not the last, want 7", len(p.Items))
		}
		path = "/api/v1/apps?limit=7&cursor=" + p.Next
	}
	if len(seen) < 40 || len(seen) != want {
		t.Errorf("got %d apps over all pages, %d different; want at least 40", want, len(seen))
	}
	var d problem.Document
	if status := s.Call(t, http.MethodGet, "/api/v1/apps?cursor=%00made-up", nil, &d); status != http.StatusUnprocessableEntity && status != http.StatusOK {
		t.Errorf("got status %d for a cursor that was made up", status)
	}
}

func TestTLS(t *testing.T) {
	s := servertest.Start(t)
	addr := strings.TrimPrefix(s.LocalURL(), "https://")
	for _, tc := range []struct {
		name string
		conf *tls.Config
		want string
	}{
		{"TLS 1.1", &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, "protocol version"},
		{"TLS 1.2", &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := (&tls.Dialer{Config: tc.conf}).DialContext(t.Context(), "tcp", addr)
			if tc.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				chain := c.(*tls.Conn).ConnectionState().PeerCertificates
				_, pin, _ := strings.Cut(s.Token, ".")
				if len(chain) != 2 || bundle.Fingerprint(chain[1].Raw) != pin {
					t.Errorf("got a chain of %d, want the authority with the pinned fingerprint in it", len(chain))
				}
				for _, host := range []string{"localhost", "127.0.0.1", "::1"} {
					if err = chain[0].VerifyHostname(host); err != nil {
						t.Errorf("the certificate is not for %s: %v", host, err)
					}
				}
				c.Close()
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}
