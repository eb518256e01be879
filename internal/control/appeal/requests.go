package appeal

import (
	"context"

	"interdict/internal/access"
	"interdict/internal/control/edit"
	"interdict/internal/control/input"
	"interdict/internal/control/page"
	"interdict/internal/fault"
	"interdict/internal/store"
)

// RequestView is a request for access with what its device is called.
type RequestView struct {
	access.Request

	// DeviceName is empty when the device was deleted.
	DeviceName string `json:"device_name,omitempty"`
}

// RequestQuery asks for requests for access, those that came in last first.
// Empty fields do not limit.
type RequestQuery struct {
	State access.State
	// Device is the id or name of a device, App that of an app.
	Device, App string
	User        string
	page.Query
}

// RequestPage is one page of requests, and how many of all are pending.
type RequestPage struct {
	page.Page[RequestView]

	Pending int `json:"pending" doc:"How many requests are not decided, on whichever page"`
}

// Requests returns requests for access.
func (s *Service) Requests(ctx context.Context, q RequestQuery) (RequestPage, error) {
	var faults fault.Fields
	input.CheckText(&faults, "device", q.Device)
	input.CheckText(&faults, "app", q.App)
	input.CheckText(&faults, "user", q.User)
	if err := faults.Err("the query is not valid"); err != nil {
		return RequestPage{}, err
	}
	f := s.resolve(filter{q.Device, q.App, q.User})
	var out RequestPage
	p, err := page.Read(q.Query, func(limit int) (found []store.PlacedRequest, err error) {
		err = s.control.View(ctx, func(tx *store.Tx) (err error) {
			if out.Pending, err = tx.PendingAccessRequests(""); err != nil {
				return err
			}
			found, err = tx.AccessRequests(store.AccessRequestQuery{
				Device: f.device, App: f.app, User: f.user, State: q.State, Before: q.Cursor, Limit: limit,
			})
			return err
		})
		return found, err
	}, func(r *store.PlacedRequest) string { return r.Place })
	if err == nil && len(p.Items) == 0 {
		err = s.explain(ctx, filter{device: q.Device})
	}
	out.Items, out.Next = make([]RequestView, len(p.Items)), p.Next
	for i := range p.Items {
		out.Items[i] = s.requestView(p.Items[i].Request)
	}
	return out, err
}

func (s *Service) requestView(r access.Request) RequestView {
	return RequestView{r, s.deviceName(r.Device)}
}

// Request returns the request with an id.
func (s *Service) Request(ctx context.Context, id string) (RequestView, error) {
	if !input.IsText(id) {
		return RequestView{}, fault.New(fault.NotFound, "there is no request %q", id)
	}
	var r store.PlacedRequest
	err := s.control.View(ctx, func(tx *store.Tx) (err error) {
		r, err = tx.AccessRequest(id)
		return edit.Gone(err, "request", id)
	})
	return s.requestView(r.Request), err
}

// Pending counts the requests that nobody has decided.
func (s *Service) Pending(ctx context.Context) (n int, err error) {
	err = s.control.View(ctx, func(tx *store.Tx) error {
		n, err = tx.PendingAccessRequests("")
		return err
	})
	return n, err
}
