package agentapi_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"interdict/internal/fault"
)

// stalled is a transport over which bodies never arrive whole.
type stalled struct{ http.RoundTripper }

func (s stalled) RoundTrip(r *http.Request) (*http.Response, error) {
	rest, stop := io.Pipe()
	defer stop.Close()
	begun := io.LimitReader(r.Body, 5)
	r.Body, r.ContentLength = io.NopCloser(io.MultiReader(begun, rest)), -1
	return s.RoundTripper.RoundTrip(r)
}

func TestABatchThatTakesTooLongIsNotRefusedForGood(t *testing.T) {
	_, a := serve(t, time.Hour)
	a.HTTP.Transport = stalled{a.HTTP.Transport}
	_, err := a.SendRaw(t.Context(), ulid.Make().String(), []byte("{}\n"))
	if got := fault.CodeOf(err); got != fault.Unavailable {
		t.Errorf("got %v, want code %q: the agent gives up what is invalid", err, fault.Unavailable)
	}
}
