package agentapi

import (
	"net/http"

	"interdict/internal/access"
	"interdict/internal/bundle"
	"interdict/internal/fleet"
	"interdict/internal/server/request"
)

// ask takes a user's request for access. It is kept when the agent gets it back.
func (a *API) ask(w http.ResponseWriter, r *http.Request, id fleet.DeviceID) error {
	in, err := readDocument[access.Request](w, r)
	if err != nil {
		return err
	}
	kept, err := a.appeals.Ask(r.Context(), id, request.Source(r), in)
	if err != nil {
		return err
	}
	writeDocument(w, kept)
	return nil
}

// requests answers with what the device is to tell its users.
func (a *API) requests(w http.ResponseWriter, r *http.Request, id fleet.DeviceID) error {
	all, err := a.appeals.Of(r.Context(), id)
	if err != nil {
		return err
	}
	writeDocument(w, bundle.AccessRequests{Requests: all})
	return nil
}
