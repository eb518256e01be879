package adminapi

import (
	"context"
	"net/http"

	"interdict/internal/control"
	"interdict/internal/control/inquiry"
	"interdict/internal/explain"
)

type explainInput struct {
	Target string          `query:"target" required:"true" minLength:"1" maxLength:"2048" doc:"A host name, an address or a URL"`
	Device string          `query:"device" required:"true" minLength:"1" maxLength:"256" doc:"Id or name of the device"`
	User   string          `query:"user" maxLength:"256" doc:"Login name of one of the device's users; anybody if missing"`
	Expect explain.Outcome `query:"expect" enum:"blocked,allowed" doc:"What ought to be"`
}

func (a *API) addExplain() {
	add(a, route{http.MethodGet, "/explain", "explain", "Say why a destination is blocked on a device, or not", "explain", control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *explainInput) (*bodyOutput[explain.Chain], error) {
			c, err := a.inquiries.Explain(ctx, inquiry.Query{Target: in.Target, Device: in.Device, User: in.User, Expect: in.Expect})
			return &bodyOutput[explain.Chain]{c}, err
		})
}
