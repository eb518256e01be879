package request_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"interdict/internal/fault"
	"interdict/internal/problem"
	"interdict/internal/server/request"
)

// serve runs one request through the wrapped handler and returns the answer,
// the status that was observed, and the log.
func serve(t *testing.T, body string, h http.HandlerFunc) (*httptest.ResponseRecorder, int, string) {
	t.Helper()
	var log bytes.Buffer
	observed := 0
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w := httptest.NewRecorder()
	request.Wrap(request.Config{
		Handler: h, Logger: logger, MaxBody: 16,
		Observe: func(_ *http.Request, status int, _ time.Duration) { observed = status },
	}).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/x", strings.NewReader(body)))
	return w, observed, log.String()
}

func TestAPanicBecomesAProblemAndAStackInTheLog(t *testing.T) {
	w, observed, log := serve(t, "", func(http.ResponseWriter, *http.Request) { panic("a bug") })
	got := problem.Read(w.Result())
	if w.Code != 500 || observed != 500 || got.Code != fault.Internal {
		t.Errorf("got status %d, observed %d, code %s; want 500, 500, internal", w.Code, observed, got.Code)
	}
	if !strings.Contains(log, "a bug") || !strings.Contains(log, "request_test.go") {
		t.Errorf("got log %s, want the panic and its stack", log)
	}
	if id := w.Header().Get(request.HeaderID); id == "" || !strings.Contains(log, id) || !strings.Contains(got.Hint, id) {
		t.Errorf("request id %q should be in the log and in the hint %q", id, got.Hint)
	}
}

func TestAnAnswerThatHadBegunIsBrokenOff(t *testing.T) {
	defer func() {
		if r := recover(); r != http.ErrAbortHandler { //nolint:errorlint // the value itself is the contract of net/http
			t.Errorf("got %v, want http.ErrAbortHandler", r)
		}
	}()
	serve(t, "", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "half")
		panic("a bug")
	})
}

func TestABodyThatIsTooLongIsCutOff(t *testing.T) {
	var err error
	serve(t, strings.Repeat("x", 17), func(_ http.ResponseWriter, r *http.Request) { _, err = io.ReadAll(r.Body) })
	if _, ok := errors.AsType[*http.MaxBytesError](err); !ok {
		t.Errorf("got %v for 17 bytes where 16 are the most, want a MaxBytesError", err)
	}
}

func TestOnlyOurMistakesAreLogged(t *testing.T) {
	for _, tc := range []struct {
		name   string
		err    error
		logged bool
	}{
		{"a device that is away, though its name is this", fault.New(fault.Unavailable, "disk full is not connected"), false},
		{"an error that is no fault", errors.New("disk full"), true},
		{"a fault with a cause that the caller cannot mend", fault.New(fault.Unavailable, "try later").Because(errors.New("disk full")), true},
		{"a fault of the caller", fault.New(fault.Invalid, "no").Because(errors.New("disk full")), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var log bytes.Buffer
			request.Log(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), tc.err)
			if got := strings.Contains(log.String(), "level=ERROR") && strings.Contains(log.String(), "disk full"); got != tc.logged {
				t.Errorf("got logged %v, want %v: %s", got, tc.logged, log.String())
			}
		})
	}
}
