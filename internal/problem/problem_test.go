package problem_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/fault"
	"interdict/internal/problem"
)

func TestAFaultSurvivesTheJourney(t *testing.T) {
	var fields fault.Fields
	fields.Add("value", "must be a host name")
	invalid := fault.New(fault.Invalid, "the indicator is not valid").WithHint("write example.com")
	invalid.Fields = fields
	for _, want := range []*fault.Error{
		invalid,
		fault.New(fault.NotFound, "no app %q", "x"),
		fault.New(fault.Conflict, "the name is taken"),
		fault.New(fault.Stale, "somebody else changed it"),
		fault.New(fault.Unauthorized, "the token is not known"),
		fault.New(fault.Forbidden, "not allowed"),
		fault.New(fault.TooMany, "too often"),
		fault.New(fault.Disabled, "the feature is off"),
		fault.New(fault.Unavailable, "try again later"),
	} {
		t.Run(string(want.Code), func(t *testing.T) {
			w := httptest.NewRecorder()
			problem.New(fmt.Errorf("doing: %w", want), "01X").Write(w)
			if w.Code != problem.Status(want.Code) {
				t.Errorf("got status %d, want %d", w.Code, problem.Status(want.Code))
			}
			if ct := w.Header().Get("Content-Type"); ct != problem.ContentType {
				t.Errorf("got content type %q, want %q", ct, problem.ContentType)
			}
			if diff := cmp.Diff(want, problem.Read(w.Result())); diff != "" {
				t.Errorf("the fault changed on its way (-sent +read):\n%s", diff)
			}
		})
	}
}

func TestAnInternalErrorTellsNothingButTheRequestID(t *testing.T) {
	w := httptest.NewRecorder()
	problem.New(errors.New("opening /var/lib/secret: permission denied"), "01REQUEST").Write(w)
	if body := w.Body.String(); strings.Contains(body, "secret") || !strings.Contains(body, "01REQUEST") {
		t.Errorf("got %s, want the request id and nothing of the cause", body)
	}
	if w.Code != http.StatusInternalServerError {
		t.Errorf("got status %d, want 500", w.Code)
	}
}

func TestAnAnswerThatIsNoDocumentBecomesAFaultWithItsStatus(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status int
		body   string
		want   fault.Code
	}{
		{"a proxy's page", http.StatusBadGateway, "<html>Bad Gateway</html>", fault.Unavailable},
		{"JSON of somebody else", http.StatusForbidden, `{"message":"no"}`, fault.Forbidden},
		{"an empty body", http.StatusTeapot, "", fault.Invalid},
		{"a failure without words", http.StatusInternalServerError, "", fault.Internal},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			w.WriteHeader(tc.status)
			w.WriteString(tc.body)
			got := problem.Read(w.Result())
			if got.Code != tc.want || !strings.Contains(got.Message, fmt.Sprint(tc.status)) {
				t.Errorf("got %s %q, want code %s with the status in the message", got.Code, got.Message, tc.want)
			}
		})
	}
}
