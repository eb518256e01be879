// Package alert decides which events an analyst has to look at, and which of
// them are one and the same matter: those about one app, or one indicator
// that belongs to no app, on one device on one day.
//
// It is pure; the store keeps the alerts and their counts.
package alert

import (
	"fmt"
	"strings"
	"time"

	"interdict/internal/event"
	"interdict/internal/indicator"
)

// Alert is what an analyst works on.
type Alert struct {
	ID       string             `json:"id"`
	Title    string             `json:"title"`
	Severity indicator.Severity `json:"severity"`
	DeviceID string             `json:"device_id"`
	// DeviceName is the device's name when the alert is read.
	DeviceName  string `json:"device_name,omitempty"`
	AppID       string `json:"app_id,omitempty"`
	AppName     string `json:"app_name,omitempty"`
	IndicatorID string `json:"indicator_id,omitempty"`
	// Host is the destination of the newest event.
	Host string `json:"host,omitempty"`
	// User is who caused the newest event.
	User string `json:"user,omitempty"`
	// Action is what was done about the newest event.
	Action event.Action `json:"action"`
	// Day is the day in UTC, as 2006-01-02.
	Day string `json:"day"`
	// Count is how often it happened: the sum of the events' counts.
	Count     int       `json:"count"`
	FirstSeen time.Time `json:"first_seen"`
	LastSeen  time.Time `json:"last_seen"`
}

// Key says which alert an event belongs to; two events with the same key
// share one. It is empty for an event that raises none: only what was
// refused, or gone through after a warning, does, and only if the indicator
// asks for alerts. The key of an event stays the same over its revisions,
// unless a later one knows the app better.
func Key(e *event.Event) string {
	if !e.Alert || !raises(e.Action) {
		return ""
	}
	about := "app " + e.AppID
	if e.AppID == "" {
		if e.IndicatorID == "" {
			return ""
		}
		about = "indicator " + e.IndicatorID
	}
	return strings.Join([]string{e.Device, day(e), about}, "\n")
}

// raises reports whether an action is one to alert about. Audited
// connections are not: an administrator who tries a policy out would drown.
func raises(a event.Action) bool {
	switch a {
	case event.ActionBlocked, event.ActionWarned, event.ActionBypassed, event.ActionExecBlocked:
		return true
	default:
		return false
	}
}

// day is the UTC day on which the event was first seen, which does not
// change when it repeats past midnight.
func day(e *event.Event) string { return firstSeen(e).UTC().Format(time.DateOnly) }

func firstSeen(e *event.Event) time.Time {
	if e.FirstSeen.IsZero() {
		return e.Time
	}
	return e.FirstSeen
}

func lastSeen(e *event.Event) time.Time {
	if e.LastSeen.IsZero() {
		return e.Time
	}
	return e.LastSeen
}

// From makes the alert of an event that has a Key. The alert has no ID yet,
// and the event's count.
func From(e *event.Event) Alert {
	return Alert{
		Title: title(e), Severity: severity(e), DeviceID: e.Device, AppID: e.AppID, AppName: e.AppName,
		IndicatorID: e.IndicatorID, Host: host(e), User: e.User.Name, Action: e.Action, Day: day(e),
		Count: e.Count, FirstSeen: firstSeen(e), LastSeen: lastSeen(e),
	}
}

func severity(e *event.Event) indicator.Severity {
	switch s := indicator.Severity(e.Severity); s {
	case indicator.SeverityLow, indicator.SeverityMedium, indicator.SeverityHigh:
		return s
	default:
		return indicator.SeverityInformational
	}
}

func host(e *event.Event) string {
	if e.Destination.Host != "" {
		return e.Destination.Host
	}
	if e.Destination.IP.IsValid() {
		return e.Destination.IP.String()
	}
	return ""
}

func title(e *event.Event) string {
	what := e.AppName
	if what == "" {
		what = e.AppID
	}
	if what == "" {
		what = host(e)
	}
	if what == "" {
		what = e.IndicatorID
	}
	verb := "was refused"
	switch e.Action {
	case event.ActionWarned:
		verb = "was refused with a warning"
	case event.ActionBypassed:
		verb = "was used after a warning"
	case event.ActionExecBlocked:
		verb = "was kept from starting"
	default:
	}
	return fmt.Sprintf("%s %s", what, verb)
}
