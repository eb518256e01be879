package adminapi

import (
	"context"
	"net/http"
	"time"

	"interdict/internal/alert"
	"interdict/internal/control"
	"interdict/internal/control/observation"
	"interdict/internal/event"
	"interdict/internal/fleet"
)

type alertsInput struct {
	PageInput

	Device string `query:"device" maxLength:"256" doc:"Only alerts of the device with this id or name"`
	App    string `query:"app" maxLength:"128" doc:"Only alerts about the app with this id or name"`
}

type eventsInput struct {
	PageInput

	Device  string       `query:"device" maxLength:"256" doc:"Only events of the device with this id or name"`
	App     string       `query:"app" maxLength:"128" doc:"Only events about the app with this id or name"`
	Host    string       `query:"host" maxLength:"255" doc:"Only events about this destination, or a name below it"`
	EventID event.ID     `query:"event_id" minimum:"1" maximum:"99999" doc:"Only events of this number"`
	Action  event.Action `query:"action" maxLength:"64" doc:"Only events with this action"`
	User    string       `query:"user" maxLength:"256" doc:"Only events of the user with this name"`
	Since   time.Time    `query:"since" doc:"Only events from this time on"`
	Until   time.Time    `query:"until" doc:"Only events before this time"`
	After   string       `query:"after" maxLength:"512" doc:"Events that arrived after this cursor, oldest first: next of the answer before, or now, or start"`
}

type progressInput struct {
	Revision uint64 `query:"revision" doc:"Only devices for which what they ought to enforce changed at this revision or later"`
}

func (a *API) addObservations() {
	const tag = "observations"
	add(a, route{http.MethodGet, "/events", "list-events", "List what devices reported, newest first", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *eventsInput) (*pageOutput[observation.EventView], error) {
			return pageOf(a.observations.Events(ctx, observation.EventQuery{
				Device: in.Device, App: in.App, Host: in.Host, EventID: in.EventID, Action: in.Action, User: in.User,
				Since: in.Since, Until: in.Until, After: in.After, Query: in.query(),
			}))
		})
	add(a, route{http.MethodGet, "/alerts", "list-alerts", "List the alerts, newest first", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *alertsInput) (*pageOutput[alert.Alert], error) {
			return pageOf(a.observations.Alerts(ctx, observation.AlertQuery{Device: in.Device, App: in.App, Query: in.query()}))
		})
	add(a, route{http.MethodGet, "/alerts/{id}", "get-alert", "Get one alert", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *RefInput) (*bodyOutput[alert.Alert], error) {
			v, err := a.observations.Alert(ctx, in.ID)
			return &bodyOutput[alert.Alert]{v}, err
		})
	add(a, route{http.MethodGet, "/progress", "get-progress", "Get how many devices enforce what they ought to", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *progressInput) (*bodyOutput[fleet.Progress], error) {
			v, err := a.control.Progress(ctx, in.Revision)
			return &bodyOutput[fleet.Progress]{v}, err
		})
}
