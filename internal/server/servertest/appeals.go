package servertest

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"

	"interdict/internal/access"
	"interdict/internal/bundle"
)

// Ask sends a user's request for access and returns it as the server has it.
func (a *Agent) Ask(ctx context.Context, r access.Request) (access.Request, error) {
	var out access.Request
	err := a.post(ctx, bundle.PathRequests, r, &out)
	return out, err
}

// Requests returns what the server has the device tell its users.
func (a *Agent) Requests(ctx context.Context) ([]access.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+bundle.PathRequests, http.NoBody)
	if err != nil {
		return nil, err
	}
	var out bundle.AccessRequests
	err = a.do(req, &out)
	return out.Requests, err
}

// Use sends a report of use under a key.
func (a *Agent) Use(ctx context.Context, key string, r bundle.UsageReport) error {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.base+bundle.PathUsage, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set(bundle.HeaderIdempotencyKey, key)
	return a.do(req, nil)
}
