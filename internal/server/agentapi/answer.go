package agentapi

import (
	"net/http"

	"interdict/internal/bundle"
	"interdict/internal/fleet"
	"interdict/internal/server/request"
)

// answer takes in what a device makes of a destination. One that nobody waits
// for any more, because it came late, is none of the device's business.
func (a *API) answer(w http.ResponseWriter, r *http.Request, id fleet.DeviceID) error {
	in, err := readDocument[bundle.Answer](w, r)
	if err != nil {
		return err
	}
	taken, err := a.inquiries.Answer(r.Context(), id, in)
	if err != nil {
		return err
	}
	if !taken {
		a.logger.DebugContext(r.Context(), "nobody waits for the answer of a device", "device", id, "request_id", request.ID(r.Context()))
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
