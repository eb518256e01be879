package agentapi

import (
	"net/http"

	"interdict/internal/bundle"
	"interdict/internal/fleet"
)

// maxReport bounds a report of use in bytes: as many uses as there may be, with
// long names each.
const maxReport = 4 << 20

// report takes in what a device used. It is kept when the agent is answered.
func (a *API) report(w http.ResponseWriter, r *http.Request, id fleet.DeviceID) error {
	in, err := readDocumentOf[bundle.UsageReport](w, r, maxReport)
	if err != nil {
		return err
	}
	if err := a.usage.Report(r.Context(), id, r.Header.Get(bundle.HeaderIdempotencyKey), in); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
