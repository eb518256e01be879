package alert_test

import (
	"testing"
	"time"

	"interdict/internal/alert"
	"interdict/internal/event"
	"interdict/internal/indicator"
)

func blocked() event.Event {
	at := time.Date(2026, 3, 1, 23, 59, 0, 0, time.UTC)
	return event.Event{
		ID: "01JNXC8V7Y0000000000000000", Time: at, Device: "d1", EventID: event.IDBlocked, Action: event.ActionBlocked, AppID: "itunes",
		AppName: "iTunes", IndicatorID: "itunes:itunes.apple.com", Severity: "high", Count: 2, FirstSeen: at, LastSeen: at, Alert: true,
	}
}

func TestKey(t *testing.T) {
	base := blocked()
	key := alert.Key(&base)
	if key == "" {
		t.Fatal("a blocked connection raises no alert")
	}
	for _, test := range []struct {
		name   string
		change func(*event.Event)
		same   bool
		none   bool
	}{
		{"another event of the app is the same matter", func(e *event.Event) { e.ID, e.IndicatorID = "other", "other" }, true, false},
		{"repeating past midnight is the same matter", func(e *event.Event) { e.Time, e.LastSeen = e.Time.Add(time.Hour), e.LastSeen.Add(time.Hour) }, true, false},
		{"first seen the next day is another", func(e *event.Event) { e.FirstSeen = e.FirstSeen.Add(time.Hour) }, false, false},
		{"another device is another", func(e *event.Event) { e.Device = "d2" }, false, false},
		{"another app is another", func(e *event.Event) { e.AppID = "dropbox" }, false, false},
		{"without an app the indicator counts", func(e *event.Event) { e.AppID = "" }, false, false},
		{"an app is not taken for an indicator", func(e *event.Event) { e.AppID, e.IndicatorID = "", "itunes" }, false, false},
		{"a bypassed warning raises one", func(e *event.Event) { e.Action = event.ActionBypassed }, true, false},
		{"audited connections raise none", func(e *event.Event) { e.Action = event.ActionAudited }, false, true},
		{"an indicator without alerts raises none", func(e *event.Event) { e.Alert = false }, false, true},
		{"an event about nothing raises none", func(e *event.Event) { e.AppID, e.IndicatorID = "", "" }, false, true},
		{"without a first seen the time counts", func(e *event.Event) { e.FirstSeen = time.Time{} }, true, false},
	} {
		e := blocked()
		test.change(&e)
		got := alert.Key(&e)
		if (got == key) != test.same || (got == "") != test.none {
			t.Errorf("%s: got key %q beside %q", test.name, got, key)
		}
	}
}

func TestFrom(t *testing.T) {
	for _, test := range []struct {
		name     string
		change   func(*event.Event)
		title    string
		severity indicator.Severity
	}{
		{"blocked", func(*event.Event) {}, "iTunes was refused", indicator.SeverityHigh},
		{"warned", func(e *event.Event) { e.Action = event.ActionWarned }, "iTunes was refused with a warning", indicator.SeverityHigh},
		{"bypassed", func(e *event.Event) { e.Action = event.ActionBypassed }, "iTunes was used after a warning", indicator.SeverityHigh},
		{"program", func(e *event.Event) { e.Action = event.ActionExecBlocked }, "iTunes was kept from starting", indicator.SeverityHigh},
		{"without an app", func(e *event.Event) {
			e.AppID, e.AppName, e.Destination.Host = "", "", "bad.example"
		}, "bad.example was refused", indicator.SeverityHigh},
		{"a severity nobody knows", func(e *event.Event) { e.Severity = "dreadful" }, "iTunes was refused", indicator.SeverityInformational},
	} {
		e := blocked()
		test.change(&e)
		a := alert.From(&e)
		if a.Title != test.title || a.Severity != test.severity || a.Count != 2 || a.Day != "2026-03-01" {
			t.Errorf("%s: got %+v, want title %q and severity %s", test.name, a, test.title, test.severity)
		}
	}
}
