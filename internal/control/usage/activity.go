package usage

import (
	"context"
	"time"

	"interdict/internal/event"
	"interdict/internal/store"
)

// Activity says whom the rules for an app met with.
type Activity struct {
	AppID string    `json:"app_id"`
	Since time.Time `json:"since"`
	// Blocked, Warned and Audited are connections that were refused, refused
	// with leave to go on, and would have been refused; Bypassed is who went on.
	Blocked  Count `json:"blocked"`
	Warned   Count `json:"warned"`
	Bypassed Count `json:"bypassed"`
	Audited  Count `json:"audited"`
}

// Count is how many met with something.
type Count struct {
	// Users counts names over all devices; who has none is not counted.
	Users   int `json:"users"`
	Devices int `json:"devices"`
	// Events adds up how often it happened.
	Events int `json:"events"`
}

// Activity counts whom the rules for the app with an id or a name met with
// since a time; the zero time means for the last Window.
func (s *Service) Activity(ctx context.Context, ref string, since time.Time) (Activity, error) {
	app, err := s.control.FindApp(ref)
	if err != nil {
		return Activity{}, err
	}
	if since.IsZero() {
		since = s.control.Now().Add(-Window)
	}
	a := Activity{AppID: app.ID, Since: since.UTC()}
	var counts []store.ActionCount
	err = s.control.View(ctx, func(tx *store.Tx) (err error) {
		counts, err = tx.AppActivity(app.ID, since)
		return err
	})
	for _, c := range counts {
		if into := a.of(c.Action); into != nil {
			*into = Count{Users: c.Users, Devices: c.Devices, Events: c.Events}
		}
	}
	return a, err
}

// of returns the count of an action, nil if it is not counted.
func (a *Activity) of(action event.Action) *Count {
	switch action {
	case event.ActionBlocked:
		return &a.Blocked
	case event.ActionWarned:
		return &a.Warned
	case event.ActionBypassed:
		return &a.Bypassed
	case event.ActionAudited:
		return &a.Audited
	default:
		return nil
	}
}
